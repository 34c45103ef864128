"""Single measures and the battery at a checkpoint, beside loops that others write for a measure.

The measures are of each head (layer head), means over pictures: what it adds to the right logit
over the mean logit, and the entropy of its attention. The loops are Prisma's `run_with_cache` and,
for the first, timm's model with hooks, each with a short reduction by hand. All have the same
weights, and their numbers are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from types import ModuleType

import toyvit.torchvision_guard  # noqa: F401

# isort: split
import torch
from torch import Tensor, nn

from bench.measuring import IMAGES
from bench.timing import Result, interleave
from bench.training import build_timm
from toyvit.analyses import select_analyses
from toyvit.analyses.attention import entropy
from toyvit.analyses.passes import run_pass
from toyvit.data.task import Batch, build_task, resolve_config
from toyvit.instruments.attribution import answer_directions, attribute_sources
from toyvit.measuring import run_analyses
from toyvit.model import ViT
from toyvit.model.mappings.timm import convert_to_timm
from toyvit.recipes import RECIPES

RECIPE = "digits"
SINGLE_BAR = 0.45
BATTERY_BAR = 3.0
TOLERANCE = 1e-5


def build_case() -> tuple[ViT, Batch]:
    """The recipe's model with weights that matter, and pictures of its training set."""
    run = resolve_config(RECIPES[RECIPE]())
    batch = build_task(run.task).eval_batch("train", IMAGES, run.seeds.measure)
    model = ViT(run.model)
    with torch.no_grad():
        model.head.weight.mul_(20)
        model.ln_final.gain.normal_(1, 0.2)
    return model, batch


def find_directions(head: Tensor, gain: Tensor, classes: Tensor) -> Tensor:
    """What a unit of the normed stream adds to each picture's answer, (image, model)."""
    above = (head - head.mean(0)) * gain
    return above[classes]


def attribute(written: Tensor, scale: Tensor, directions: Tensor) -> Tensor:
    """What heads add, (head), of what they write to the token that is read, (image head model)."""
    centred = written - written.mean(-1, keepdim=True)
    return ((centred / scale[:, None]) @ directions[:, :, None])[:, :, 0].mean(0)


# ---- Prisma ----


def find_prisma() -> ModuleType | None:
    """Prisma's module of models; None, said in one line, where it is not installed."""
    try:
        return import_module("vit_prisma.models.base_vit")
    except ImportError as error:
        print(f"no rows beside Prisma: vit-prisma cannot be imported here ({error})")
        return None


def build_prisma(prisma: ModuleType, model: ViT) -> nn.Module:
    """Prisma's HookedViT that computes the same as a model."""
    config = model.config
    shape = prisma.HookedViTConfig.HookedViTConfig(
        n_layers=config.n_layers,
        d_model=config.d_model,
        d_head=config.d_head,
        d_mlp=config.d_mlp,
        n_heads=config.n_heads,
        eps=config.norm_epsilon,
        n_channels=config.stated("n_channels"),
        patch_size=config.stated("patch_size"),
        image_size=config.stated("image_size")[0],
        n_classes=config.stated("n_classes"),
        return_type="logits",
    )
    hooked: nn.Module = prisma.HookedViT(shape)
    hooked.load_state_dict(convert_to_prisma(model))
    return hooked


def convert_to_prisma(model: ViT) -> dict[str, Tensor]:
    """Weights by Prisma's names; it adds a position to the CLS token too, which is 0 here."""
    ours = model.state_dict()
    size = model.config.stated("patch_size")
    patch_shape = (model.config.stated("n_channels"), size, size)
    weights = {
        "cls_token": ours["prefix"][None],
        "embed.proj.weight": ours["patch.weight"].unflatten(1, patch_shape),
        "embed.proj.bias": ours["patch.bias"],
        "pos_embed.W_pos": torch.cat([torch.zeros_like(ours["prefix"]), ours["positions"]]),
        "ln_final.w": ours["ln_final.gain"],
        "ln_final.b": ours["ln_final.bias"],
        "head.W_H": ours["head.weight"].T,
        "head.b_H": ours["head.bias"],
    }

    for layer in range(model.config.n_layers):
        block = f"blocks.{layer}."
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
            weights[f"{block}attn.{name}"] = getattr(model, name)[layer]
        for name in ("W_in", "b_in", "W_out", "b_out"):
            weights[f"{block}mlp.{name}"] = getattr(model, name)[layer]
        for norm in ("ln1", "ln2"):
            weights[f"{block}{norm}.w"] = ours[f"{block}{norm}.gain"]
            weights[f"{block}{norm}.b"] = ours[f"{block}{norm}.bias"]
    return weights


@torch.no_grad()
def attribute_with_prisma(hooked: nn.Module, batch: Batch) -> Tensor:
    """What heads add, (layer head), from Prisma's cache."""
    _, cache = hooked.run_with_cache(batch.images)
    directions = find_directions(hooked.head.W_H.T, hooked.ln_final.w, batch.classes)
    scale = cache["ln_final.hook_scale"][:, 0]
    layers = []
    for layer, block in enumerate(hooked.blocks):
        z = cache[f"blocks.{layer}.attn.hook_z"][:, 0]
        written = torch.einsum("bhf,hfm->bhm", z, block.attn.W_O)
        layers.append(attribute(written, scale, directions))
    return torch.stack(layers)


@torch.no_grad()
def score_entropy_with_prisma(hooked: nn.Module, batch: Batch) -> Tensor:
    """The entropy of heads, (layer head), from Prisma's cache."""
    _, cache = hooked.run_with_cache(batch.images)
    layers = []
    for layer in range(len(hooked.blocks)):
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"]
        layers.append(torch.special.entr(pattern).sum(-1).mean((0, 2)))
    return torch.stack(layers)


# ---- timm, with hooks by hand ----


class Recorder:
    """What goes into each output projection and into the final norm of timm's model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.inputs: list[Tensor] = []
        for module in (*(block.attn.proj for block in model.blocks), model.norm):
            module.register_forward_pre_hook(self.record)

    def record(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.inputs.append(inputs[0][:, 0])

    @torch.no_grad()
    def attribute(self, batch: Batch) -> Tensor:
        """What heads add, (layer head)."""
        model = self.model
        self.inputs.clear()
        model(batch.images)
        *mixed, last = self.inputs
        scale = (last.var(-1, correction=0, keepdim=True) + model.norm.eps).sqrt()
        directions = find_directions(model.head.weight, model.norm.weight, batch.classes)

        layers = []
        for z, block in zip(mixed, model.blocks, strict=True):
            heads = block.attn.num_heads
            output = block.attn.proj.weight.unflatten(1, (heads, -1))
            written = torch.einsum("bhf,mhf->bhm", z.unflatten(1, (heads, -1)), output)
            layers.append(attribute(written, scale, directions))
        return torch.stack(layers)


def build_recorder(model: ViT) -> Recorder:
    """timm's model that computes the same as a model, with hooks."""
    there = build_timm(model.config).eval()
    there.load_state_dict(convert_to_timm(model))
    for module in there.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = model.config.norm_epsilon
    return Recorder(there)


# ---- the lab's own, and comparing ----


def attribute_heads(model: ViT, batch: Batch) -> Tensor:
    """What heads add, (layer head), by the lab."""
    assert batch.classes is not None
    last = model.config.n_layers - 1
    sites = ("blocks.*.attn.pattern", "blocks.*.attn.v", f"blocks.{last}.resid_post")
    trace = run_pass(model, batch.images, sites)
    answers = answer_directions(model, batch.classes)
    layers = range(model.config.n_layers)
    added = [attribute_sources(model, trace, layer, answers) for layer in layers]
    return torch.stack([of_layer.sum((2, 3, 4)).mean(0) for of_layer in added])


def score_entropy(model: ViT, batch: Batch) -> Tensor:
    """The entropy of heads, (layer head), by the lab."""
    trace = run_pass(model, batch.images, ["blocks.*.attn.pattern"])
    return torch.stack([entropy(pattern) for pattern in trace.values()])


OURS = {"attribution": attribute_heads, "entropy": score_entropy}


def list_loops(model: ViT, batch: Batch) -> dict[tuple[str, str], Callable[[], Tensor]]:
    """Loops of others by measure and peer; Prisma's where it is installed."""
    by_hand = "hooks by hand"
    loops = {("attribution", by_hand): partial(build_recorder(model).attribute, batch)}
    prisma = find_prisma()
    if prisma is not None:
        hooked = build_prisma(prisma, model)
        loops["attribution", "Prisma"] = partial(attribute_with_prisma, hooked, batch)
        loops["entropy", "Prisma"] = partial(score_entropy_with_prisma, hooked, batch)
    return loops


def results(repeats: int | None) -> Iterator[Result]:
    model, batch = build_case()
    loops = list_loops(model, batch)
    for (measure, _), loop in loops.items():
        ours = OURS[measure](model, batch)
        torch.testing.assert_close(loop(), ours, rtol=0, atol=TOLERANCE)

    quick = [row for row in select_analyses(None, batch, model) if row.name != "head_ablation"]
    together = f"battery of {len(quick)}"
    jobs: dict[str, Callable[[], object]] = {together: partial(run_analyses, model, batch, quick)}
    jobs |= {measure: partial(compute, model, batch) for measure, compute in OURS.items()}
    jobs |= {f"{measure}, {peer}": loop for (measure, peer), loop in loops.items()}
    times = interleave("loops", jobs, repeats or 21, calls=4)

    for measure, peer in loops:
        bars = {measure: SINGLE_BAR, together: BATTERY_BAR} if peer == "Prisma" else {}
        for job in (measure, together):
            yield Result(
                name=f"{job}, {RECIPE}, {IMAGES} images",
                ours=times[job],
                peer=times[f"{measure}, {peer}"],
                peer_name=f"{measure}, {peer}",
                bar=bars.get(job),
            )
