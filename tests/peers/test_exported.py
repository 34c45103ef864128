"""What is exported, as the programs that it is for read it: transformers, TransformerLens, ONNX.

Needs the extra `peers`; skipped without it. The largest difference is below 1e-5 of the largest
value, in float32.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toyvit
from tests.bridges.runs import write_run
from tests.laws.models import BASE, CASES, build, pictures
from toyvit import torchvision_guard  # noqa: F401
from toyvit.bridges.exporting import export_run
from toyvit.errors import BadInput
from toyvit.model.mappings.hugging_face import list_hugging_face_problems
from toyvit.model.mappings.transformer_lens import check_transformer_lens

TOLERANCE = 1e-5
HUGGING_FACE = {
    name: config for name, config in CASES.items() if not list_hugging_face_problems(config)
} | {"channels": replace(BASE, n_channels=3, attention_bias=True)}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*HookedTransformer.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


@pytest.fixture(scope="module")
def load_library():
    """A peer by its name; their imports warn of their own."""

    def load(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip(name, exc_type=ImportError)

    return load


def differ(ours, theirs):
    """Largest difference as a share of the largest value; masked scores must be masked in both."""
    masked = ours.isinf()
    assert torch.equal(masked, theirs.isinf())
    ours = ours.masked_fill(masked, 0)
    return ((ours - theirs.masked_fill(masked, 0)).abs().max() / ours.abs().max()).item()


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_transformers_loads_the_folder(name, tmp_path, load_library):
    library = load_library("transformers")
    config = HUGGING_FACE[name]
    run = write_run(tmp_path / "run", config, steps=(7,))
    folder = export_run(run, "huggingface", into=tmp_path / "out")
    theirs, report = library.ViTForImageClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = pictures(config, 5)
    with torch.no_grad():
        logits = theirs.eval()(images).logits
    assert differ(build(config, 8)(images), logits) < TOLERANCE
    assert differ(build(config, 9)(images), logits) > 100 * TOLERANCE
    assert theirs.config.id2label == {0: "0", 1: "1", 2: "2"}


def test_transformers_shows_a_picture_as_the_run_did(tmp_path, load_library):
    library = load_library("transformers")
    config = replace(BASE, n_channels=3)
    run = write_run(tmp_path / "run", config, steps=(7,))
    folder = export_run(run, "huggingface", into=tmp_path / "out")
    processor = library.ViTImageProcessor.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    shown = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
    assert (shown - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_transformer_lens_computes_the_same_at_every_block(name, tmp_path, load_library):
    load_library("transformer_lens")
    config = CASES[name]
    run = write_run(tmp_path / "run", config, steps=(7,))
    try:
        check_transformer_lens(config)
    except BadInput:
        with pytest.raises(BadInput, match="HookedTransformer has no such model"):
            export_run(run, "transformer_lens", into=tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return

    folder = export_run(run, "transformer_lens", into=tmp_path / "out")
    images = pictures(config, 5)
    stream = runpy.run_path(str(folder / "vit.py"))["load"]().embed(images)
    theirs = runpy.run_path(str(folder / "load.py"))["load"]()
    with torch.no_grad():
        logits, cache = theirs.run_with_cache(stream, start_at_layer=0)
        ours, values = build(config, 8).run_with_cache(images)

    for layer in range(config.n_layers):
        for site in ("attn.pattern", "attn.z", "attn_out", "resid_post"):
            place, _, last = site.rpartition(".")
            hook = f"{place}.hook_{last}".lstrip(".")
            expected = values[f"blocks.{layer}.{site}"]
            assert differ(expected, cache[f"blocks.{layer}.{hook}"]) < TOLERANCE, site
    reads = {
        "of token 0": lambda: logits[:, 0],
        "of the last token": lambda: logits[:, -1],
        "mean over the patches, which come after 1 other tokens": lambda: logits[:, 1:].mean(1),
        "of the patches, which come after 1 other tokens": lambda: logits[:, 1:],
    }
    read = json.loads((folder / "model.json").read_text())["read"]
    assert differ(ours, reads[read]()) < TOLERANCE


def export_onnx(run, folder, sites):
    """In a process of its own: shapes are not checked there, which no graph has a place for."""
    words = ["export", str(run.path), "--to", "onnx", "--into", str(folder), "--sites", sites]
    return subprocess.run(
        [sys.executable, "-m", "toyvit", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["registers", "bare", "positions=rotary", "norm=rms"])
def test_onnx_gives_every_site(name, tmp_path, load_library):
    load_library("onnxscript")
    runtime = load_library("onnxruntime")
    config = CASES[name]
    done = export_onnx(write_run(tmp_path / "run", config, steps=(7,)), tmp_path / "out", "*")
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "out"
    session = runtime.InferenceSession(str(folder / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    model = build(config, 8)
    assert names[0] == "logits" and set(names) == set(model.sites())
    assert list(json.loads((folder / "model.json").read_text())["outputs"]) == names

    for n in (1, 5):
        images = pictures(config, n)
        _, values = model.run_with_cache(images)
        outputs = session.run(None, {"images": images.numpy()})
        for site, output in zip(names, outputs, strict=True):
            assert differ(values[site], torch.from_numpy(output)) < TOLERANCE, site
    facts = json.loads(session.get_modelmeta().custom_metadata_map["toyvit"])
    assert facts["provenance"]["step"] == 7
    content = (folder / "model.onnx").read_bytes()
    for path in (tmp_path, Path(torch.__file__).parent, Path(toyvit.__file__).parent):
        assert str(path).encode() not in content


def test_onnx_gives_the_sites_that_are_asked_for(tmp_path, load_library):
    load_library("onnxscript")
    run = write_run(tmp_path / "run", BASE, steps=(7,))
    done = export_onnx(run, tmp_path / "out", "blocks.*.attn.hook_pattern")
    assert done.returncode == 0, done.stderr
    outputs = json.loads((tmp_path / "out/model.json").read_text())["outputs"]
    assert list(outputs) == ["logits", "blocks.0.attn.pattern", "blocks.1.attn.pattern"]
    assert outputs["blocks.0.attn.pattern"] == "image head query key"

    done = export_onnx(run, tmp_path / "other", "blocks.9.resid_pre")
    assert done.returncode == 2 and "unknown site 'blocks.9.resid_pre'" in done.stderr
    assert not (tmp_path / "other").exists()
