"""Channels, mean and standard deviation of pictures as model inputs: one rule for grey and for colour."""

from __future__ import annotations

from typing import Literal

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from fewpairs.errors import InputError

Values = tuple[float, ...]

GREY_MEAN, GREY_STD = (0.449,), (0.226,)


def check_normalisation(
    channels: int | None, mean: Values | None, std: Values | None
) -> tuple[Values | None, Values | None]:
    """Return mean and standard deviation as floats; None stands for those of ImageNet.

    Raises:
        InputError: the channels are not 1 or 3, or the numbers do not fit them.
    """
    if channels not in (None, 1, 3):
        raise InputError(f"view.channels={channels}: allowed are 1 (grey) and 3 (colour)")
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) not in ({1, 3} if channels is None else {channels}):
            raise InputError(f"view.{name}={list(values)}: give one number for each of {channels or '1 or 3'} channels")
    if std is not None and not all(value > 0 for value in std):
        raise InputError(f"view.std={list(std)}: each is divided by and must be positive")
    return (
        None if mean is None else tuple(float(value) for value in mean),
        None if std is None else tuple(float(value) for value in std),
    )


def complete_normalisation(
    channels: Literal[1, 3] | None, mean: Values | None, std: Values | None, *, stored: int
) -> tuple[Literal[1, 3], Values, Values]:
    """Return channels, mean and standard deviation; None becomes the `stored` channels and the numbers of ImageNet."""
    number: Literal[1, 3] = channels or (1 if stored == 1 else 3)
    if number == 1:
        return number, mean or GREY_MEAN, std or GREY_STD
    return number, mean or IMAGENET_DEFAULT_MEAN, std or IMAGENET_DEFAULT_STD
