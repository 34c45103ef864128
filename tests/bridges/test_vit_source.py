"""The standalone file of every case: run where nothing but torch can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from tests.bridges.runs import write_run
from tests.laws.models import BASE, CASES, TABLES, build, configs, pictures
from toyvit.bridges.exporting import export_run
from toyvit.bridges.vit_source import WRITTEN, Words, shorten_name, write_vit
from toyvit.errors import BadInput
from toyvit.model import options

# What the laws' cases are too small to tell: more than one pair of features that turns.
MODELS = CASES | {"wide rotary": replace(BASE, d_model=24, positions="rotary")}
TOLERANCE = 1e-6  # of the largest logit
WORDS = Words("A model.", "Run first.", mean=(0.5, 0.25), deviation=(0.5, 0.125))
# Loads the file of each folder that is named and gives its logits; all but torch is out of reach.
PROGRAM = """
import sys
BLOCKED = ("numpy", "einops", "toyvit", "safetensors", "jaxtyping")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import warnings
warnings.simplefilter("ignore")
import runpy, torch
for folder in sys.argv[1:]:
    names = runpy.run_path(folder + "/vit.py")
    with torch.no_grad():
        logits = names["load"]()(torch.load(folder + "/pictures.pt"))
    torch.save(logits, folder + "/logits.pt")
assert not set(BLOCKED) & set(sys.modules)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An exported run for each case, with the logits of its own file on some pictures."""
    place = tmp_path_factory.mktemp("exports")
    places = {}
    for number, (name, config) in enumerate(MODELS.items()):
        run = write_run(place / f"run{number}", config, steps=(7,))
        places[name] = export_run(run, "torch", into=place / f"{number}")
        torch.save(pictures(config, 4), places[name] / "pictures.pt")
    words = [sys.executable, "-c", PROGRAM, *map(str, places.values())]
    subprocess.run(words, check=True, cwd=place, env={"OMP_NUM_THREADS": "1"})
    return places


def differ(ours, theirs):
    return ((ours - theirs).abs().max() / ours.abs().max()).item()


@pytest.mark.parametrize("name", MODELS)
def test_a_stranger_gets_the_models_logits(name, folders):
    config = MODELS[name]
    ours = build(config, 8)(pictures(config, 4))
    assert differ(ours, torch.load(folders[name] / "logits.pt")) < TOLERANCE


def test_other_weights_give_other_logits(folders):
    ours = build(BASE, 9)(pictures(BASE, 4))
    assert differ(ours, torch.load(folders["norm=layer"] / "logits.pt")) > 100 * TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_files_are_short(name, folders):
    lines = (folders[name] / "vit.py").read_text().splitlines()
    assert len(lines) < 150 and max(map(len, lines)) <= 100


def test_files_are_formatted(folders, tmp_path):
    """All of them, and those with a mean and a deviation a channel."""
    for number, (name, config) in enumerate(MODELS.items()):
        (tmp_path / f"a{number}.py").write_text((folders[name] / "vit.py").read_text())
        (tmp_path / f"b{number}.py").write_text(write_vit(config, WORDS))
    ruff = [sys.executable, "-m", "ruff"]
    common = ["--isolated", "--line-length", "100", str(tmp_path)]
    subprocess.run([*ruff, "format", "--check", *common], check=True)
    subprocess.run([*ruff, "check", "--select", "E,F,I,B,UP,SIM,C4", *common], check=True)


@settings(max_examples=60)
@given(configs())
def test_any_mixture_of_options(config):
    source = write_vit(config, WORDS)
    assert len(source.splitlines()) < 180 and "$" not in source
    names = {"__file__": "vit.py", "__name__": "vit"}
    exec(compile(source, "vit.py", "exec"), names)
    model = build(config)
    other = names["ViT"]()
    weights = {name: value for name, value in model.state_dict().items() if value.numel()}
    assert other.state_dict().keys() == weights.keys()
    other.load_state_dict(weights)
    images = pictures(config)
    assert differ(model(images), other.eval()(images)) < 10 * TOLERANCE
    torch.testing.assert_close(
        model.embed(images), other.embed(images), rtol=TOLERANCE, atol=TOLERANCE
    )


def test_only_what_is_used_is_there():
    source = write_vit(CASES["bare"], Words("A model.", "Run first."))
    for word in ("MLP", "GELU", "prefix", "registers", "embed_norm", "normalize", "relative"):
        assert word not in source, word
    assert "class Norm" not in write_vit(CASES["norm=none"], WORDS)


def test_pictures_are_normalized_as_the_run_did():
    names = {"__file__": "vit.py", "__name__": "vit"}
    exec(write_vit(BASE, WORDS), names)
    shown = names["normalize"](torch.ones(1, 2, 6, 8))
    assert shown[0, :, 0, 0].tolist() == [1.0, 6.0]


@pytest.mark.parametrize(
    "name", ['"""\nraise SystemExit\n"""', "\\", "$n_layers", "a" * 300, "\ud800", "\u202e"]
)
def test_names_from_elsewhere_stay_words(name):
    source = write_vit(BASE, Words("A model.", f"Run {shorten_name(name)}."))
    exec(compile(source.encode(), "vit.py", "exec"), {"__file__": "vit.py", "__name__": "vit"})
    assert max(map(len, source.splitlines())) <= 100


@pytest.mark.parametrize("field", WRITTEN)
def test_every_option_of_the_lab_can_be_written(field):
    assert set(WRITTEN[field]) == set(TABLES[field])


def test_an_option_from_outside_is_refused(monkeypatch):
    monkeypatch.setitem(options.ACTIVATIONS, "sine", torch.sin)
    with pytest.raises(BadInput, match=r"cannot have model\.activation 'sine'"):
        write_vit(replace(BASE, activation="sine"), WORDS)


def test_the_file_and_the_weights_tell_the_same(folders):
    facts = json.loads((folders["norm=layer"] / "model.json").read_text())
    header = (folders["norm=layer"] / "weights.safetensors").read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["toyvit"]) == facts
    assert facts["config"]["d_model"] == 8 and facts["provenance"]["step"] == 7
