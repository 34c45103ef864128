"""The page as a widget (anywidget): in a frame of its own, its step known to Python."""

from __future__ import annotations

from html import escape

import traitlets
from anywidget import AnyWidget

# The page runs in a frame, under its own policy; only its step goes in and out.
SCRIPT = """
export default {
  render({ model, el }) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width: 100%; height: ${model.get("height")}px; border: 1px solid #bbb`;
    frame.title = "page of a run";
    frame.srcdoc = model.get("page");
    el.append(frame);
    let shown = model.get("step");
    const go = () => {
      if (model.get("step") === shown) return;
      const event = new CustomEvent("toyvit-change", { detail: { step: model.get("step") } });
      frame.contentWindow.dispatchEvent(event);
    };
    frame.addEventListener("load", () => {
      frame.contentWindow.addEventListener("toyvit-state", (event) => {
        shown = event.detail.step;
        model.set("step", shown);
        model.save_changes();
      });
    });
    model.on("change:step", go);
    return () => model.off("change:step", go);
  },
};
"""


class PageWidget(AnyWidget):
    """A page in a notebook; `step` follows its slider, and moves it when it is set."""

    _esm = SCRIPT
    page = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int(800).tag(sync=True)
    step = traitlets.Int(-1).tag(sync=True)

    def __init__(self, page: str, height: int = 800) -> None:
        super().__init__(page=page, height=height)

    def _repr_mimebundle_(
        self, **options: dict[str, object]
    ) -> tuple[dict[str, object], dict[str, object]]:
        """The widget, and for readers without Python the page itself."""
        bundle, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        style = f"width: 100%; height: {self.height}px; border: 1px solid #bbb"
        frame = f'<iframe title="page of a run" style="{style}" srcdoc="{escape(self.page)}">'
        return bundle | {"text/html": f"{frame}</iframe>"}, metadata
