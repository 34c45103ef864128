"""QK and OV circuits: planted directions, heads that copy or undo each other, pixels, scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.analyses.planted import OPTIONS, model_for, traced
from tests.handmade import empty, half_ignored, induction_head, look, two_hop_pointer, write
from tests.laws.models import CASES, build, pictures
from toyvit.analyses import ANALYSES, attention, weights
from toyvit.analyses.analysis import Tagged
from toyvit.analyses.composition import score_copying, simulate_copying
from toyvit.config import InductionConfig
from toyvit.data.task import build_task
from toyvit.errors import BadInput
from toyvit.instruments.weight_circuits import (
    centre_scores,
    compose_virtual_heads,
    find_singular_directions,
    fold_head_weights,
    fold_norms,
    fold_unembedding,
    ov_circuit,
    product_eigenvalues,
    project_to_pixels,
    qk_circuit,
    split_scores,
)
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.model.options import allowed_keys
from toyvit.model.shapes import HeadWeights

every_norm = pytest.mark.parametrize("norm", ["layer", "rms", "none"])
every_shape = pytest.mark.parametrize("options", OPTIONS)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def measure_score_parts(model, batch):
    return weights.measure_score_parts(
        model, batch, trace(model, batch.images, ["blocks.0.resid_pre"])
    )


@every_norm
def test_circuits_of_a_model_say_what_its_scores_and_results_are(norm):
    """Without the norm's scale and biases: scores are x W_QK y / sqrt(h), results A y W_OV."""
    model, batch = model_for("induction 4x4", n=3, norm=norm)
    with torch.no_grad():
        for block in model.blocks:
            getattr(block.ln1, "bias", torch.zeros(1)).zero_()
    seen = traced(model, batch)
    for layer in range(2):
        stream = seen[f"blocks.{layer}.resid_pre"] / seen.get(f"blocks.{layer}.ln1.scale", 1)
        scores = (
            torch.einsum("iqd,hde,ike->ihqk", stream, qk_circuit(model, layer), stream)
            / model.config.d_head**0.5
        )
        assert torch.allclose(scores, seen[f"blocks.{layer}.attn.attn_scores"], atol=1e-4)
        moved = torch.einsum(
            "ihqk,ikd,hde->iqhe",
            seen[f"blocks.{layer}.attn.pattern"],
            stream,
            ov_circuit(model, layer),
        )
        assert torch.allclose(moved, seen[f"blocks.{layer}.attn.result"], atol=1e-4)
    last = (seen["blocks.1.resid_post"] / seen.get("ln_final.scale", 1))[:, 1:].mean(
        1
    )  # CLS is not read
    with torch.no_grad():
        constant = model.head(getattr(model.ln_final, "bias", torch.zeros(16)))
    assert torch.allclose(last @ fold_unembedding(model) + constant, seen["logits"], atol=1e-4)


@every_norm
@pytest.mark.parametrize("case", CASES)
def test_a_model_with_its_norms_folded_in_is_the_same_model(case, norm):
    """Its norms scale alone, and what they read may be shifted: LayerNorm does not see a mean."""
    has_norm = norm != "none"
    config = replace(CASES[case], norm=norm, embed_norm=CASES[case].embed_norm and has_norm)
    model = build(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_norms(model)
    images = pictures(config, 4)
    assert torch.allclose(folded(images), model(images), atol=2e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(weight.requires_grad for weight in folded.parameters())
    assert set(folded.state_dict()) == set(ViT(folded.config).state_dict())

    for layer, block in enumerate(folded.layers):
        readers = [block.attn.qkv, *([block.mlp.up] if config.d_mlp else [])]
        norms = [block.ln1, *([block.ln2] if config.d_mlp else [])]
        if norm != "none":
            assert all((kind.gain == 1).all() and (kind.bias == 0).all() for kind in norms)
        means = torch.stack([reader.weight.sum(1).abs().max() for reader in readers])
        assert (means.max() < 1e-5) == (norm == "layer"), layer
        plain = model.layers[layer].attn.head_weights()
        assert torch.equal(block.attn.head_weights().o, plain.o)
        assert torch.equal(block.attn.head_weights().v, plain.v) == (norm == "none")


@pytest.mark.parametrize("width", [1, 4, 8])
def test_directions_are_the_singular_value_decomposition(width):
    left, right = draw(3, 20, width), draw(3, width, 30, seed=1)
    found = find_singular_directions(left, right)
    assert found.size.shape == (3, width) and (found.size.diff(dim=-1) <= 0).all()
    assert torch.allclose(torch.einsum("hfd,hf,hfe->hde", *found), left @ right, atol=1e-4)
    assert torch.allclose(found.read @ found.read.mT, torch.eye(width).expand(3, -1, -1), atol=1e-5)
    assert torch.allclose(found.size, torch.linalg.svdvals(left @ right)[:, :width], rtol=1e-4)
    # planted: two directions of sizes 3 and 1
    u, v = torch.linalg.qr(draw(20, 2, seed=2)).Q, torch.linalg.qr(draw(30, 2, seed=3)).Q
    planted = find_singular_directions(u * torch.tensor([3.0, 1.0]), v.T)
    assert torch.allclose(planted.size, torch.tensor([3.0, 1.0]), atol=1e-5)
    assert torch.allclose((planted.read @ u).abs(), torch.eye(2), atol=1e-5)
    assert torch.allclose((planted.written @ v).abs(), torch.eye(2), atol=1e-5)
    assert weights.count_directions(planted.size).item() == pytest.approx(100 / 82, rel=1e-5)
    assert weights.count_directions(torch.ones(5)).item() == pytest.approx(5)


def test_eigenvalues_are_those_of_the_whole_matrix():
    left, right = draw(12, 4), draw(4, 12, seed=1)
    whole = torch.linalg.eigvals((left @ right).double())
    largest = whole[whole.abs().argsort(descending=True)][:4]
    found = product_eigenvalues(left, right)
    assert torch.allclose(found.real.sort().values, largest.real.sort().values, atol=1e-4)
    assert torch.allclose(found.abs().sort().values, largest.abs().sort().values, atol=1e-4)


def test_random_heads_copy_within_the_published_band():
    for width, spread in ((8, 0.20), (16, 0.10), (32, 0.05)):
        assert simulate_copying(64, width) == pytest.approx(spread, rel=0.15)
    model, batch = model_for("induction 4x4", n=2)
    heads = (fold_head_weights(model, layer) for layer in range(2))
    by_hand = torch.stack([score_copying(head.v, head.o) for head in heads])
    measures = weights.measure_weights(model, batch, {})
    assert torch.allclose(measures["copying_z"], by_hand / simulate_copying(16, 8))
    scores = score_copying(draw(400, 64, 8, seed=5), draw(400, 8, 64, seed=6))
    assert 0.45 < scores.max() < 0.7


def test_pixels_of_a_direction_answer_as_the_embedding_does():
    model, batch = model_for("induction 4x4", n=3)
    along = draw(5, 16)
    pictures = project_to_pixels(model, along)
    assert pictures.shape == (5, 1, 8, 8)
    patches = trace(model, batch.images, ["patches", "embed"])
    by_picture = patches["patches"] @ pictures.flatten(1).T
    assert torch.allclose(
        by_picture, (patches["embed"] - model.patch.bias.detach()) @ along.T, atol=1e-4
    )


def test_the_glyphs_that_an_induction_head_compares_come_back_as_pictures():
    """The hand-built a0.h0 moves glyph contents.

    Its reading directions, rendered, lie in the span of the glyphs' detectors.
    """
    made = induction_head()
    _, _, w_v, w_o = fold_head_weights(made.model, 0)
    found = find_singular_directions(w_v, w_o)
    saved = found.size[0] > 1e-3
    assert saved.sum() == 16 and torch.allclose(found.size[0][saved], torch.ones(16))
    pictures = project_to_pixels(made.model, found.read[0][saved]).flatten(1)
    detectors = made.model.patch.weight[:16]
    fitted = torch.linalg.lstsq(detectors.T, pictures.T).solution
    assert torch.allclose(detectors.T @ fitted, pictures.T, atol=1e-4)
    assert (
        project_to_pixels(made.model, torch.eye(made.model.config.d_model)[16:]).abs().max() == 0
    )  # no other direction comes from pixels


def test_virtual_heads_multiply_and_undo_each_other():
    model, batch = model_for("induction 4x4", n=2, norm="none")
    product = compose_virtual_heads(model, 0, 1)
    assert torch.allclose(
        product[1, 0], ov_circuit(model, 0)[1] @ ov_circuit(model, 1)[0], atol=1e-5
    )
    turn = torch.linalg.qr(draw(16, 16)).Q[None]
    there = HeadWeights(turn, turn, turn, torch.eye(16)[None])
    back = there._replace(v=turn.mT.contiguous())
    assert weights.score_virtual_copying(there, back).item() == pytest.approx(1, abs=1e-5)
    minus = there._replace(o=-there.o)
    assert weights.score_virtual_copying(minus, back).item() == pytest.approx(-1, abs=1e-5)
    random = [
        HeadWeights(*(draw(*shape, seed=seed) for shape in [(20, 64, 16)] * 3 + [(20, 16, 64)]))
        for seed in (0, 9)
    ]
    assert weights.score_virtual_copying(*random).abs().mean() < 0.15
    found = ANALYSES["weights"].measure(model, batch, {})["virtual_copying"]
    assert (
        found[0, :, 1].isfinite().all() and found[1].isnan().all() and found[0, :, 0].isnan().all()
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": "causal", "n_registers": 2, "cls_token": True},
        {"d_mlp": 8, "n_idle": 1},
        {"norm": "layer"},
    ],
)
def test_the_hand_built_induction_head_copies_its_labels_and_no_other_head_does(options):
    model, batch, *_ = induction_head(images=128, **options)
    found = weights.measure_label_copying(model, batch, trace(model, batch.images, ["patches"]))
    assert found["copied"][1, 0] == 1 and found["copied_chance"] == pytest.approx(1 / 8)
    assert (found["copied"][0] < 0.5).all() and (found["copied"][1, 1:] < 0.5).all()


def test_random_heads_copy_as_many_labels_as_chance_says():
    config = InductionConfig(rows=3, columns=3, n_items=8, n_labels=16, noise=0)
    shares = []
    for seed in range(3):
        model = half_ignored(seed=seed, n_heads=8).model
        model = replace_head(model, config, seed)
        batch = build_task(config).eval_batch("test", 256, 0)
        found = weights.measure_label_copying(model, batch, trace(model, batch.images, ["patches"]))
        shares.append(found["copied"].mean())
        assert found["copied_chance"] == 1 / 16
    assert torch.stack(shares).mean().item() == pytest.approx(1 / 16, abs=0.04)


def replace_head(model, config, seed):
    """The same weights under a head for another number of labels, which reads everything."""
    made = build_task(config)
    other = empty(made, model.config.d_model, 2, 8, 1, readout="last", cls_token=False)
    state = model.state_dict() | {
        "head.weight": draw(16, model.config.d_model, seed=seed),
        "head.bias": torch.zeros(16),
    }
    other.load_state_dict(state)
    return other


def test_a_vocabulary_is_cells_that_name_their_class():
    batch = build_task(InductionConfig(rows=3, columns=3, n_items=8, n_labels=4)).eval_batch(
        "test", 64, 0
    )
    contents, classes = weights.find_vocabulary(batch)
    assert contents.tolist() == [8, 9, 10, 11] and classes.tolist() == [0, 1, 2, 3]
    assert weights.find_vocabulary(replace(batch, retrieval=None)) is None
    assert (
        weights.find_vocabulary(replace(batch, target=torch.arange(64))) is None
    )  # one content, many answers


@every_shape
def test_the_parts_of_the_scores_sum_to_the_scores(options):
    model, batch = model_for("induction 4x4", **OPTIONS[options])
    parts = split_scores(model, batch.images)
    seen = trace(model, batch.images, ["blocks.0.attn.attn_scores"])["blocks.0.attn.attn_scores"]
    total = torch.stack(list(parts.values())).sum(0)
    assert torch.allclose(total[seen.isfinite()], seen[seen.isfinite()], atol=1e-4)
    shares = measure_score_parts(model, batch)
    assert torch.allclose(
        torch.stack(list(shares.values())).sum(0), torch.ones(model.config.n_heads), atol=1e-5
    )


def test_shares_count_only_keys_that_the_mask_allows():
    """By hand, query by query: what the later patches would score has no part in it."""
    model, batch = model_for("induction 4x4", n=5, **OPTIONS["bare, causal"])
    parts, shares = split_scores(model, batch.images), measure_score_parts(model, batch)
    total = torch.stack(list(parts.values())).sum(0)
    for (asks, answers), part in parts.items():
        together, alone = 0.0, 0.0
        for query in range(model.config.n_tokens):
            one, whole = part[:, 0, query, : query + 1], total[:, 0, query, : query + 1]
            together += (
                ((one - one.mean(-1, keepdim=True)) * (whole - whole.mean(-1, keepdim=True)))
                .sum()
                .item()
            )
            alone += (whole - whole.mean(-1, keepdim=True)).square().sum().item()
        assert shares[f"{asks}_{answers}"][0].item() == pytest.approx(together / alone, abs=1e-4)


def test_purely_positional_and_purely_content_heads():
    """a0.h0 of the induction model reads positions only.

    A head that compares contents reads nothing else.
    """
    for options in (
        {},
        {"mask": "causal"},
        {"cls_token": True, "n_registers": 1, "mask": "local"},
        {"norm": "rms"},
    ):
        model, batch, *_ = induction_head(**options)
        shares = measure_score_parts(model, batch)
        assert shares["position_position"].item() == pytest.approx(1, abs=1e-4)
        assert (
            max(shares[name].abs().item() for name in shares if name != "position_position") < 1e-4
        )
    config = InductionConfig(rows=3, columns=3, n_items=8, n_labels=8, noise=0)
    for name, query, key in (
        ("content_content", 0, 0),
        ("position_content", 16, 0),
        ("content_position", 0, 16),
    ):
        model = empty(build_task(config), 25, 1, 1, 16, readout="last", cls_token=False)
        look(model, 16, slice(0, 16))
        read = torch.eye(model.config.d_model)
        model.positions.copy_(read[16:25])
        write(
            model, 0, 0, read[:, query : query + 9], read[:, key : key + 9], read[:, :16], read[:16]
        )
        assert measure_score_parts(model, batch)[name].item() == pytest.approx(1, abs=1e-4)
    pointer = two_hop_pointer()
    assert measure_score_parts(pointer.model, pointer.batch)[
        "position_position"
    ].item() == pytest.approx(1, abs=1e-4)
    nothing = empty(build_task(config), 25, 1, 1, 16, readout="last", cls_token=False)
    assert measure_score_parts(nothing, batch)["content_content"].isnan().all()


@every_shape
def test_the_softmax_of_centred_scores_is_the_pattern(options):
    model, batch = model_for("markov", **OPTIONS[options])
    seen = traced(model, batch)
    for layer in range(model.config.n_layers):
        scores = seen[f"blocks.{layer}.attn.attn_scores"]
        there = scores.isfinite()
        rows = centre_scores(scores, allowed_keys(model.config))
        assert (
            torch.allclose(rows.sum(-1), torch.zeros(()), atol=1e-4) and (rows[~there] == 0).all()
        )
        again = rows.masked_fill(~there, -torch.inf).softmax(-1)
        assert torch.allclose(again, seen[f"blocks.{layer}.attn.pattern"], atol=1e-5)


@pytest.mark.parametrize("n_prefix", [0, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_scores_of_families_on_planted_and_uniform_scores(n_prefix, causal):
    grid, patches = (3, 4), 12
    tokens = n_prefix + patches
    allowed = (
        torch.ones(tokens, tokens, dtype=torch.bool).tril()
        if causal
        else torch.ones(tokens, tokens, dtype=torch.bool)
    )
    allowed[:n_prefix] = True
    families = attention.list_families(grid)
    flat = torch.full((2, 1, tokens, tokens), 3.0).masked_fill(~allowed, -torch.inf)
    for found in weights.average_advantages(flat, families, n_prefix, allowed).values():
        assert found.abs().max() < 1e-6
    planted = flat.clone()
    planted[:, :, n_prefix:, n_prefix:] += 5 * families["same_row"]  # -inf stays -inf
    found = weights.average_advantages(planted, families, n_prefix, allowed)
    rows = centre_scores(planted, allowed)[0, 0, n_prefix:, n_prefix:]
    expected = rows[families["same_row"] & allowed[n_prefix:, n_prefix:]].mean()
    assert torch.allclose(found["same_row"], expected) and found["same_row"] > 2
    assert found["same_row"] > 1 + max(value for name, value in found.items() if name != "same_row")


def test_the_analysis_of_scores_sees_the_previous_cell_head():
    model, batch, *_ = induction_head(n_idle=1)
    found = weights.measure_scores(model, batch, traced(model, batch))
    assert (
        found[Tagged("advantage", family="previous")][0, 0] > 20
        and found[Tagged("advantage", family="previous")][1, 0] < 5
    )
    nothing = empty(
        build_task(InductionConfig(rows=3, columns=3, n_items=8, n_labels=8, noise=0)),
        8,
        2,
        1,
        8,
        readout="mean",
    )
    assert all(
        value.abs().max() == 0
        for value in weights.measure_scores(nothing, batch, traced(nothing, batch)).values()
    )


def test_layers_that_are_not_there_and_heads_the_wrong_way_round_are_refused():
    model, _ = model_for("classify")
    with pytest.raises(BadInput, match="no layer 9: this model has layers 0 to 1"):
        qk_circuit(model, 9)
    with pytest.raises(BadInput, match="an earlier layer and a later one, got 1 and 0"):
        compose_virtual_heads(model, 1, 0)
