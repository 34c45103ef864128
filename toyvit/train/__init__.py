"""Training: a Run in, a finished run folder out. The only room that imports lightning."""

from toyvit.train.fit import fit

__all__ = ["fit"]
