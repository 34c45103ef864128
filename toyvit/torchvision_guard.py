"""Import torchvision beside a CPU-only torch, where the wheel's compiled operators cannot load.

The torchvision wheel on the package index for Linux is built for CUDA. Beside a CPU build of torch
its import fails with "operator torchvision::nms does not exist", and takes pytorch_lightning down
with it. Modules that need either import this one first. Only on that message are the two missing
schemas declared; where the compiled part works this module does nothing but import torchvision.
"""

import sys

import torch

# A library's definitions live as long as the object does.
_declared: list[torch.library.Library] = []

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
        raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    fragment.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    fragment.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(fragment)
    import torchvision  # noqa: F401
