"""Patched forward passes, many places at a time: each starts at the first thing that changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.instruments.attribution import weigh_tokens
from toyvit.model import ViT
from toyvit.model.forward import run_from, trace
from toyvit.model.shapes import Images, Logits
from toyvit.model.taps import editing, untouched

# Sites that can be patched: the axes of the result.
PATCHABLE = {
    "resid_pre": "layer token",
    "attn.q": "layer head token",
    "attn.k": "layer head token",
    "attn.v": "layer head token",
    "attn.pattern": "layer head token",  # one query's row
    "attn.z": "layer head token",
    "attn_out": "layer token",
    "resid_mid": "layer token",
    "mlp_out": "layer token",
    "resid_post": "layer token",
}
# What changes its own token only, within a layer.
WRITTEN = ("attn.z", "attn_out", "resid_mid", "mlp_out", "resid_post")
# The most pictures that run together: memory does not grow with places, and the processor's caches
# hold what is made of them.
STACK = 128


def iterate_patched(
    model: ViT, recipient: Images, donor: Images, site: str
) -> Iterator[tuple[tuple[int, ...], Logits]]:
    """Logits on the recipients with the site's value from the donors at one place after another.

    Gives ((layer, head, token), logits), or ((layer, token), logits) for a site without heads. The
    recipients whose value changes run, those of several tokens together; others answer as ever.
    """
    config = model.config
    streams = ["resid_pre", "resid_post", "attn_out", *(["resid_mid"] if config.d_mlp else [])]
    here = trace(model, recipient, [f"blocks.*.{name}" for name in {site, *streams}])
    there = trace(model, donor, [f"blocks.*.{site}"])
    last = config.n_layers - 1
    is_read = weigh_tokens(model.config).any(0)
    plain = run_from(model, here[f"blocks.{last}.resid_post"], last + 1)

    heads: list[int | None] = [None]
    if "head" in PATCHABLE[site]:
        heads = [*range(config.n_heads)]
    for layer, head in product(range(config.n_layers), heads):
        patch = _Patch(model, here, there, site, layer, head)
        changes = patch.list_changes()
        if layer == last and site in WRITTEN:
            changes = changes[is_read[changes[:, 0]]]  # nobody reads the others

        logits = plain.repeat(config.n_tokens, *[1] * plain.ndim)
        for stack in changes.split(STACK):
            tokens, images = stack.unbind(1)
            logits[tokens, images] = patch.run(tokens, images)
        for token in range(config.n_tokens):
            yield (layer, token) if head is None else (layer, head, token), logits[token]


class _Patch:
    """Values of one layer and head of a site, put in at some tokens of some pictures.

    `here` and `there` are traces of the recipients and of the donors.
    """

    def __init__(
        self,
        model: ViT,
        here: Mapping[str, Tensor],
        there: Mapping[str, Tensor],
        site: str,
        layer: int,
        head: int | None,
    ) -> None:
        self.model = model
        self.here = here
        self.there = there
        self.site = site
        self.layer = layer
        self.head = head
        self.name = f"blocks.{layer}.{site}"

    def choose(self, value: Tensor) -> Float[Tensor, "image token *axes"]:
        """The part of a site's value that the head holds, token by token; it may be written to."""
        if self.head is None:
            return value
        return value[:, self.head] if self.site == "attn.pattern" else value[:, :, self.head]

    def list_changes(self) -> Int[Tensor, "change 2"]:
        """(token, image) wherever the donor's value is another one."""
        own = self.choose(self.here[self.name])
        return (own != self.choose(self.there[self.name])).any(-1).T.nonzero()

    @torch.no_grad()
    def run(self, tokens: Int[Tensor, " change"], images: Int[Tensor, " change"]) -> Logits:
        """Logits of each change by itself."""
        rows = torch.arange(len(tokens))
        if self.site in WRITTEN:
            stream = self.stream("resid_post")[images]
            stream[rows, tokens] = self.write(tokens, images)
            return self.model.answer_from(stream, self.layer + 1)

        value = self.here[self.name][images]
        self.choose(value)[rows, tokens] = self.choose(self.there[self.name])[images, tokens]
        if self.site == "resid_pre":
            return self.model.answer_from(value, self.layer)

        tap = editing({self.name: lambda _: value})
        stream = self.stream("resid_pre")[images]
        stream = self.model.run_blocks(stream, self.layer, tap, stop=self.layer + 1)
        return self.model.answer_from(stream, self.layer + 1)

    def stream(self, name: str) -> Tensor:
        """A value of this layer in the recipients."""
        return self.here[f"blocks.{self.layer}.{name}"]

    def write(self, tokens: Tensor, images: Tensor) -> Float[Tensor, "change model"]:
        """What stands at the changed token behind this layer."""
        own, new = (
            self.choose(values[self.name])[images, tokens] for values in (self.here, self.there)
        )
        block = self.model.layers[self.layer]
        if self.site == "resid_post":
            return new
        if self.site == "mlp_out":
            return self.stream("resid_post")[images, tokens] + (new - own)
        if self.site == "resid_mid":
            return block.continue_after_attention(new, untouched)

        written = new - own
        if self.head is not None:
            written = written @ block.attn.head_weights().o[self.head]
        stream = (self.stream("resid_pre") + self.stream("attn_out"))[images, tokens]
        return block.continue_after_attention(stream + written, untouched)
