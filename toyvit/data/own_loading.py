"""A user's own pictures as a config names them: checked against its digest, read once a process."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from toyvit.data.npz_files import check_npz
from toyvit.data.own_arrays import read_arrays
from toyvit.data.own_folders import read_folder
from toyvit.data.own_pictures import OwnPictures
from toyvit.data.question_configs import ClassifyConfig
from toyvit.errors import BadInput

# Options that mean nothing without one of these.
NEEDS = {
    "size": ("folder",),
    "channels": ("folder",),
    "masks": ("folder",),
    "pairs": ("folder",),
    "mean": ("folder", "npz"),
    "deviation": ("folder", "npz"),
    "patch_size": ("folder", "npz"),
}
MOST_LOADED = 4  # sets of pictures that a process keeps


def load_own(config: ClassifyConfig) -> OwnPictures | None:
    """The user's pictures; None where the config shows a world.

    BadInput where they are not those of the config's SHA-256, if it has one, and for options that
    do not go together.
    """
    _check_options(config)
    if not config.own:
        return None
    if config.npz:
        check_npz(Path(config.npz))
    digest = config.hash_files()
    if config.sha256 not in ("", digest):
        what = "file" if config.npz else "folder"
        raise BadInput(
            f"{config.own} is not the {what} that the run was begun with: its SHA-256 is "
            f"{digest[:12]}..., the run's {config.sha256[:12]}..."
        )
    return _load_once(replace(config, factor="class", npz_sha256="", folder_sha256=""), digest)


@lru_cache(MOST_LOADED)
def _load_once(config: ClassifyConfig, sha256: str) -> OwnPictures:
    """The pictures of this content, read once a process."""
    pictures = read_arrays(Path(config.npz)) if config.npz else read_folder(config)
    own = OwnPictures(pictures, config)
    if config.hash_files() != sha256:
        raise BadInput(f"{config.own} was written to while it was read: try again")
    return own


def _check_options(config: ClassifyConfig) -> None:
    """BadInput for options that do not go together."""
    sources = [name for name in ("world", "npz", "folder") if getattr(config, name)]
    if len(sources) > 1:
        first, second = sources[:2]
        raise BadInput(
            f"task.{first} {getattr(config, first)!r} and task.{second} "
            f"{getattr(config, second)!r} are both given: leave one out"
        )
    for name, wanted in NEEDS.items():
        value = getattr(config, name)
        if value not in (None, (), "") and not set(wanted) & set(sources):
            places = " or ".join(f"task.{source}" for source in wanted)
            raise BadInput(f"task.{name} is an option of {places}, which is not given")
    if config.channels == 2:
        raise BadInput("task.channels must be 1 or 3, got 2")
