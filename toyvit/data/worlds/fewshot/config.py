"""Options of `fewshot`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput

MOST_CLASSES = {
    "glyphs": 1024,
    "vectors": 1024,
    "mnist": 9,
    "omniglot": 964,
}  # that training can show


@dataclass(frozen=True, kw_only=True)
class FewshotConfig(TaskConfig):
    """Exemplar-label pairs and a query on one canvas: which label has the query's class?

    `source`: exemplars are `glyphs`, digits (`mnist`), characters (`omniglot`), or random `vectors`
    of length about 1, a patch each, of which `noise` is the length of what an exemplar adds to its
    class. `labels`: class c always has label c mod n_labels (`fixed`), or one that is fresh for
    each picture: `random`, or `distinct`, where no two classes of a picture have the same.
    """

    name: ClassVar[str] = "fewshot"
    source: str = choice("glyphs", "mnist", "omniglot", "vectors")
    n_pairs: int = number(12, least=1, most=64)
    n_classes: int = number(64, least=1, most=1024)  # classes that training shows
    n_labels: int = number(32, least=2, most=256)
    # Copies of every class of a bursty picture, the query's among them.
    burstiness: int = number(2, least=0, most=64)
    # Share of bursty pictures; in the others each cell is drawn by itself.
    p_bursty: float = number(1.0, least=0, most=1)
    zipf: float = number(0.0, least=0, most=8)  # class c is drawn in proportion to 1 / (c + 1)^zipf
    labels: str = choice("fixed", "random", "distinct")
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.burstiness > self.n_pairs:
            raise BadInput(
                f"burstiness {self.burstiness} does not go into n_pairs {self.n_pairs}: "
                f"at most {self.n_pairs}"
            )

        if self.labels != "fixed" and not (self.burstiness and self.p_bursty == 1):
            raise BadInput(
                f"labels {self.labels} can be answered only from the context: "
                "burstiness at least 1 and p_bursty 1"
            )
        if self.labels == "distinct" and self.n_labels < self.n_shown:
            raise BadInput(
                f"labels distinct of {self.n_shown} classes in a picture: n_labels is at least "
                f"{self.n_shown}, got {self.n_labels}"
            )
        self._check_classes()

    def _check_classes(self) -> None:
        """BadInput where a picture takes more classes than there are."""
        least = self.n_shown + (self.labels == "fixed")
        most = MOST_CLASSES[self.source]

        if not least <= self.n_classes <= most:
            raise BadInput(
                f"{self.n_pairs} pairs, {self.copies} of a class, and a query take {least} "
                f"classes, {self.source} can train {most}: "
                f"n_classes {self.n_classes} is not from {least} to {most}"
            )

        if self.n_held < self.n_shown:
            raise BadInput(
                f"{self.source} leaves {self.n_held} classes that training never shows, a picture "
                f"takes {self.n_shown}: fewer n_classes, fewer pairs or more burstiness"
            )

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("burstiness", "p_bursty", "zipf", "noise")

    @property
    def copies(self) -> int:
        """Copies of a class where they are laid out: if bursty, `in_context`, `in_weights`."""
        return max(1, self.burstiness)

    @property
    def n_shown(self) -> int:
        """Classes in the context of such a picture; the last has fewer copies if need be."""
        return -(-self.n_pairs // self.copies)

    @property
    def n_held(self) -> int:
        """Classes that training never shows."""
        n_held = {"glyphs": 64, "vectors": 64, "mnist": 10 - self.n_classes, "omniglot": 659}
        return n_held[self.source]

    @property
    def data_set(self) -> str:
        return "omniglot" if self.source == "omniglot" else "fewshot"

    @property
    def reads_files(self) -> bool:
        """Whether its exemplars come from files."""
        return self.source in ("mnist", "omniglot")


ENTRY = WorldEntry(
    summary="exemplar-label pairs and a query: answered from the context or the weights",
    purpose="exemplar-label pairs and a query: the answer is in the context, the weights, or both",
    default=FewshotConfig(),
    tasks=(FewshotConfig,),
)
