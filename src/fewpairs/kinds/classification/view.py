"""Deterministic conversion of a picture to a model input: resize, crop, normalise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from PIL import Image
from torch import Tensor

from fewpairs.data.normalisation import check_normalisation, complete_normalisation
from fewpairs.data.pictures import as_channels
from fewpairs.errors import DataError, InputError
from fewpairs.types import Size

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class LabelledView:
    """Model input of a picture, equal to the evaluation transform of timm.

    Attributes:
        size: height and width of the model's input in pixels.
        channels: 1 (grey) or 3 (colour), to which every picture is converted; None: as in the data set.
        mean, std: of each channel in 0..1, subtracted and divided by; None: those of ImageNet, averaged for grey.
        crop_pct: share of the resized picture's sides that the crop keeps: 0.875 resizes to 256 for a crop of 224.
        crop_mode: `center` keeps the aspect and cuts off what is too long; `squash` changes the aspect and `border`
            adds a border of the mean colour, so that nothing is cut off with crop_pct 1.
        interpolation: interpolation of all resizing, also in training.
    """

    size: Size = (224, 224)
    channels: Literal[1, 3] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float = 0.875
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or any(length < 1 for length in self.size):
            raise InputError(f"size={self.size}: give height and width, each at least 1 pixel")
        mean, std = check_normalisation(self.channels, self.mean, self.std)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"crop_pct={self.crop_pct}: the share that a crop keeps is above 0 and at most 1")
        for name, allowed in (("crop_mode", get_args(CropMode)), ("interpolation", get_args(Interpolation))):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}={getattr(self, name)!r}: allowed are {', '.join(allowed)}")

    def with_channels(self, channels: int) -> LabelledView:
        """Return the view with all fields set, for a data set of `channels` channels.

        Raises:
            InputError: mean or std have another number of channels.
        """
        number, mean, std = complete_normalisation(self.channels, self.mean, self.std, stored=channels)
        return LabelledView(self.size, number, mean, std, self.crop_pct, self.crop_mode, self.interpolation)

    def apply(self, image: Image.Image) -> Tensor:
        """Convert a picture to `[c H W]` float32 at the size of the model, with 3 channels by default.

        Raises:
            DataError: the picture is so long and thin that nothing of it would be left.
        """
        view = self._closed()
        try:
            tensor: Tensor = _evaluation(view)(as_channels(image, view.channels or 3))
        except ValueError as error:
            raise DataError(
                f"a picture of {image.height} x {image.width} pixels cannot be brought to {self.size[0]} x "
                f"{self.size[1]} with crop_mode={self.crop_mode!r} ({error})"
            ) from None
        return tensor

    def tensor(self, image: Image.Image) -> Tensor:
        """Convert and normalise a picture at its own size to `[c h w]` float32."""
        from torchvision.transforms import functional

        view = self._closed()
        pixels = functional.to_tensor(as_channels(image, view.channels or 3))
        tensor: Tensor = functional.normalize(pixels, view.mean, view.std)
        return tensor

    def _closed(self) -> LabelledView:
        return self.with_channels(3) if None in (self.channels, self.mean, self.std) else self


@lru_cache(maxsize=8)
def _evaluation(view: LabelledView) -> Callable[[Image.Image], Any]:
    from timm.data.transforms_factory import transforms_imagenet_eval

    transform: Callable[[Image.Image], Any] = transforms_imagenet_eval(
        view.size,
        crop_pct=view.crop_pct,
        crop_mode=view.crop_mode,
        interpolation=view.interpolation,
        mean=view.mean,
        std=view.std,
    )
    return transform
