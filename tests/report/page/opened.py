"""A page in a browser: what the tests do with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


class Opened:
    """A file in a page of its own, which reaches no network; `problems` are what went wrong."""

    def __init__(
        self, browser: Any, file: Path, *, link: str = "", wait: bool = True, **options: Any
    ) -> None:
        self.problems: list[str] = []
        self.context = browser.new_context(
            viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options
        )
        self.context.route("**/*", self._judge)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.page.goto(file.as_uri() + link)
        if wait:
            self.page.wait_for_selector("body[data-state=ready]")

    def _judge(self, route: Any) -> None:
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            self.problems.append(f"asked for {route.request.url}")
            route.abort()

    def text(self, selector: str) -> str:
        """The text of the first element."""
        return str(self.page.locator(selector).first.inner_text())

    def ask(self, script: str) -> Any:
        """What a script gives."""
        return self.page.evaluate(script)

    def settle(self) -> None:
        """Until what was changed is on the screen."""
        self.ask("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def wait_until(self, script: str, seconds: float = 10) -> None:
        """Until a script gives true; asked again and again, since the page forbids `eval`."""
        end = time.monotonic() + seconds
        while not self.ask(script):
            assert time.monotonic() < end, script
            self.page.wait_for_timeout(50)

    def step(self) -> int:
        """The step that the slider says."""
        return int(self.text(".steps output").replace(",", ""))

    def close(self) -> None:
        self.context.close()
