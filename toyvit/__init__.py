"""ToyViT: a training and circuits lab for tiny vision transformers."""

__version__ = "0.1.0"
