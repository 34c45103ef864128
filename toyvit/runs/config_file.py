"""`config.json` of a run: what it holds, and how it says that the run was lengthened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from toyvit.config import RunConfig
from toyvit.config.extensions import Origin
from toyvit.config.foreign_files import JsonObject, read_object
from toyvit.data import worlds
from toyvit.errors import BadInput
from toyvit.runs.disk import add_digest, take_digest

Stamp = tuple[int, int, int]  # of a file: another where it was written anew
LENGTHENED = "lengthened"  # the key under which earlier ends stand


@dataclass(frozen=True)
class ConfigFile:
    """What config.json says.

    config       the run as it is to be now
    hash         SHA-256 of the run as it was begun: that of its first end, where it was lengthened
    ends         the steps that it was to have before, ascending; none where it is as it was begun
    versions     of what it was begun with
    has_digests  up to version 0.2 files had none, nor surroundings in config.json
    """

    config: RunConfig
    hash: str
    ends: tuple[int, ...]
    versions: dict[str, str]
    has_digests: bool


def stamp_file(file: Path) -> Stamp | None:
    """What tells whether a file was written anew; None where there is none.

    >>> stamp_file(Path("nowhere")) is None
    True
    """
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def parse_config(plain: JsonObject, file: Path) -> ConfigFile:
    """What a config.json says that holds this; BadInput where it is damaged."""
    try:
        origins = {
            item["name"]: Origin(item["distribution"], item["version"], item["sha256"])
            for item in plain.get("extensions", ())
        }
        ends, digest = _read_ends(plain, file)
        return ConfigFile(
            config=RunConfig.from_json(plain["run"], origins),
            hash=digest,
            ends=ends,
            versions={name: str(value) for name, value in plain["versions"].items()},
            has_digests="surroundings" in plain,
        )
    except BadInput as error:
        raise BadInput(f"{file} cannot be used: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{file} is damaged: {type(error).__name__}: {error}") from None


def describe_config(config: RunConfig) -> JsonObject:
    """What config.json of a new run holds."""
    from toyvit.surroundings import describe_surroundings, list_versions

    return {
        "run": config.to_json(),
        "versions": list_versions(),
        "surroundings": describe_surroundings(),
        **worlds.describe_origin(config.task.name),
    }


def describe_longer(file: Path, steps: int) -> JsonObject:
    """What config.json holds once its run is to have more steps: all else as it was written."""
    plain = read_object(file)
    ends, digest = _read_ends(plain, file)
    ends += (plain["run"]["train"]["steps"],)
    plain["run"]["train"]["steps"] = steps
    plain[LENGTHENED] = add_digest({"steps": [*ends, steps]}, digest)
    return plain


def _read_ends(plain: JsonObject, file: Path) -> tuple[tuple[int, ...], str]:
    """The earlier ends of a run, and the hash of the run as it was begun."""
    if LENGTHENED not in plain:
        return (), _hash_plain(plain["run"])
    record = dict(plain[LENGTHENED])
    *ends, steps = record["steps"]
    train = plain["run"]["train"]
    begun = {**plain["run"], "train": {**train, "steps": ends[0]}}
    digest = _hash_plain(begun)

    is_checked = take_digest(record, f"{file.name}, {LENGTHENED},", digest)
    ascends = all(end < later for end, later in pairwise([*ends, steps]))
    if not (is_checked and ascends and steps == train["steps"]):
        raise BadInput(f"what it says under {LENGTHENED!r} does not fit its run")
    return tuple(ends), digest


def _hash_plain(run: object) -> str:
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
