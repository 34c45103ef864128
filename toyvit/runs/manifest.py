"""What a checkpoint is on disk: its file's name and bytes, and its line in the manifest."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.config.fields import Checked, build_record
from toyvit.errors import BadInput
from toyvit.runs.disk import find_altered, format_line, parse_lines, read_texts

if TYPE_CHECKING:
    from torch import Tensor

Scores = Mapping[str, float | None]  # `loss` and `accuracy`; None where no answer is known
STEP = re.compile(rb'\{"step": (\d{1,18}), ')  # how a line of a manifest begins


@dataclass(frozen=True, kw_only=True)
class ManifestEntry(Checked):
    """One line of the manifest: a checkpoint exists when its line does.

    BadInput for a file that is not called by its step.

    >>> entry = ManifestEntry(
    ...     step=20, samples=640, file=name_checkpoint(20), bytes=9, sha256="c0ffee",
    ...     loss=2.3, accuracy=0.1, weight_norm=12.5,
    ... )
    >>> entry.file
    'step_00000020.safetensors'
    """

    step: int
    samples: int
    file: str
    bytes: int
    sha256: str
    loss: float | None  # nats, on the frozen validation batch; None where no answer is known
    accuracy: float | None  # 0 to 1, on the same batch
    weight_norm: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step < 0 or self.file != name_checkpoint(self.step):
            raise BadInput(f"the file of step {self.step} cannot be {self.file!r}")

    @property
    def line(self) -> str:
        """Itself as the manifest has it, with the newline."""
        return format_line(asdict(self))


def name_checkpoint(step: int) -> str:
    """The file of a step's checkpoint; names sort as steps do.

    >>> name_checkpoint(512)
    'step_00000512.safetensors'
    """
    return f"step_{step:08d}.safetensors"


def name_state(step: int) -> str:
    """The file of a step's state for resuming.

    >>> name_state(512) < name_state(1024)
    True
    """
    return f"step_{step:08d}.pt"


def encode_checkpoint(
    step: int, samples: int, weights: Mapping[str, Tensor], scores: Scores
) -> tuple[bytes, ManifestEntry]:
    """What the file of a checkpoint holds, and its line in the manifest.

    `scores` are `loss` and `accuracy` on the validation batch, None where no answer is known.

    >>> import torch
    >>> weights = {"w": torch.ones(3, 3)}
    >>> content, entry = encode_checkpoint(0, 0, weights, {"loss": 2.3, "accuracy": 0.1})
    >>> entry.weight_norm, entry.bytes == len(content)
    (3.0, True)
    """
    import torch
    from safetensors.torch import save

    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    content = save(plain, {"format": "toyvit"})
    norms = [
        torch.linalg.vector_norm(value.detach(), dtype=torch.float64).item()
        for value in weights.values()
    ]

    entry = ManifestEntry(
        step=step,
        samples=samples,
        file=name_checkpoint(step),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        weight_norm=math.hypot(*norms),
        loss=scores["loss"],
        accuracy=scores["accuracy"],
    )
    return content, entry


def read_entries(path: Path) -> list[ManifestEntry]:
    """The checkpoints that a manifest names, see `RunFolder.read_manifest`."""
    return _parse_entries(read_texts(path), path)


def read_progress(path: Path) -> tuple[int, ManifestEntry | None]:
    """How many checkpoints a manifest names, and the last of them; BadInput as `read_entries`.

    Every line is compared with its digest and with the step before it; the last is parsed, and all
    of them where one is not what was written.
    """
    lines = read_texts(path)
    steps = [int(match[1]) for match in map(STEP.match, lines) if match]
    is_ordered = all(step < later for step, later in pairwise(steps))
    is_whole = is_ordered and len(steps) == len(lines) and not find_altered(lines)
    first = max(0, len(lines) - 1) if is_whole else 0
    entries = _parse_entries(lines[first:], path, first)
    return len(lines), entries[-1] if entries else None


def _parse_entries(lines: Sequence[bytes], path: Path, first: int = 0) -> list[ManifestEntry]:
    """Entries of lines, of which `first` stand before these."""
    entries: list[ManifestEntry] = []
    for n, line in enumerate(parse_lines(lines, path), first + 1):
        try:
            entry: ManifestEntry = build_record(ManifestEntry, line)
            if entries and entry.step <= entries[-1].step:
                raise BadInput(f"step {entry.step} comes after step {entries[-1].step}")
        except (BadInput, TypeError) as error:
            raise BadInput(f"{path}, line {n}, is damaged: {error}") from None
        entries.append(entry)
    return entries
