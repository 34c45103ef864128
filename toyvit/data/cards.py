"""Data sets for other people's tools: their naive answers, a checksum of the first samples, and arrays with their card."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toyvit.data import files
from toyvit.data.baselines import N_SCORED, fit_baselines, score_patch_probes
from toyvit.data.task import Task
from toyvit.errors import BadInput

N_CHECKED = 1000
Arrays = dict[str, NDArray[np.generic]]


def hash_samples(made: Task) -> str:
    """SHA-256 of the pictures (float32) and targets of the first 1,000 training samples of seed 0; the card states it."""
    batch = made.eval_batch("train", N_CHECKED, 0)
    return hashlib.sha256(
        batch.images.numpy().tobytes() + batch.target.numpy().tobytes()
    ).hexdigest()


def score_baselines(made: Task) -> dict[str, float]:
    """What naive answers score on the first 1,000 test pictures (or all there are) of seed 0; the card states them.

    The task's baselines; where it asks each picture for a class, also probes of its pixels, and the best of the probes that see
    one patch where pictures are made of patches. The baselines on further splits, such as `held_out`, stand last, their split
    before them.
    """
    further = [split for split in made.world.sizes if split not in ("train", "validation", "test")]
    of = {
        split: made.baselines(made.eval_batch(split, N_SCORED, 0)) for split in ["test", *further]
    }
    found = of.pop("test") | fit_baselines(made.config)
    if "accuracy.pixel_probe" in found and made.world.patch_size:
        found["accuracy.best_patch_probe"] = float(
            score_patch_probes(made.config, made.world.patch_size).max()
        )
    return found | {
        f"{split} {name}": score for split, all_of in of.items() for name, score in all_of.items()
    }


def build_arrays(made: Task, split: str, n: int) -> Arrays:
    """The first n samples of a split, seed 0, as `datasets/exports.md` describes them."""
    size = made.world.sizes[split]
    drawn = made.world.sample(0, split, np.arange(n if size is None else min(n, size)))
    batch = made.batch_from_factors(drawn)
    images = batch.images.permute(0, 2, 3, 1).numpy()
    name = "target" if batch.classes is None else "labels"
    found: Arrays = {
        "images": images[..., 0] if images.shape[3] == 1 else images,
        name: batch.target.numpy(),
    }
    found |= {
        f"factor_{factor}": values.numpy()
        for factor, values in batch.factors.items()
        if factor != "class"
    }
    return found | {f"world_{factor}": values for factor, values in drawn.items()}


def export_samples(
    name: str, made: Task, folder: Path, n: int, draw: Callable[[Path], object]
) -> Path:
    """Write the first n samples of every split (or all there are) as npz, the card of the data set `name` with the cards that
    it links to, and the preview that `draw` makes, into a new folder; whole or not at all."""
    check_vacant(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        whole = Path(beside, folder.name)
        whole.mkdir()
        _fill(whole, name, made, n, draw)
        whole.rename(folder)
    return folder


def check_vacant(folder: Path) -> None:
    """BadInput where an export would have to touch what is there."""
    if folder.exists():
        raise BadInput(f"{folder} exists already: --export makes a new folder")


def _fill(folder: Path, name: str, made: Task, n: int, draw: Callable[[Path], object]) -> None:
    held = {}
    for split in made.world.sizes:
        np.savez_compressed(folder / f"{split}.npz", **(found := build_arrays(made, split, n)))  # type: ignore[arg-type]
        held[split] = {
            name: (values.dtype, values.shape, np.nanmin(values), np.nanmax(values))
            for name, values in found.items()
        }
    draw(folder / "preview.png")
    text, linked = _with_linked(find_card(name), name)
    for file, content in linked.items():
        (folder / file).write_text(content)
    (folder / "README.md").write_text(f"{text}\n{_told(made, held)}")


def find_card(name: str) -> Path:
    """The card of a data set: in the `datasets/` of the working folder or above, else in the project's own."""
    found = files.find_prepared(name) / "README.md"
    return found if found.exists() else Path(__file__).parents[2] / "datasets" / name / "README.md"


def _told(made: Task, held: dict[str, dict[str, tuple[Any, ...]]]) -> str:
    """What the files of an export hold: (type, shape, smallest, largest) of each array of each split, in words."""
    sizes = ", ".join(f"`{split}.npz` {each['images'][1][0]:,}" for split, each in held.items())
    lines = [
        f"**These files.** The first samples of each split, seed 0: {sizes}. Settings of the task: `{made.config}`."
    ]
    lines += ["The scores and the checksum above are of the set's default settings.", ""]
    lines += ["| array | type | shape | smallest | largest |", "|---|---|---|---|---|"]
    for name in held["train"]:
        kind, shape, least, most = zip(*(each[name] for each in held.values()), strict=True)
        words = " x ".join(map(str, ["sample", *shape[0][1:]]))
        lines += [f"| `{name}` | {kind[0]} | {words} | {min(least):g} | {max(most):g} |"]
    return "\n".join([*lines, ""])


LINK = re.compile(r"\[([^]]*)\]\((\.\./[^)#]+)\)")


def _with_linked(card: Path, name: str) -> tuple[str, dict[str, str]]:
    """A card and, by a name of their own, the pages beside it that it leads to, and theirs; all links stay inside."""
    if not card.exists():
        return (
            f"# {name}\n\nThe card was not at hand: it is `datasets/{name}/README.md` of the project's repository.\n",
            {},
        )
    pages, waiting = {card.resolve(): "README.md"}, [card.resolve()]
    for page in waiting:
        for found in LINK.finditer(page.read_text()):
            linked = (page.parent / found[2]).resolve()
            if linked.is_file() and linked not in pages:
                pages[linked] = (
                    f"{linked.parent.name}.md" if linked.name == "README.md" else linked.name
                )
                waiting.append(linked)

    def inside(page: Path) -> str:
        text = (
            page.read_text()
            if page == card.resolve()
            else page.read_text().replace("![preview](preview.png)\n\n", "")
        )
        to = {
            found[2]: pages.get((page.parent / found[2]).resolve()) for found in LINK.finditer(text)
        }
        return LINK.sub(
            lambda found: f"[{found[1]}]({to[found[2]]})" if to[found[2]] else found[1], text
        )

    texts = {name: inside(page) for page, name in pages.items()}
    return texts.pop("README.md"), texts
