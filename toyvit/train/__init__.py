"""Training: a config in, a finished run folder out.

The only room that imports lightning, behind the torchvision guard.
"""

from toyvit import torchvision_guard  # noqa: F401  # isort: split
from toyvit.train.launchers import hide_launchers

with hide_launchers():  # Lightning reads them when it is imported
    from toyvit.train.fit import fit
    from toyvit.train.replay import replay

__all__ = ["fit", "replay"]
