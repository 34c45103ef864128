"""Claims: their records, the seeds that confirm them, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from toyvit.__main__ import main
from toyvit.config import replace_seed
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.replications.claim import (
    derive_seeds,
    find_claim,
    list_claims,
    parse_claim,
    read_claim,
)
from toyvit.replications.claims import (
    build_replication,
    check_fresh,
    describe_seeds,
    format_ledger,
)
from toyvit.replications.page import CLAIMS, draw_numbers, format_page
from toyvit.replications.record import Record, load_records
from toyvit.report.replicated import draw_margins
from toyvit.runs.folder import RunFolder
from toyvit.train import fit

DOCS = Path(__file__).parents[2] / "docs"
STATEMENT = {"text": "accuracy", "measure": "performance.accuracy", "take": "last"}
PLAIN = {
    "title": "Digits, shortly",
    "recipe": "digits",
    "settings": ["--train.steps", "6", "--train.n_validation", "16"],
    "explored": [0, 1],
    "seeds": 2,
    "statements": [STATEMENT | {"explored": "0.1", "low": 0, "high": 1}],
}
UNBOUND = [STATEMENT | {"explored": "0.1"}]


def encode(**changes):
    return json.dumps(PLAIN | changes).encode()


def write(tmp_path, **changes):
    path = tmp_path / "short.json"
    path.write_bytes(encode(**changes))
    return path


@pytest.mark.parametrize("name", list_claims())
def test_every_claim_can_be_run_and_has_seeds_that_nobody_explored(name):
    filed = find_claim(name)
    config = filed.claim.build_config()
    assert config.recipe == filed.claim.recipe
    seeds = filed.list_seeds()
    assert len(set(seeds)) == filed.claim.seeds
    assert not set(seeds) & set(filed.claim.explored)
    entry = build_replication(filed)
    assert len({check.number for check in entry.checks}) == len(filed.statements)


def test_every_recipe_that_can_be_run_by_itself_is_claimed():
    claimed = {find_claim(name).claim.recipe for name in list_claims()}
    assert set(RECIPES) - claimed == {"classify"}  # of your own pictures


def test_seeds_follow_from_the_record_and_from_nothing_else():
    first, again = parse_claim(encode(), "short"), parse_claim(encode(), "short")
    other = parse_claim(encode(statements=[STATEMENT | {"explored": "0.1", "low": 0.01}]), "short")
    assert first.list_seeds() == again.list_seeds()
    assert not set(first.list_seeds()) & set(other.list_seeds())
    seeds = derive_seeds("ab", 3)
    assert derive_seeds("ab", 3, taken=seeds[:1])[:2] == seeds[1:]


BAD = {
    "no bound": ({"statements": UNBOUND}, "has no bound"),
    "bounds in the wrong order": (
        {"statements": [UNBOUND[0] | {"low": 1, "high": 0}]},
        "bounds in the wrong order",
    ),
    "nothing stated": ({"statements": []}, "states nothing"),
    "an unknown key": ({"seed": 3}, "unknown key 'seed'.*did you mean 'seeds'"),
    "an unknown recipe": ({"recipe": "digit"}, "did you mean 'digits'"),
    "an unknown field": ({"settings": ["--train.step", "6"]}, "did you mean '--train.steps'"),
    "no recipe": ({"recipe": None}, "recipe"),
    "a name of its own": ({"name": "../../elsewhere"}, "called as its file is"),
    "a place that is none": ({"statements": [UNBOUND[0] | {"low": 0, "where": ["l"]}]}, "layer=1"),
    "a statement that is none": ({"statements": [7]}, "a statement is an object"),
    "an unknown way": ({"statements": [UNBOUND[0] | {"low": 0, "take": "lst"}]}, "last"),
    "no level": ({"statements": [UNBOUND[0] | {"low": 0, "take": "passes x"}]}, "takes a level"),
    "one seed": ({"seeds": 1}, "seeds"),
    "no measure": ({"statements": [{"text": "accuracy", "low": 0}]}, "a statement needs"),
}


@pytest.mark.parametrize("field", ["title", "recipe", "explored"])
def test_a_record_that_lacks_a_field_is_refused_in_one_line(field):
    plain = {name: value for name, value in PLAIN.items() if name != field}
    with pytest.raises(BadInput, match=f"a claim needs {field}"):
        parse_claim(json.dumps(plain).encode(), "short")


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD)
def test_a_record_that_is_no_claim_is_refused_in_one_line(changes, words, tmp_path):
    path = write(tmp_path, **changes)
    with pytest.raises(BadInput, match=words) as error:
        read_claim(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_seed_that_was_run_before_does_not_confirm(tmp_path):
    filed = read_claim(write(tmp_path))
    config = filed.claim.build_config()
    seed = filed.list_seeds()[1]
    fit(replace_seed(config, 0), tmp_path / "runs/other", progress=False)
    check_fresh(filed, tmp_path / "runs")
    fit(replace_seed(config, seed), tmp_path / "runs/claims/short/seed", progress=False)
    check_fresh(filed, tmp_path / "runs")
    RunFolder(tmp_path / "runs/looked").create(replace_seed(config, seed))
    with pytest.raises(BadInput, match="on seeds that nobody has seen"):
        check_fresh(filed, tmp_path / "runs")


def test_the_command_confirms_a_claim_of_ones_own(tmp_path, capsys):
    path = write(tmp_path)
    words = ["replicate", "--claim", str(path), "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    assert "short: confirmed, 2 seeds" in capsys.readouterr().out
    stated = [STATEMENT | {"explored": "1", "low": 0.9999}]
    assert main([*words[:2], str(write(tmp_path, statements=stated)), *words[3:]]) == 0
    printed = capsys.readouterr().out
    assert "short: refuted" in printed or "short: undecided" in printed


@pytest.mark.parametrize("words", [["induction"], ["--seeds", "3"]])
def test_a_claim_takes_neither_names_nor_seeds(words, tmp_path, capsys):
    assert main(["replicate", *words, "--claim", "digits", "--runs", str(tmp_path)]) == 2
    assert "cannot be given too" in capsys.readouterr().err
    assert main(["replicate", "--claim", "digit", "--runs", str(tmp_path)]) == 2
    assert "did you mean 'digits'" in capsys.readouterr().err


def test_seeds_in_words():
    assert describe_seeds(()) == "no seed"
    assert describe_seeds((3,)) == "seed 3"
    assert describe_seeds((0, 1, 2)) == "seeds 0 to 2"
    assert describe_seeds((0, 2)) == "seeds 0, 2"
    assert describe_seeds(tuple(range(0, 40, 2))) == "20 seeds"


def test_the_page_of_claims_is_what_the_generator_writes():
    claims = [find_claim(name) for name in list_claims()]
    entries = [build_replication(filed) for filed in claims]
    place = DOCS / CLAIMS.name
    records = {entry.name: load_records(place, entry) for entry in entries}
    page = format_page(entries, records, CLAIMS) + "\n" + format_ledger(claims, place)
    assert (DOCS / "claims.md").read_text() == page


def test_the_picture_of_a_claim_shows_every_seed_over_its_margin():
    figure = draw_margins(
        [("accuracy", [0.9, 0.7, 0.8], (0.75, math.inf)), ("loss", [1.0], (0, 2))], "Digits"
    )
    accuracy, loss = figure.panels()
    assert accuracy.curves[0].x.tolist() == [0.7, 0.8, 0.9]
    assert accuracy.curves[0].y.tolist() == [1, 2, 3]
    assert (accuracy.spans[0].start, accuracy.spans[0].end) == (0.75, accuracy.x.high)
    assert accuracy.x.low < 0.7 and accuracy.x.high > 0.9
    assert (loss.spans[0].start, loss.spans[0].end) == (0, 2)
    assert [panel.x.label for panel in figure.panels()] == ["accuracy", "loss"]


def test_a_number_that_never_came_is_left_out_of_the_picture():
    entry = build_replication(parse_claim(encode(), "short"))
    numbers = {"accuracy": 0.5}
    first = Record(name="short", version=1, seed=0, minutes=0, numbers=numbers, panels=[])
    never = replace(first, seed=1, numbers={"accuracy": None})
    (panel,) = draw_numbers(entry, [first, never]).panels()
    assert panel.curves[0].x.tolist() == [0.5]
