"""Hugging Face's ViT, DeiT, DINOv2 and CLIP against this lab's, in memory and from their files.

Needs the extra `peers`; skipped without it.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import load_file

from tests.model.foreign import SIZES, draw_weights, find_error
from toyvit import torchvision_guard  # noqa: F401
from toyvit.bridges.importing import import_run
from toyvit.bridges.modules import describe_module, read_parts
from toyvit.model.mappings.assembly import assemble, fill_head, infer_config, sort_tensors

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 12,
    "patch_size": 4,
    "attn_implementation": "sdpa",  # the other rounds its softmax to float32
}
# Their config, their model, what of its output is the answer, and the site here.
KINDS = {
    "ViT": ("ViTConfig", "ViTForImageClassification", "logits", "logits"),
    "DeiT": ("DeiTConfig", "DeiTForImageClassification", "logits", "logits"),
    "DINOv2": ("Dinov2Config", "Dinov2Model", "pooler_output", "readout"),
    "DINOv2 with registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        "pooler_output",
        "readout",
    ),
    "CLIP": ("CLIPVisionConfig", "CLIPVisionModelWithProjection", "image_embeds", "logits"),
}


@pytest.fixture(scope="module")
def library():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", exc_type=ImportError)


def build(library, kind):
    config, model, answer, site = KINDS[kind]
    theirs = getattr(library, model)(getattr(library, config)(**SMALL))
    return draw_weights(theirs), answer, site


def add_head(parts, config):
    """A head of zeros for a model that has none: what is compared is its read-out."""
    if config.n_classes is not None:
        return config
    return fill_head(parts, config, torch.zeros(2, 32), torch.zeros(2))


def compare(library, kind, size, folder=None):
    """How far a model is from its import, in memory and (given a folder) from its files."""
    dtype, _ = SIZES[size]
    theirs, answer, site = build(library, kind)
    theirs = theirs.to(dtype)
    images = torch.randn(5, 3, 12, 12, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = theirs(images, output_hidden_states=True)

    described = describe_module(theirs)
    sources = [theirs.state_dict()]
    if folder is not None:
        theirs.save_pretrained(folder)
        sources.append(load_file(folder / "model.safetensors"))
    errors = []
    for weights in sources:
        parts = sort_tensors(weights, described.family)
        stated = described.description.stated
        config = add_head(parts, infer_config(parts, described.family, stated))
        ours = assemble(parts, config)
        errors.append(find_error(ours, images, output[answer], output.hidden_states[1:], site))
    return max(errors)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_parity_of_a_model_in_memory_and_of_its_files(library, kind, size, tmp_path):
    assert compare(library, kind, size, tmp_path) < SIZES[size][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_theirs_is_a_run_here(library, kind, tmp_path):
    theirs, answer, site = build(library, kind)
    theirs.save_pretrained(tmp_path / "there")
    run = import_run([tmp_path / "there"], tmp_path / "run")
    assert run.status == "imported"
    images = run.batch("test", 4).images
    with torch.no_grad():
        output = theirs(images, output_hidden_states=True)
    error = find_error(run.model(), images, output[answer], output.hidden_states[1:], site)
    assert error < 1e-5
    assert read_parts(describe_module(theirs))["positions"].dtype == torch.float32
