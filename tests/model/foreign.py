"""Models of other libraries with every weight drawn, and how far this lab's model is from them."""

from __future__ import annotations

import torch

from toyvit.model.taps import recording

SIZES = {"float32": (torch.float32, 1e-5), "float64": (torch.float64, 1e-10)}


def draw_weights(module, seed=0):
    """Draw every weight, gains around 1 and LayerScale around a half; itself, in evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.normal_(0, 0.3, generator=generator)
            if "norm" in name and name.endswith("weight"):
                weight.add_(1)
            if ".ls" in name or "lambda" in name:
                weight.add_(0.5)
    return module.eval()


def record_blocks(module, blocks, images):
    """What a model answers, and what leaves each of its blocks."""
    outputs = []
    hooks = [
        block.register_forward_hook(lambda block, given, out: outputs.append(take_first(out)))
        for block in blocks
    ]
    with torch.no_grad():
        answer = module(images)
    for hook in hooks:
        hook.remove()
    return answer, outputs


def take_first(output):
    return output[0] if isinstance(output, tuple) else output


def find_error(model, images, expected, outputs, site="logits"):
    """The largest difference at the answer and at every block, over the largest entry there."""
    sites = [f"blocks.{layer}.resid_post" for layer in range(len(outputs))]
    tap = recording([*sites, site])
    with torch.no_grad():
        model(images, tap)
    pairs = [(tap.values[site], expected)]
    pairs += [(tap.values[name], out) for name, out in zip(sites, outputs, strict=True)]
    return max(((ours - there).abs().max() / there.abs().max()).item() for ours, there in pairs)
