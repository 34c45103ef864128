"""What comes from outside the package: entry points, and what a notebook or a script registers.

A distribution names its worlds, analyses, recipes and figures in entry points of the groups
`toyvit.worlds`, `toyvit.analyses`, `toyvit.recipes` and `toyvit.figures`; a notebook calls
`toyvit.register`. Each carries where it comes from, so that cells and configs can say it.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toyvit.errors import BadInput

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

KINDS = ("worlds", "analyses", "recipes", "figures")
T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where an extension comes from: distribution ("" for a notebook), version, source."""

    distribution: str
    version: str
    sha256: str  # of its source, the first 16 digits

    def __str__(self) -> str:
        parts = (self.distribution or "unpackaged", self.version, self.sha256)
        return " ".join(filter(None, parts))

    def to_json(self) -> dict[str, str]:
        """Plain JSON, as a run's config keeps it."""
        return asdict(self)


@dataclass(frozen=True)
class Extension:
    """A world, analysis, recipe or figure from outside, and where it comes from."""

    kind: str  # one of KINDS
    name: str
    value: Any
    origin: Origin


_registered: dict[tuple[str, str], Extension] = {}


def register(value: Any) -> Any:
    """Make a world, an analysis, a recipe or a figure known in this process and its workers.

    `value` is a `World` declaration, an `Analysis`, a `Figure`, or a function that returns a
    `RunConfig`: a recipe, whose name is the function's with dashes. It is returned, so that
    `register` can decorate a recipe. What was registered under the same name from the same place
    is replaced: a notebook's cell may be run again. BadInput where the name is taken otherwise.

    >>> import toyvit
    >>> @toyvit.register
    ... def my_induction():
    ...     return toyvit.RECIPES["induction"]()
    >>> "my-induction" in toyvit.config.extensions.find_extensions("recipes")
    True
    """
    kind = _find_kind(value)
    name = _find_name(value)
    _add(Extension(kind, name, value, _find_origin(value)))
    return value


def find_extensions(kind: str) -> dict[str, Extension]:
    """Everything of a kind that comes from outside, by name: registered, or in entry points.

    Entry points are read when a kind is first asked for. BadInput for one that cannot be loaded.
    """
    _load_entry_points(kind)
    extensions = [extension for extension in _registered.values() if extension.kind == kind]
    return {extension.name: extension for extension in extensions}


def merge_extensions(built_in: Mapping[str, T], kind: str) -> dict[str, T]:
    """The package's own things of a kind and those from outside; BadInput for a name twice."""
    extensions = find_extensions(kind)
    for name in extensions:
        if name in built_in:
            raise BadInput(
                f"{kind} {name!r} of {extensions[name].origin} has the name of one of toyvit's own"
            )
    return {**built_in, **{name: extension.value for name, extension in extensions.items()}}


def list_extensions() -> tuple[Extension, ...]:
    """All that is known in this process, for a worker to `install`."""
    return tuple(_registered.values())


def install(extensions: Iterable[Extension]) -> None:
    """Make known what another process knew."""
    for extension in extensions:
        _registered[extension.kind, extension.name] = extension


def forget(kind: str, name: str) -> None:
    """Take a registered thing back."""
    _registered.pop((kind, name), None)


def _find_kind(value: Any) -> str:
    kind = getattr(value, "extends", None)
    if kind in KINDS:
        return str(kind)
    if inspect.isfunction(value):
        return "recipes"
    raise BadInput(
        "toyvit.register takes a World, an Analysis, a Figure, or a function that returns a "
        f"RunConfig, got {type(value).__name__}"
    )


def _find_name(value: Any) -> str:
    return value.__name__.replace("_", "-") if inspect.isfunction(value) else str(value.name)


def _add(extension: Extension) -> None:
    """Note it; BadInput where another place has given the name."""
    key = (extension.kind, extension.name)
    earlier = _registered.get(key)
    if earlier is not None and _find_place(earlier.value) != _find_place(extension.value):
        raise BadInput(
            f"{extension.kind} {extension.name!r} is given twice: by {earlier.origin} and by "
            f"{extension.origin}"
        )
    _registered[key] = extension


def _find_code(value: Any) -> Any:
    """The function or class in which a thing's work is done."""
    return value if inspect.isfunction(value) else value.code


def _find_place(value: Any) -> tuple[str, str]:
    code = _find_code(value)
    return code.__module__, code.__qualname__


def _find_origin(value: Any) -> Origin:
    """Distribution and version of the package that defines a thing, and a digest of its source."""
    from importlib.metadata import packages_distributions, version

    code = _find_code(value)
    root = code.__module__.partition(".")[0]
    distributions = packages_distributions().get(root, []) if root != "__main__" else []
    name = distributions[0] if distributions else ""
    return Origin(name, version(name) if name else "", _hash_source(code))


def _hash_source(code: Any) -> str:
    """A digest of the source: of a whole package or script; of a notebook, the function alone."""
    root = code.__module__.partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None)
    digest = hashlib.sha256()
    if file is None:
        try:
            digest.update(inspect.getsource(code).encode())
        except OSError:
            raise BadInput(f"the source of {code.__qualname__} cannot be read") from None
    elif Path(file).name == "__init__.py":
        folder = Path(file).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    else:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


@cache
def _load_entry_points(kind: str) -> None:
    """Load a group of entry points, once a process."""
    from importlib.metadata import entry_points

    for point in entry_points(group=f"toyvit.{kind}"):
        value = _load(point)
        distribution = point.dist.name if point.dist else ""
        number = point.dist.version if point.dist else ""
        origin = Origin(distribution, number, _hash_source(_find_code(value)))
        if _find_kind(value) != kind:
            raise BadInput(f"entry point {point.name!r} of {origin} is no {kind[:-1]}")
        _add(Extension(kind, _find_name(value), value, origin))


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # whatever somebody else's module does wrong is told in one line
        name = point.dist.name if point.dist else "a package"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{point.value} of {name} cannot be loaded: {reason}") from error
