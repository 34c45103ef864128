"""Models of timm and torchvision, of every plain kind: the same function here, block by block."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.laws.models import CASES
from tests.model.foreign import SIZES, draw_weights, find_error, record_blocks
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.mappings.assembly import convert_weights, infer_config, sort_tensors
from toyvit.model.mappings.families import FAMILIES, TIMM, TORCHVISION
from toyvit.model.mappings.timm import convert_from_timm, convert_to_timm, describe_timm
from toyvit.torchvision_guard import torchvision

STATED = {"n_heads": 4, "image_size": (12, 12)}
# Arguments of timm's model, and what its weights do not tell of it.
KINDS = {
    "plain": ({}, {}),
    "LayerScale, registers": ({"init_values": 0.5, "reg_tokens": 4, "no_embed_class": True}, {}),
    "registers with positions": ({"reg_tokens": 3}, {}),
    "mean, then norm": ({"class_token": False, "global_pool": "avg"}, {}),
    "norm, then mean": (
        {"class_token": False, "global_pool": "avg", "fc_norm": False},
        {"readout": "mean"},
    ),
    "mean beside CLS": ({"global_pool": "avg"}, {"readout": "pooled"}),
    "norm after the embedding": (
        {
            "pre_norm": True,
            "act_layer": "quick_gelu",
            "norm_layer": partial(torch.nn.LayerNorm, eps=1e-5),
        },
        {"norm_epsilon": 1e-5, "activation": "quick-gelu"},
    ),
    "no bias of queries, keys, values": ({"qkv_bias": False}, {}),
    "tanh GELU": ({"act_layer": "gelu_tanh"}, {"activation": "gelu-tanh"}),
}
SMALL = {
    "img_size": 12,
    "patch_size": 4,
    "num_classes": 7,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2,
}


def build_timm(**options):
    from timm.models.vision_transformer import VisionTransformer

    return draw_weights(VisionTransformer(**{**SMALL, **options}))


def compare_timm(kind, size):
    """How far a model of timm's is from its import, at the answer and at every block."""
    dtype, _ = SIZES[size]
    options, stated = KINDS[kind]
    theirs = build_timm(**options).to(dtype)
    images = torch.randn(5, 3, 12, 12, dtype=dtype, generator=torch.Generator().manual_seed(1))
    answer, outputs = record_blocks(theirs, theirs.blocks, images)
    ours = convert_weights(theirs.state_dict(), TIMM, {**STATED, **stated})
    return find_error(ours, images, answer, outputs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_timm_is_the_same_function_here(kind, size):
    assert compare_timm(kind, size) < SIZES[size][1]


def compare_torchvision(size):
    """The same of torchvision's."""
    dtype, _ = SIZES[size]
    theirs = torchvision.models.VisionTransformer(
        image_size=12,
        patch_size=4,
        num_layers=3,
        num_heads=4,
        hidden_dim=32,
        mlp_dim=48,
        num_classes=7,
    )
    theirs = draw_weights(theirs).to(dtype)
    images = torch.randn(5, 3, 12, 12, dtype=dtype, generator=torch.Generator().manual_seed(1))
    answer, outputs = record_blocks(theirs, theirs.encoder.layers, images)
    ours = convert_weights(theirs.state_dict(), TORCHVISION, STATED)
    return find_error(ours, images, answer, outputs)


@pytest.mark.parametrize("size", SIZES)
def test_a_model_of_torchvision_is_the_same_function_here(size):
    assert compare_torchvision(size) < SIZES[size][1]


def test_a_wrong_epsilon_is_seen_by_the_parity_that_is_asked():
    theirs = build_timm()
    images = 1e-3 * torch.randn(5, 3, 12, 12)
    answer, outputs = record_blocks(theirs, theirs.blocks, images)
    ours = convert_weights(theirs.state_dict(), TIMM, {**STATED, "norm_epsilon": 1e-3})
    assert find_error(ours, images, answer, outputs) > 1e-5


def can_be_timm(config):
    try:
        describe_timm(config)
    except BadInput:
        return False
    return True


EXPORTED = sorted(name for name, config in CASES.items() if can_be_timm(config))


def test_some_models_of_each_kind_can_be_timms():
    assert {"readout=cls", "readout=pooled", "registers", "positions=sincos"} <= {*EXPORTED}
    assert not {"attention only", "norm=rms", "mask=causal", "positions=rotary"} & {*EXPORTED}


@pytest.mark.parametrize("name", EXPORTED)
def test_there_and_back_is_the_same_to_the_bit_and_timms_model_the_same_function(name):
    from timm.models.vision_transformer import VisionTransformer

    config = CASES[name]
    model = draw_weights(ViT(config, seed=2))
    there = convert_to_timm(model, norm_epsilon=config.norm_epsilon)

    norm = partial(torch.nn.LayerNorm, eps=config.norm_epsilon)
    theirs = VisionTransformer(**describe_timm(config), norm_layer=norm).eval()
    theirs.load_state_dict(there)
    images = torch.randn(5, config.n_channels, *config.image_size)
    expected = model(images)
    assert (theirs(images) - expected).abs().max() < 1e-5 * expected.abs().max()

    if config.positions == "learned":
        back = convert_from_timm(there, config, norm_epsilon=config.norm_epsilon).state_dict()
        for key, weight in model.state_dict().items():
            assert torch.equal(back[key].view(torch.int32), weight.view(torch.int32)), key


def test_another_epsilon_than_timms_is_refused_both_ways():
    config = CASES["readout=cls"]
    with pytest.raises(BadInput, match=r"norm_epsilon is 1e-05 here and 1e-06 in timm's"):
        convert_to_timm(ViT(config))
    with pytest.raises(BadInput, match="norm_epsilon is 1e-05 here"):
        convert_from_timm(convert_to_timm(ViT(config), norm_epsilon=1e-5), config)


def drop(weights, name):
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: drop(w, "blocks.1.norm2.weight"), r"lack 'blocks.1.norm2.weight'"),
        (lambda w: drop(w, "pos_embed"), "lack 'pos_embed'"),
        (lambda w: drop(w, "blocks.1.mlp.fc2.bias"), "lack 'blocks.1.mlp.fc2.bias'"),
        (lambda w: w | {"blocks.0.attn.q_norm.weight": torch.ones(8)}, "no place.*q_norm"),
        (lambda w: w | {"blocks.0.mlp.fc3.weight": torch.ones(8)}, "no place for: .*fc3.weight"),
        (lambda w: w | {"pos_embed": torch.zeros(1, 8, 32)}, "8 positions may be of .*image_size"),
        (lambda w: w | {"patch_embed.proj.weight": torch.zeros(32, 3, 4, 2)}, "must be squares"),
        (lambda w: w | {"head.weight": torch.zeros(9, 32)}, r"head.bias is \(7,\) there, \(9,\)"),
        (lambda w: w | {"module.pos_embed": w["pos_embed"]}, "hold 'pos_embed' twice"),
        (lambda w: {}, "weights lack"),
    ],
)
def test_what_is_no_such_model_is_one_line(change, message):
    weights = change(build_timm().state_dict())
    with pytest.raises(BadInput, match=message) as error:
        convert_weights(weights, TIMM, {"n_heads": 4})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["n_layers", "d_model", "d_mlp", "patch_size", "n_registers"])
def test_what_the_weights_tell_cannot_be_stated_otherwise(field):
    parts = sort_tensors(build_timm().state_dict(), TIMM)
    with pytest.raises(BadInput, match=f"the weights have {field} .*, stated is 5"):
        infer_config(parts, TIMM, {"n_heads": 4, field: 5})


def test_positions_of_another_size_are_interpolated_and_a_ramp_stays_a_ramp():
    theirs = build_timm()
    ramp = torch.arange(3.0)[:, None].expand(3, 3).reshape(9, 1).expand(9, 32)
    theirs.pos_embed.data[0, 1:] = ramp
    ours = convert_weights(theirs.state_dict(), TIMM, {"n_heads": 4, "image_size": (24, 24)})
    rows = ours.positions.reshape(6, 6, 32)[:, 0, 0]
    assert ours.config.n_patches == 36
    assert (rows.diff() > 0).all()
    assert torch.allclose(rows[2:4], torch.tensor([0.75, 1.25]), atol=0.05)

    same = convert_weights(theirs.state_dict(), TIMM, {"n_heads": 4, "image_size": (12, 12)})
    assert torch.equal(same.positions, theirs.pos_embed[0, 1:])


@given(st.sampled_from(sorted(FAMILIES)), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_every_familys_names_are_its_own_and_count_its_layers(name, n_layers):
    family = FAMILIES[name]
    names = family.name_tensors(n_layers)
    assert len(set(names.values())) == len(names)
    assert family.count_layers(names.values()) == n_layers
    for theirs in names.values():
        assert family.spell(theirs) == theirs
        for prefix in family.prefixes:
            assert family.spell(prefix + theirs) == theirs
