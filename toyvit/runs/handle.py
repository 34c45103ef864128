"""Checkpoints in order: `Trajectory(path)[step]` is the model as it was then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from toyvit.config import RunConfig
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.runs.folder import ManifestEntry, RunFolder


class Run:
    """The finished checkpoints of one run. Indexed by step, never by position; every file is verified as it is read."""

    def __init__(self, path: Path | str) -> None:
        self.folder = RunFolder(path).check_exists()
        self.config: RunConfig = self.folder.read_config()
        self.entries: dict[int, ManifestEntry] = {entry.step: entry for entry in self.folder.read_manifest()}
        if not self.entries:
            raise BadInput(f"{path} has no finished checkpoint yet")

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return list(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[int]:
        return iter(self.entries)

    def kept(self, step: int) -> int:
        """The step itself if it has a checkpoint, else BadInput that names the nearest."""
        if step not in self.entries:
            closest = min(self.entries, key=lambda other: abs(other - step))
            raise BadInput(f"no checkpoint at step {step} in {self.folder.path}; the nearest is {closest}")
        return step

    def __getitem__(self, step: int) -> ViT:
        """A new model with the weights of that step, in evaluation mode."""
        return self.load(ViT(self.config.model), step)

    def load(self, model: ViT, step: int) -> ViT:
        """Put the weights of that step into a model of this run's shape; cheaper than making a new one."""
        weights = self.folder.read_checkpoint(self.entries[self.kept(step)])
        try:
            model.load_state_dict(weights)
        except RuntimeError:
            name = self.entries[step].file
            raise BadInput(
                f"checkpoint {self.folder.checkpoints / name} does not fit this run's model: it is a foreign file"
            ) from None
        return model.eval()
