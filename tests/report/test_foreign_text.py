"""Names that come from elsewhere are escaped wherever they are shown: a law over all sinks."""

from __future__ import annotations

import ast
import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import toyvit
from tests.report.planted import PERFORMANCE, plant, shrink, train, write_arrays
from toyvit.__main__ import main
from toyvit.cli.output import EscapingFormatter, show
from toyvit.data.exports import ArrayFacts, _describe_files
from toyvit.errors import BadInput, escape_file_name, escape_text, quote_code
from toyvit.replications import REPLICATIONS
from toyvit.replications.page import write_page
from toyvit.replications.record import Record, read_record, write_record
from toyvit.report import FIGURES, tensorboard
from toyvit.report.matplotlib_renderer import render, render_png
from toyvit.report.page.document import read_script
from toyvit.report.panels import Axis, Block, Caption, Curve, CurvePanel, FigureData
from toyvit.runs.handle import Run

HOSTILE = {
    "colour": "\x1b[31mred\x07\x9b2J",
    "direction": "\u202eabc\u2066\u200f",
    "lines": "a\nfinal accuracy 1.000\r\u2028b",
    "markup": "<script>alert(1)</script>|`x`![a](b)",
    "mathematics": "$x^{$",
    "two dollars": r"\$a\$ and $\frac{1}$",
    "path": "../../escape",
    "hidden": "_hidden",
    "half": "a\udc80b",
    "long": "w" * 3000,
}
TOGETHER = "".join(HOSTILE[case] for case in ("colour", "direction", "lines", "markup", "path"))
NAMES = ["together", pytest.param("half", marks=pytest.mark.slow)]


def is_plain(text: str) -> bool:
    """Whether a text of several lines holds nothing that does not print."""
    return all(char == "\n" or char.isprintable() for char in text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run whose recipe has a hostile name."""
    folder = tmp_path_factory.mktemp("trained")
    config = shrink(write_arrays(folder / "own.npz"), recipe=HOSTILE["colour"] + HOSTILE["lines"])
    return train(folder / "run", config).path


def plant_names(run: Run, name: str) -> None:
    """Factors, values, a quantity, an analysis, a split and a baseline of this name."""
    name = name.encode("utf-8", "backslashreplace").decode()
    place = {"factor": name, "group": "cls", "layer": 0}
    rows = {
        "performance": PERFORMANCE,
        "by_factor": [("accuracy_of_value", {"factor": name, "level": name}, 0.5)],
        "probes": [
            ("accuracy", place, 0.5),
            ("accuracy_pixels", {"factor": name}, 0.5),
            ("accuracy_shuffled", place, 0.5),
        ],
        name: [(name, {name: name}, 0.5)],
    }
    plant(run, rows, baselines={"accuracy.majority": 0.5, f"accuracy.{name}": 0.25})
    plant(run, {"performance": PERFORMANCE}, split=name)


@pytest.fixture
def quick(monkeypatch):
    """Reports with the figures that hold names from the table, and no pictures in TensorBoard."""
    few = {name: FIGURES[name] for name in ("learning", "by_factor", "probes")}
    monkeypatch.setattr("toyvit.report.FIGURES", few)
    monkeypatch.setattr(tensorboard, "draw_pictures", lambda run: ())


@pytest.mark.slow
@pytest.mark.parametrize("case", NAMES)
def test_no_foreign_text_reaches_a_sink_as_it_is(trained, tmp_path, capsys, quick, case):
    """Terminal, page, figures, TensorBoard and names of files."""
    name = HOSTILE.get(case, TOGETHER)
    path = Path(shutil.copytree(trained, tmp_path / f"_{name.replace('/', '')}"))
    plant_names(Run(path), name)
    before = {part.name for part in tmp_path.iterdir()}
    words = ["report", str(path), "--format", "svg", "--all"]
    for line in (["ls", str(tmp_path)], ["verify", str(path)], words):
        assert main(line) == 0, capsys.readouterr().err
    assert main(["measure", str(path / "nowhere")]) == 2
    printed = capsys.readouterr()
    assert is_plain(printed.out + printed.err)
    assert "\nfinal accuracy 1.000" not in printed.out
    assert is_plain(repr(Run(path)))

    page = Run(path)._repr_html_()
    assert is_plain(page) and "<script" not in page
    own = read_script()
    for line in (path / "figures" / "page.html").read_text().replace(own, "").splitlines():
        assert is_plain(line) and not line.startswith("final accuracy")
    for file in path.glob("figures/*.svg"):
        assert is_plain(file.read_text())
        ElementTree.parse(file)
    assert len(list(path.glob("figures/*.svg"))) == 3
    assert {part.name for part in tmp_path.iterdir()} == before
    (events,) = path.glob("tensorboard/events.*")
    check_events(Path(shutil.copy(events, tmp_path / "events")))
    for file in [*path.glob("figures/*"), *path.glob("tensorboard/*")]:
        assert is_plain(file.name) and file.name == escape_file_name(file.name)


def check_events(file: Path) -> None:
    """Tags and settings of a TensorBoard file are plain, and its text is code."""
    tags = []
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            tags.append(value.tag)
            if value.tag == "config/text_summary":
                text = value.tensor.string_val[0].decode()
                assert all(line.startswith("    ") for line in text.split("\n"))
            if value.metadata.plugin_data.plugin_name == "hparams":
                plain = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                settings = plain.session_start_info.hparams
                tags += [setting.string_value for setting in settings.values()] + list(settings)
    assert len(tags) > 20
    for tag in tags:
        assert is_plain(tag) and "\n" not in tag and "../" not in tag


def draw_named(name: str) -> FigureData:
    """A figure whose every text is this name."""
    curve = Curve(x=[0.0, 1.0], y=[0.0, 1.0], label=name, end_label=name)
    panel = CurvePanel(
        x=Axis(label=name, ticks=(0.0, 1.0), names=(name, name)),
        y=Axis(label=name, scale="log"),
        title=name,
        curves=(curve,),
        legend="inside",
        legend_title=name,
    )
    block = Block(panels=((panel,),), title=name, row_headers=(name,), column_headers=(name,))
    return FigureData(
        name="named", title=name, caption=Caption(see=name, otherwise=""), blocks=(block,)
    )


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.filterwarnings("ignore:.*collapsed to zero")
def test_a_figure_shows_every_name_as_it_is_written(case):
    """Nothing is set as mathematics, left out of a legend, or too much for the renderer."""
    figure = render(draw_named(HOSTILE[case]))
    figure.canvas.draw()
    axes = figure.axes[0]
    texts = [axes.xaxis.label, *axes.get_xticklabels(), *axes.get_legend().get_texts()]
    assert len(texts) == 4
    for text in texts:
        shown, is_mathematics = text._preprocess_math(text.get_text())
        assert not is_mathematics
        expected = "\n".join(map(escape_text, HOSTILE[case].split("\n")))
        assert shown.strip() == (expected if case != "long" else f"{expected[:100]}...")
    assert render_png(draw_named(HOSTILE[case])).startswith(b"\x89PNG")


@pytest.mark.parametrize("case", HOSTILE)
def test_names_in_pages_and_files_stay_what_they_are(case):
    name = HOSTILE[case]
    code = quote_code(name)
    assert is_plain(code) and "\n" not in code
    assert code.count("`") == 2 and not re.search(r"(?<!\\)\|", code)
    file = escape_file_name(name)
    assert Path("folder", file).parent == Path("folder") and not {"/", "\\"} & set(file)
    assert ".." not in file and is_plain(file)


def test_the_card_of_an_export_quotes_what_it_names(trained):
    facts = {HOSTILE["markup"]: ArrayFacts("int64", (3,), 0, 1)}
    facts["images"] = ArrayFacts("uint8", (3, 8, 8), 0, 1)
    text = _describe_files(Run(trained).task, {"train": facts})
    outside = re.sub(r"`[^`]*`", "", text)
    assert "<script" in text and "<script" not in outside and "](" not in outside


STUDIES = ("calibration", "finite_size", "latent", "rival", "rival_runs")  # `python -m` each
PRINTERS = {"cli/output.py", "data/cards.py", *(f"dynamics/{name}.py" for name in STUDIES)}


def test_every_command_prints_in_one_place():
    root = Path(toyvit.__file__).parent
    printers = set()
    for path in root.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        if any(isinstance(node, ast.Name) and node.id == "print" for node in nodes):
            printers.add(path.relative_to(root).as_posix())
    assert printers == PRINTERS


def test_messages_of_a_command_are_escaped(trained, tmp_path, capfd):
    """Of the log too, which other code writes into."""
    path = shutil.copytree(trained, tmp_path / "a\x1b[31mb")
    assert main(["train", "digits", "--runs", str(path), "--name", "../x"]) == 2
    record = logging.makeLogRecord({"msg": "%s\nb", "args": ("a\x07",)})
    assert EscapingFormatter("%(message)s").format(record) == "a\\x07\nb"
    assert is_plain(capfd.readouterr().err)


FOREIGN = {
    "minutes": "1",
    "seed": True,
    "version": "1",
    "numbers": {"score": "<b>"},
    "panels": ["$x^{$"],
}


@pytest.mark.parametrize("field", FOREIGN)
def test_a_foreign_record_brings_no_text_to_the_page(tmp_path, field):
    """Numbers that are texts; a seed that is none."""
    plain = {"name": "markov", "version": 1, "seed": 1, "minutes": 1, "numbers": {}, "panels": []}
    file = tmp_path / f"markov-{FOREIGN[field] if field == 'seed' else 1}.json"
    file.write_text(json.dumps(plain))
    assert field == "seed" or read_record(file)
    file.write_text(json.dumps(plain | {field: FOREIGN[field]}))
    with pytest.raises(BadInput, match="is not a record of a replication"):
        read_record(file)


def test_panels_that_cannot_be_drawn_are_one_line(tmp_path):
    entry = replace(REPLICATIONS["markov"], version=1)
    record = Record(name="markov", version=1, seed=0, minutes=1, numbers={}, panels=[{"kind": "x"}])
    write_record(tmp_path, record)
    with pytest.raises(BadInput, match="records of markov hold panels that cannot be drawn"):
        write_page([entry], tmp_path, tmp_path / "docs")


def test_what_is_printed_is_one_line_each(capsys):
    show(*HOSTILE.values())
    printed = capsys.readouterr().out
    assert is_plain(printed) and printed.count("\n") == len(HOSTILE)
