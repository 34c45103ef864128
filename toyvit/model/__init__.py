"""The vision transformer and its options."""

from toyvit.config import ModelConfig
from toyvit.model.vit import ViT

__all__ = ["ModelConfig", "ViT"]
