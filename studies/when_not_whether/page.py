"""The page, written of the records and figures beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from studies.when_not_whether.crosses import Table
from studies.when_not_whether.prediction import Prediction
from studies.when_not_whether.subjects import FOLDER, SUBJECTS
from studies.when_not_whether.transplants import Transplant
from toyvit.config.foreign_files import JsonObject, parse_object
from toyvit.dynamics.crosses import Cross
from toyvit.replications.claim import derive_seeds

CLAIM = FOLDER / "claim.json"
TEXT = (FOLDER / "text.md").read_text()


def read_claim() -> tuple[JsonObject, str]:
    """The committed claim and the SHA-256 of its file."""
    content = CLAIM.read_bytes()
    return parse_object(content, str(CLAIM)), hashlib.sha256(content).hexdigest()


def list_fresh_seeds() -> tuple[list[int], list[int]]:
    """Seeds of first weights and of data streams that follow from the claim: as many as needed."""
    _, sha256 = read_claim()
    n_inits = max(subject.n_inits for subject in SUBJECTS)
    n_streams = max(subject.n_streams for subject in SUBJECTS)
    seeds = derive_seeds(sha256, n_inits + n_streams)
    return seeds[:n_inits], seeds[n_inits:]


def judge_share(cross: Cross, bound: float) -> str:
    """`confirmed` where the whole interval of the weights' share is above the bound."""
    if cross.weights.low > bound:
        return "confirmed"
    return "refuted" if cross.weights.high < bound else "undecided"


def format_shares(
    tables: Mapping[str, Table], crosses: Mapping[str, Cross], bound: float | None = None
) -> str:
    """Shares of the variance by recipe, as a table of markdown."""
    verdict = "" if bound is None else " verdict |"
    lines = [
        "| recipe | cross | half-way step: median (range) | first weights | data stream | "
        f"interaction |{verdict}",
        "|---|---|---|---|---|---|" + ("---|" if verdict else ""),
    ]
    for recipe, cross in crosses.items():
        steps = tables[recipe].steps
        whole = steps[np.isfinite(steps)]
        spread = f"{np.median(whole):,.0f} ({whole.min():,.0f} to {whole.max():,.0f})"
        never = tables[recipe].n_censored
        cells = [
            f"`{recipe}`",
            f"{steps.shape[0]} x {steps.shape[1]}",
            spread + (f", {never} never" if never else ""),
            *map(str, (cross.weights, cross.stream, cross.interaction)),
        ]
        cells += [judge_share(cross, bound)] if bound is not None else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_transplants(parts: Mapping[str, Sequence[Transplant]]) -> str:
    """What each part of an early start does in a late one, a column a recipe."""
    recipes = list(parts)
    lines = [f"| part | {' | '.join(recipes)} |", "|---" * (len(recipes) + 1) + "|"]
    names = [item.part for item in max(parts.values(), key=len)]
    for name in names:
        cells = []
        for recipe in recipes:
            own = [item.shares for item in parts[recipe] if item.part == name]
            cells.append(
                f"{np.mean(own):.2f} ({np.min(own):.2f} to {np.max(own):.2f})" if own else ""
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def format_predictions(predictions: Sequence[Prediction]) -> str:
    """How well step 0 tells the half-way step of fresh starts."""
    lines = [
        "| recipe | measures | R^2 on fresh starts | 95 % of chance | closest single measure | "
        "its rank correlation: explored, fresh |",
        "|---|---|---|---|---|---|",
    ]
    for item in predictions:
        ranks = f"{item.best_fitted:.2f}, {item.best_fresh:.2f}"
        cells = [
            f"`{item.recipe}`",
            f"{item.n_features}",
            f"{item.r2:.2f}",
            f"{item.chance:.2f}",
            f"`{item.best}`",
            ranks,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_page(parts: Mapping[str, str]) -> str:
    """The text with its tables put in where it names them."""
    page = TEXT
    for name, table in parts.items():
        page = page.replace(f"<!-- {name} -->", table)
    return page
