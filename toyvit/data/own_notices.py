"""What is odd about a user's pictures and does not keep them from being learned."""

from __future__ import annotations

import hashlib

import numpy as np

from toyvit.data.own_pictures import OwnPictures, list_some

USUAL = 3.0  # standardised pixels seldom are further from 0


def list_notices(own: OwnPictures, factor: str) -> list[str]:
    """What is odd about the pictures where this factor is learned, a line each.

    They can be trained on. Factors of one value, classes without a training picture, pictures
    without a counterpart, floats that nobody scaled, pictures that are all the same or in
    training and in test.
    """
    notices = [
        f"factor {name!r} is {value} for every picture: it is left out"
        for name, value in own.constants.items()
    ]
    notices += _describe_absent(own, factor)
    notices += _describe_counterparts(own, factor)
    notices += [*_describe_pixels(own), *_describe_doubles(own)]
    return [f"{own.place}: {notice}" for notice in notices]


def _describe_absent(own: OwnPictures, factor: str) -> list[str]:
    n = own.factors[factor]
    absent = np.setdiff1d(np.arange(n), own.known[factor][own.splits["train"]]).tolist()
    if not absent:
        return []
    if factor == "class" and own.class_names:
        names = [repr(own.class_names[value]) for value in absent]
        return [f"no training picture is of the class {list_some(names)}"]
    return [f"{factor!r} goes from 0 to {n - 1}, but no training picture has {list_some(absent)}"]


def _describe_counterparts(own: OwnPictures, factor: str) -> list[str]:
    if own.others is None:
        return []
    if factor != "class":
        return [f"counterfactuals are of the classes, not of {factor!r}: they are left out"]
    n_alone = np.count_nonzero(own.others == np.arange(own.n))
    return [f"{n_alone} of {own.n} pictures have no counterpart"] if n_alone else []


def _describe_pixels(own: OwnPictures) -> list[str]:
    least, most = own.images.min(), own.images.max()
    if own.images.dtype == np.uint8 or max(-least, most) <= USUAL:
        return []
    return [
        f"images are floats from {least:g} to {most:g}, shown as they are: learning expects "
        "about -1 to 1 (save bytes as uint8, or scale)"
    ]


def _describe_doubles(own: OwnPictures) -> list[str]:
    pictures = own.images[: own.n]
    digests = np.array(
        [hashlib.blake2b(picture, digest_size=16).hexdigest() for picture in pictures]
    )
    if (digests == digests[0]).all():
        return ["all pictures are the same"]

    test = digests[own.splits["test"]]
    n = np.isin(test, digests[own.splits["train"]]).sum()
    if not n:
        return []
    return [f"{n} of {len(test)} test pictures are among the training pictures too"]
