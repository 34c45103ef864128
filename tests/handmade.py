"""Models built by hand: real `ViT`s whose every weight is written down, their circuits known.

The residual stream is cut into named subspaces (`spaces`), one-hot codes live in them, and a head
is four matrices that say which subspace its queries, keys and values read and which one it writes
to. There is no training, and no norm where none is asked for (`norm="layer"`: see `with_norm`).

Which edges are true depends on what stands in for what an edge carried. An edge is true where, in
the run on the batch, giving its receiver what the sender says in another run moves some logit:

- `edges`: the other run sees the pictures of the batch in another order, any picture for any other;
- `pair_edges`: it sees the counterfactual pictures of the batch in which the query, or the pointer,
  is another;
- `zero_edges`: the sender says nothing at all (not claimed with a norm, whose scale rests on what
  `input` says).

What carries only positions, or CLS, is the same in every picture: it shows under `zero_edges`
alone. Names: nodes `input`, `a0.h1` (a head), `m0` (an MLP), `logits`; edges `input->a0.h0<q>`
(what its queries read; `<k>`, `<v>` likewise), `a0.h0->a1.h0<k>`, `input->m0`, `a1.h0->logits`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toyvit.config import InductionConfig, ModelConfig, PointersConfig
from toyvit.data.task import Batch, Counterfactual, build_task
from toyvit.data.worlds.glyphs.world import draw_glyph_bank
from toyvit.model import ViT

SHARP = 30.0  # how far the score of the right key stands above the others'
GAIN = 20.0  # logit of the right answer; all others are 0
# Of every token, in two coordinates that nobody reads: what a norm's scale then is made of.
ANCHOR = 1000.0


class Handmade(NamedTuple):
    model: ViT
    batch: Batch
    edges: frozenset[str]
    pair_edges: frozenset[str]
    zero_edges: frozenset[str]


def induction_head(
    task_config: InductionConfig | None = None,
    *,
    n_idle: int = 0,
    images: int = 64,
    norm: str = "none",
    **options: Any,
) -> Handmade:
    """Two attention-only layers that answer the `induction` task, one working head in each.

    Subspaces: `content` (which glyph a cell shows), `position` (which cell it is), `before` (which
    glyph the cell before it shows; empty in the picture), `answer`, and `unread`, where CLS and
    registers keep noise that nobody reads.

    | head  | queries read | keys read          | so it looks at           | it copies             |
    |-------|--------------|--------------------|--------------------------|-----------------------|
    | a0.h0 | own position | position, plus one | the cell before          | `content` to `before` |
    | a1.h0 | own content  | `before`           | what followed this glyph | `content` to `answer` |

    The link between the two is K-composition: a1.h0's keys read what a0.h0 wrote. The first cell
    has nobody before it; under the causal mask it can only look at itself, and would seem to follow
    itself: the keys of a1.h0 subtract 1 there. (Without that, half of the attention would go there
    when the query is the first item: a smaller logit, the same answer.)

    `n_idle` heads more a layer have random queries, keys and values and write nothing (W_O = 0); an
    MLP (`d_mlp=8`) has a random first matrix and a second one of zeros. `mask`, `cls_token`,
    `n_registers`: any; what they add is not used.
    """
    config = task_config or InductionConfig(rows=3, columns=3, n_items=8, n_labels=8, noise=0)
    made = build_task(config)
    n_patches, n_glyphs = config.rows * config.columns, config.n_items + config.n_labels
    at, width = spaces(
        content=n_glyphs, position=n_patches, before=n_glyphs, answer=config.n_labels, unread=4
    )
    model = empty(
        made,
        width,
        2,
        1 + n_idle,
        max(n_glyphs, n_patches),
        **{"readout": "last", "cls_token": False, **options},
    )
    read = torch.eye(model.config.d_model)
    look(model, config.n_items + config.n_labels, at["content"])
    model.positions.copy_(read[at["position"]])
    model.prefix[:, at["unread"]] = torch.randn(
        model.config.n_prefix, 4, generator=torch.Generator().manual_seed(1)
    )

    content, position, before = (read[:, at[name]] for name in ("content", "position", "before"))
    one_back = position[:, 1:], position[:, :-1]  # cell i asks for cell i - 1
    write(model, 0, 0, *one_back, content, read[at["before"]])
    item, follows = content[:, : config.n_items], before[:, : config.n_items] - position[:, :1]
    write(model, 1, 0, item, follows, content[:, config.n_items :], read[at["answer"]])
    model.head.weight.copy_(GAIN * read[at["answer"]])
    idle(model)

    carried = {
        "input->a0.h0<v>",
        "a0.h0->a1.h0<k>",
        "input->a1.h0<q>",
        "input->a1.h0<v>",
        "a1.h0->logits",
    }
    follows_itself = (
        model.config.mask == "causal" and n_patches % 2
    )  # with an even number of cells the first is blank
    constant = {"input->a0.h0<q>", "input->a0.h0<k>"} | (
        {"input->a1.h0<k>"} if follows_itself else set()
    )
    return Handmade(
        with_norm(model, norm),
        made.eval_batch("test", images, 0),
        edges=frozenset(carried),
        pair_edges=frozenset(
            {"input->a1.h0<q>", "a1.h0->logits"}
        ),  # another query: all that was read before it stays
        zero_edges=frozenset(carried | constant),
    )


def two_hop_pointer(
    task_config: PointersConfig | None = None,
    *,
    n_idle: int = 0,
    images: int = 64,
    norm: str = "none",
    **options: Any,
) -> Handmade:
    """Three attention-only layers that answer the `pointers` task with two hops, one hop a layer.

    Subspaces: `content` (the number a cell shows), `position`, `cls` (1 at CLS, 0 elsewhere),
    `pointer` (the number in the first cell), `there` (the number that it points to), `answer`.

    | head  | queries read | keys read      | so CLS looks at          | it copies              |
    |-------|--------------|----------------|--------------------------|------------------------|
    | a0.h0 | `cls`        | first position | the pointer              | `content` to `pointer` |
    | a1.h0 | `pointer`    | positions      | the block it names       | `content` to `there`   |
    | a2.h0 | `there`      | positions      | the block that one names | `content` to `answer`  |

    All links are Q-composition. Patches run the same heads on empty subspaces; nobody reads what
    they find.
    """
    config = task_config or PointersConfig(hops=2, n_values=4, rows=2, columns=3, noise=0)
    made, n, n_patches = build_task(config), config.n_values, config.rows * config.columns
    at, width = spaces(content=n, position=n_patches, cls=1, pointer=n, there=n, answer=n)
    model = empty(made, width, 3, 1 + n_idle, n, **{"readout": "cls", "cls_token": True, **options})
    read = torch.eye(model.config.d_model)
    look(model, n, at["content"])
    model.positions.copy_(read[at["position"]])
    model.prefix[0, at["cls"]] = 1

    content, position = read[:, at["content"]], read[:, at["position"]]
    blocks = position[:, 1 : 1 + n]
    write(model, 0, 0, read[:, at["cls"]], position[:, :1], content, read[at["pointer"]])
    write(model, 1, 0, read[:, at["pointer"]], blocks, content, read[at["there"]])
    write(model, 2, 0, read[:, at["there"]], blocks, content, read[at["answer"]])
    model.head.weight.copy_(GAIN * read[at["answer"]])
    idle(model)

    chain = {"input->a0.h0<v>", "a0.h0->a1.h0<q>", "a1.h0->a2.h0<q>", "a2.h0->logits"}
    carried = chain | {"input->a1.h0<v>", "input->a2.h0<v>"}
    constant = {"input->a0.h0<q>", *(f"input->a{layer}.h0<k>" for layer in range(3))}
    batch = made.eval_batch("test", images, 0)
    return Handmade(
        with_norm(model, norm),
        batch,
        frozenset(carried),
        frozenset(chain),
        frozenset(carried | constant),
    )


def half_ignored(
    *, n_layers: int = 2, n_heads: int = 4, d_mlp: int = 0, images: int = 64, seed: int = 0
) -> Handmade:
    """Random weights in which half of the heads talk to nobody who is heard.

    The stream has two halves, heard and unheard. The picture is written to both. Heads of the lower
    half of each layer, and the MLP of the first layer, read and write the heard half; the other
    heads, and the MLPs of later layers, read everything and write only to the unheard half, which
    the head and the heard heads do not read. So what the unheard write reaches only the unheard:
    every edge from or into one of them is provably ignored, and every other edge carries something.
    With one layer and no MLP exactly half of the edges from or to heads are true.

    There is no right answer: the batch's targets are what the model says of its pictures (and of
    the counterfactual ones); only pictures whose two answers differ are kept.
    """
    made = build_task(InductionConfig(rows=3, columns=3, n_items=8, n_labels=8, noise=0))
    model = empty(
        made, 12 * n_heads, n_layers, n_heads, 12, readout="last", cls_token=False, d_mlp=d_mlp
    )
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.ndim > 1 and weight.numel():
            weight.copy_(
                2 * torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5
            )
    unheard, half = model.config.d_model // 2, n_heads // 2
    model.head.weight[:, unheard:] = 0
    for layer, block in enumerate(model.blocks):
        parts = block.attn.qkv.weight.view(3, n_heads, model.config.d_head, -1)
        parts[:, :half, :, unheard:] = 0
        written = block.attn.out.weight.view(-1, n_heads, model.config.d_head)
        written[unheard:, :half] = 0
        written[:unheard, half:] = 0
        if d_mlp and layer == 0:
            block.mlp.up.weight[:, unheard:], block.mlp.down.weight[unheard:] = 0, 0
        elif d_mlp:
            block.mlp.down.weight[:unheard] = 0

    cache = [("input", -1.0)] + [
        (f"a{layer}.h{head}", layer) for layer in range(n_layers) for head in range(half)
    ]
    cache += [("m0", 0.5)] if d_mlp else []
    edges = {f"{sender}->logits" for sender, _ in cache}
    for sender, early in cache:
        for receiver, late in cache:
            if early < late:
                edges |= {
                    f"{sender}->{receiver}{part}"
                    for part in (("<q>", "<k>", "<v>") if receiver[0] == "a" else ("",))
                }
    return Handmade(
        model, _own_answers(model, made.eval_batch("test", images, 0)), *[frozenset(edges)] * 3
    )


def spaces(**widths: int) -> tuple[dict[str, slice], int]:
    """Named subspaces of the stream, one after the other, and the width they take."""
    at, end = {}, 0
    for name, width in widths.items():
        at[name] = slice(end, end + width)
        end += width
    return at, end


@torch.no_grad()
def empty(made: Any, width: int, n_layers: int, n_heads: int, d_head: int, **options: Any) -> ViT:
    """A model without norm, every weight 0, at least `width` wide, its heads at least `d_head`."""
    config = ModelConfig(
        n_layers=n_layers,
        n_heads=n_heads,
        d_model=n_heads * max(d_head, math.ceil(width / n_heads)),
        norm="none",
        image_size=made.world.image_size,
        patch_size=made.world.patch_size,
        n_channels=made.world.n_channels,
        n_classes=made.n_classes,
    )
    model = ViT(replace(config, **options)).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.zero_()
    return model


def look(model: ViT, n_glyphs: int, space: slice) -> None:
    """The patch embedding that turns glyph number g into one-hot g.

    The bank's pseudo-inverse: its glyphs are independent.
    """
    glyphs = torch.from_numpy(draw_glyph_bank(n_glyphs)).flatten(1)
    model.patch.weight[space] = torch.linalg.pinv(glyphs.double()).T.float()


def write(
    model: ViT, layer: int, head: int, query: Tensor, key: Tensor, value: Tensor, output: Tensor
) -> None:
    """A head whose scores are SHARP (x query)(y key)^T and which writes (y value) output.

    For row vectors x and y.
    """
    attention, d_head = model.blocks[layer].attn, model.config.d_head
    packed = attention.qkv.weight.view(3, model.config.n_heads, d_head, -1)
    for part, matrix in enumerate((SHARP * d_head**0.5 * query, key, value)):
        packed[part, head, : matrix.shape[1]] = matrix.T
    written = attention.out.weight.view(-1, model.config.n_heads, d_head)
    written[:, head, : len(output)] = output.T


def idle(model: ViT) -> None:
    """Heads after the first look around at random and write nothing; so do the MLPs."""
    generator = torch.Generator().manual_seed(2)
    for block in model.blocks:
        others = block.attn.qkv.weight.view(3, model.config.n_heads, model.config.d_head, -1)[:, 1:]
        others.normal_(0, 0.5, generator=generator)
        if model.config.d_mlp:
            block.mlp.up.weight.normal_(0, 0.5, generator=generator)


@torch.no_grad()
def with_norm(model: ViT, norm: str) -> ViT:
    """The same model with norms that change nothing, to about one part in a million.

    Three coordinates more: every token carries +1000 and -1000 in two of them, so that the norm's
    scale is 1000 sqrt(2 / d) whatever else it carries, and that is the gain; the third takes minus
    the sum of all that is written: means are 0.
    """
    if norm == "none":
        return model
    old, n_heads = model.config, model.config.n_heads
    d_model = n_heads * math.ceil((old.d_model + 3) / n_heads)
    new = ViT(replace(old, norm=norm, d_model=d_model)).eval().requires_grad_(False)
    for name, weight in new.named_parameters():
        if name.endswith("gain"):
            weight.fill_(ANCHOR * (2 / d_model) ** 0.5)
        elif "attn" not in name and "ln" not in name:
            small = model.get_parameter(name)
            weight.zero_()[tuple(slice(0, size) for size in small.shape)] = small
    for block, other in zip(new.blocks, model.blocks, strict=True):
        block.attn.qkv.weight.zero_(), block.attn.out.weight.zero_()
        packed = other.attn.qkv.weight.view(3, n_heads, old.d_head, old.d_model).clone()
        packed[0] *= (
            new.config.d_head / old.d_head
        ) ** 0.5  # scores are divided by the root of the head's width
        block.attn.qkv.weight.view(3, n_heads, -1, d_model)[:, :, : old.d_head, : old.d_model] = (
            packed
        )
        out = other.attn.out.weight.view(old.d_model, n_heads, old.d_head)
        block.attn.out.weight.view(d_model, n_heads, -1)[: old.d_model, :, : old.d_head] = out
    written = [
        new.patch.weight,
        new.patch.bias,
        new.positions.T,
        new.prefix.T,
        *(block.attn.out.weight for block in new.blocks),
    ]
    written += [
        weight
        for block in new.blocks
        if old.d_mlp
        for weight in (block.mlp.down.weight, block.mlp.down.bias)
    ]
    for weight in written:
        weight[old.d_model] = -weight[: old.d_model].sum(0)
    for tokens in (new.positions, new.prefix):
        tokens[:, old.d_model + 1], tokens[:, old.d_model + 2] = ANCHOR, -ANCHOR
    return new


def _own_answers(model: ViT, batch: Batch) -> Batch:
    assert batch.counterfactuals is not None and batch.content is not None
    images, others = batch.images, batch.counterfactuals["query"].images
    words, said_of_others = model(images).argmax(1), model(others).argmax(1)
    keep = words != said_of_others
    return Batch(
        images=images[keep],
        target=words[keep],
        content=batch.content[keep],
        counterfactuals={"query": Counterfactual(others[keep], said_of_others[keep])},
    )
