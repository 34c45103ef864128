"""What TransformerLens's models have too: weights by its names and shapes, its cache, its hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model.shapes import Images
from toyvit.model.sites import is_old_site, normalize_site, rename_site, select_sites
from toyvit.model.taps import editing, recording

Hook = Callable[..., Tensor | None]


class Cache(dict[str, Tensor]):
    """Recorded values by site; TransformerLens's spellings of a site work too.

    >>> cache = Cache({"blocks.0.attn.pattern": torch.ones(1)})
    >>> cache["blocks.0.attn.hook_pattern"], cache["pattern", 0]
    (tensor([1.]), tensor([1.]))
    """

    def __missing__(self, key: str | tuple[str, int]) -> Tensor:
        if isinstance(key, tuple):
            name, layer = key
            here = [site for site in self if site.startswith(f"blocks.{layer}.")]
            fits = [site for site in here if site.split(".")[-1] == normalize_site(name)]
            if len(fits) == 1:
                return self[fits[0]]
        elif normalize_site(key) in self:
            return self[normalize_site(key)]
        elif is_old_site(key, self):
            return self[rename_site(key)]
        raise KeyError(key)


class TransformerLensViews(nn.Module):
    """Base of `ViT`: its weights, layers stacked, under TransformerLens's names and shapes.

    Weights are for row vectors, x @ W, and gradients flow through them. A bias or a position that
    the model does not have is 0. They are for reading: most are copies of the model's parameters.

    >>> from toyvit.model import ViT
    >>> config = ModelConfig(n_heads=4, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> model.W_Q.shape, model.W_U.shape
    (torch.Size([2, 4, 64, 16]), torch.Size([64, 3]))
    """

    config: ModelConfig
    positions: Tensor | None

    @property
    def W_E(self) -> Float[Tensor, "pixel model"]:
        """The patch embedding: (d_patch, d_model)."""
        return self.get_parameter("patch.weight").T

    @property
    def b_E(self) -> Float[Tensor, " model"]:
        """The patch embedding's bias: (d_model)."""
        return self._get_bias("patch.bias", self.config.bias, self.config.d_model)

    @property
    def W_pos(self) -> Float[Tensor, "patch model"]:
        """Positions added to the patches, learned or fixed: (n_patches, d_model).

        0 where they are added to scores (`attn.pos_bias`), or turn queries and keys (rotary).
        """
        if self.positions is None:
            return self._zeros(self.config.n_patches, self.config.d_model)
        return self.positions

    @property
    def W_Q(self) -> Float[Tensor, "layer head model feature"]:
        """What queries are made with: (layer, head, d_model, d_head)."""
        return self._split_qkv_weight()[0]

    @property
    def W_K(self) -> Float[Tensor, "layer head model feature"]:
        """What keys are made with: (layer, head, d_model, d_head)."""
        return self._split_qkv_weight()[1]

    @property
    def W_V(self) -> Float[Tensor, "layer head model feature"]:
        """What values are made with: (layer, head, d_model, d_head)."""
        return self._split_qkv_weight()[2]

    @property
    def W_O(self) -> Float[Tensor, "layer head feature model"]:
        """What heads write with: (layer, head, d_head, d_model)."""
        pattern = "layer model (head feature) -> layer head feature model"
        return rearrange(self._stack("attn.out.weight"), pattern, head=self.config.n_heads)

    @property
    def b_Q(self) -> Float[Tensor, "layer head feature"]:
        """Biases of queries: (layer, head, d_head)."""
        return self._split_qkv_bias()[0]

    @property
    def b_K(self) -> Float[Tensor, "layer head feature"]:
        """Biases of keys: (layer, head, d_head)."""
        return self._split_qkv_bias()[1]

    @property
    def b_V(self) -> Float[Tensor, "layer head feature"]:
        """Biases of values: (layer, head, d_head)."""
        return self._split_qkv_bias()[2]

    @property
    def b_O(self) -> Float[Tensor, "layer model"]:
        """What attention adds whatever its heads write: (layer, d_model)."""
        config = self.config
        return self._stack_bias("attn.out.bias", config.attention_bias, config.d_model)

    @property
    def W_in(self) -> Float[Tensor, "layer model neuron"]:
        """What MLP units read with: (layer, d_model, d_mlp); BadInput for attention-only models."""
        self._check_mlp("W_in")
        return self._stack("mlp.up.weight").mT

    @property
    def b_in(self) -> Float[Tensor, "layer neuron"]:
        """Biases of MLP units: (layer, d_mlp); BadInput for attention-only models."""
        self._check_mlp("b_in")
        return self._stack_bias("mlp.up.bias", self.config.bias, self.config.d_mlp)

    @property
    def W_out(self) -> Float[Tensor, "layer neuron model"]:
        """What MLP units write: (layer, d_mlp, d_model); BadInput for attention-only models."""
        self._check_mlp("W_out")
        return self._stack("mlp.down.weight").mT

    @property
    def b_out(self) -> Float[Tensor, "layer model"]:
        """What an MLP adds in any case: (layer, d_model); BadInput for attention-only models."""
        self._check_mlp("b_out")
        return self._stack_bias("mlp.down.bias", self.config.bias, self.config.d_model)

    @property
    def W_U(self) -> Float[Tensor, "model label"]:
        """The head, from the read-out to logits: (d_model, n_classes)."""
        return self.get_parameter("head.weight").T

    @property
    def b_U(self) -> Float[Tensor, " label"]:
        """The head's bias: (n_classes)."""
        return self._get_bias("head.bias", self.config.bias, self.W_U.shape[1])

    def run_with_cache(self, images: Images, names: Iterable[str] = ("*",)) -> tuple[Tensor, Cache]:
        """Logits and the values at the chosen sites, as in TransformerLens.

        `names` are sites or shell patterns, with or without `hook_`; BadInput for one that fits
        nothing.
        """
        tap = recording(select_sites(names, self.config))
        return self(images, tap), Cache(tap.values)

    def run_with_hooks(self, images: Images, fwd_hooks: Iterable[tuple[str, Hook]]) -> Tensor:
        """Logits with functions `hook(value, hook=site)` at named sites, as in TransformerLens.

        Several hooks at a site act one after another; None leaves the value as it is.
        """
        hooks: dict[str, list[Hook]] = {}
        for name, hook in fwd_hooks:
            for site in select_sites([name], self.config):
                hooks.setdefault(site, []).append(hook)

        return self(images, editing({site: _chain(site, hooks[site]) for site in hooks}))

    def _zeros(self, *shape: int) -> Tensor:
        return self.get_parameter("patch.weight").new_zeros(shape)

    def _stack(self, name: str) -> Tensor:
        """One parameter of every block: (layer, ...)."""
        layers = range(self.config.n_layers)
        return torch.stack([self.get_parameter(f"blocks.{layer}.{name}") for layer in layers])

    def _stack_bias(self, name: str, exists: bool, width: int) -> Tensor:
        return self._stack(name) if exists else self._zeros(self.config.n_layers, width)

    def _get_bias(self, name: str, exists: bool, width: int) -> Tensor:
        return self.get_parameter(name) if exists else self._zeros(width)

    def _split_qkv_weight(self) -> Float[Tensor, "3 layer head model feature"]:
        pattern = "layer (part head feature) model -> part layer head model feature"
        weight = self._stack("attn.qkv.weight")
        return rearrange(weight, pattern, part=3, head=self.config.n_heads)

    def _split_qkv_bias(self) -> Float[Tensor, "3 layer head feature"]:
        config = self.config
        bias = self._stack_bias("attn.qkv.bias", config.attention_bias, 3 * config.d_model)
        pattern = "layer (part head feature) -> part layer head feature"
        return rearrange(bias, pattern, part=3, head=config.n_heads)

    def _check_mlp(self, name: str) -> None:
        if not self.config.d_mlp:
            raise BadInput(
                f"{name} is the MLPs', and this model is attention-only: it needs --model.d_mlp"
                " above 0"
            )


def _chain(site: str, hooks: list[Hook]) -> Callable[[Tensor], Tensor]:
    """Hooks at one site as one edit."""

    def edit(value: Tensor) -> Tensor:
        for hook in hooks:
            new = hook(value, hook=site)
            value = value if new is None else new
        return value

    return edit
