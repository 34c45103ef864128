"""Upload of an exported folder to the Hugging Face Hub; never unasked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from toyvit.errors import BadInput, NotInstalled, escape_text

REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)


class Hub(Protocol):
    """What is used of huggingface_hub's `HfApi`."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object: ...

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> object: ...


def check_pushing(repository: str) -> None:
    """BadInput for what is no OWNER/NAME; NotInstalled without huggingface_hub."""
    if not REPOSITORY.fullmatch(repository):
        raise BadInput(f"--push takes OWNER/NAME, got {repository!r}")
    open_hub()


def open_hub() -> Hub:
    """The Hub as whoever is logged in there; NotInstalled without huggingface_hub."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise NotInstalled(
            "--push needs the package huggingface_hub: pip install 'toyvit[hub]'"
        ) from None
    hub: Hub = HfApi()
    return hub


def push_folder(folder: Path, repository: str, hub: Hub | None = None) -> str:
    """Upload a folder to a repository of the Hub, made private where it is new; its address.

    BadInput where that fails: the folder stays as it is.
    """
    if not REPOSITORY.fullmatch(repository):
        raise BadInput(f"--push takes OWNER/NAME, got {repository!r}")
    hub = hub or open_hub()
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"Export {folder.name}"
        )
    except Exception as error:  # whatever the network, the login or the Hub do
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{folder} is written, but could not be pushed to {repository}: {escape_text(why)}"
        ) from None
    return f"https://huggingface.co/{repository}"
