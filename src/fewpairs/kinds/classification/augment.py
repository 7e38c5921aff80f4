"""Random changes of training pictures, by timm's parts, and the mixing of whole pictures in a batch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from PIL import Image, ImageOps

from fewpairs.errors import InputError
from fewpairs.kinds.classification.view import LabelledView

MixMode = Literal["batch", "pair", "elem"]
ErasingMode = Literal["pixel", "rand", "const"]

_POLICY = re.compile(r"rand(-(m\d+|n\d+|p(\d*\.)?\d+|mstd(\d*\.)?\d+|mmax\d+|inc[01]|t(weights|3aw?)))*")
_RATIO = (3 / 4, 4 / 3)


@dataclass(frozen=True, slots=True)
class Mixing:
    """Pictures of a batch mixed in pairs, each with the one at the other end of the batch, and their labels with them.

    mixup: Zhang et al. 2018 (arXiv 1710.09412); cutmix: Yun et al. 2019 (arXiv 1905.04899); both as timm does it.

    Attributes:
        mixup: alpha of the Beta(alpha, alpha) distribution of the weights; 0 switches mixup off.
        cutmix: the same for the area of the rectangle that is pasted.
        cutmix_minmax: smallest and largest side of that rectangle as a share of the picture's, instead of its area.
        prob: probability of mixing.
        switch: probability of cutmix where both are on.
        mode: one draw for the `batch`, for each `pair`, or for each picture (`elem`).
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    cutmix_minmax: tuple[float, float] | None = None
    prob: float = 1.0
    switch: float = 0.5
    mode: MixMode = "batch"

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)}: give 0 (off) or a positive number")
        for name in ("prob", "switch"):
            _check_probability(name, getattr(self, name))
        if self.cutmix_minmax is not None:
            object.__setattr__(self, "cutmix_minmax", tuple(self.cutmix_minmax))
            if len(self.cutmix_minmax) != 2 or not 0 < self.cutmix_minmax[0] < self.cutmix_minmax[1] < 1:
                raise InputError(f"cutmix_minmax={self.cutmix_minmax}: give two shares, 0 < smallest < largest < 1")
            if self.cutmix == 0:
                raise InputError(f"cutmix_minmax={self.cutmix_minmax} is for cutmix, which cutmix=0 switches off")
        if self.mixup == 0 and self.cutmix == 0:
            raise InputError("mixup=0 and cutmix=0 mix nothing; leave the mixing out")
        if self.mode not in get_args(MixMode):
            raise InputError(f"mode={self.mode!r}: allowed are {', '.join(get_args(MixMode))}")


@dataclass(frozen=True, slots=True)
class LabelledAugment:
    """Random changes of a training picture, in this order; 0 or None switches one off.

    Attributes:
        scale: smallest and largest share of the area that a random crop keeps before it is resized to the model's size;
            None: no such crop, the picture is resized and cropped as for evaluation.
        ratio: smallest and largest aspect (width by height) of that crop.
        padding: pixels added on every side, out of which a crop of the model's size is taken; only without `scale`.
        flip: probability of a left-right flip.
        policy: RandAugment in timm's words: `rand-m9-mstd0.5-inc1` has magnitude 9 with standard deviation 0.5 and
            operations that grow with it, two for each picture (`-n2`), each applied half of the time (`-p0.5`).
        jitter: largest relative change of brightness, contrast and saturation.
        erasing: probability that a rectangle is erased (2 to 33% of the area).
        erasing_mode: it is filled with noise (`pixel`), with one random colour (`rand`) or with the mean (`const`).
        mixing: mixing of whole pictures in a batch.
    """

    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] = _RATIO
    padding: int = 0
    flip: float = 0.5
    policy: str | None = None
    jitter: float = 0.0
    erasing: float = 0.0
    erasing_mode: ErasingMode = "pixel"
    mixing: Mixing | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.scale is not None and not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            raise InputError(f"scale={self.scale}: give two shares of the area, 0 < smallest <= largest <= 1")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise InputError(f"ratio={self.ratio}: give the smallest and the largest aspect, both positive")
        if self.padding < 0:
            raise InputError(f"padding={self.padding}: give 0 (off) or a number of pixels")
        if self.padding and self.scale is not None:
            raise InputError(f"padding={self.padding} and scale={list(self.scale)} are two crops; give one of them")
        if self.scale is None and self.ratio != _RATIO:
            raise InputError(f"ratio={list(self.ratio)} is for the crop that scale=null switches off; leave it out")
        for name in ("flip", "erasing"):
            _check_probability(name, getattr(self, name))
        if self.policy is not None and not _POLICY.fullmatch(self.policy):
            raise InputError(
                f"policy={self.policy!r} is no RandAugment that timm reads; an example: rand-m9-mstd0.5-inc1"
            )
        if not 0 <= self.jitter < math.inf:
            raise InputError(f"jitter={self.jitter}: give 0 (off) or a positive number")
        if self.erasing_mode not in get_args(ErasingMode):
            raise InputError(f"erasing_mode={self.erasing_mode!r}: allowed are {', '.join(get_args(ErasingMode))}")


def deit_augment() -> LabelledAugment:
    """Return the effective augmentation of DeiT (Touvron et al. 2021, arXiv 2012.12877).

    Its table also has a colour jitter of 0.4, but timm, which its script uses, leaves jitter out beside RandAugment.
    Label smoothing of 0.1 belongs to the task, and repeated augmentation to the order of the images.
    """
    return LabelledAugment(policy="rand-m9-mstd0.5-inc1", erasing=0.25, mixing=Mixing())


def small_augment(padding: int = 4) -> LabelledAugment:
    """Return the augmentation of small images such as CIFAR (He et al. 2016): crops of the padded image, and flips."""
    return LabelledAugment(scale=None, padding=padding)


@lru_cache(maxsize=8)
def training_transform(view: LabelledView, augment: LabelledAugment) -> Callable[[Image.Image], Any]:
    """Return the training transform from a picture to `[c H W]`; all fields of `view` must be set.

    It draws from the global generators of Python, NumPy and PyTorch.
    """
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.random_erasing import RandomErasing
    from timm.data.transforms import RandomResizedCropAndInterpolation, str_to_pil_interp
    from timm.data.transforms_factory import transforms_imagenet_eval
    from torchvision import transforms

    steps: list[Any] = []
    if augment.scale is not None:
        crop = RandomResizedCropAndInterpolation(view.size, augment.scale, augment.ratio, view.interpolation)
        crop.get_params = _box
        steps.append(crop)
    else:
        whole = transforms_imagenet_eval(
            view.size,
            crop_pct=view.crop_pct,
            crop_mode=view.crop_mode,
            interpolation=view.interpolation,
            mean=view.mean,
            std=view.std,
        )
        steps += whole.transforms[:-2]
    if augment.padding:
        steps.append(transforms.RandomCrop(view.size, padding=augment.padding))
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip(augment.flip))
    if augment.policy:
        filled = {
            "translate_const": int(min(view.size) * 0.45),
            "img_mean": tuple(min(255, round(255 * value)) for value in view.mean or ()),
            "interpolation": str_to_pil_interp(view.interpolation),
        }
        policy = rand_augment_transform(augment.policy, filled)
        for operation in policy.ops:
            if operation.name.startswith("Posterize"):
                operation.aug_fn = _posterize
        steps.append(policy)
    if augment.jitter:
        steps.append(transforms.ColorJitter(augment.jitter, augment.jitter, augment.jitter))
    steps += [transforms.ToTensor(), transforms.Normalize(view.mean, view.std)]
    if augment.erasing:
        steps.append(RandomErasing(augment.erasing, mode=augment.erasing_mode, device="cpu"))
    return transforms.Compose(steps)


def _box(image: Image.Image, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return the random crop of timm (top, left, height, width), but never an empty one, which would be black."""
    from timm.data.transforms import RandomResizedCropAndInterpolation

    top, left, height, width = RandomResizedCropAndInterpolation.get_params(image, scale, ratio)
    return min(top, image.height - 1), min(left, image.width - 1), max(height, 1), max(width, 1)


def _posterize(image: Image.Image, bits: int, *, fillcolor: object, resample: object) -> Image.Image:
    """Replace the operation of timm by one that gives a black picture for 0 bits.

    At its largest magnitude timm asks for 0 bits, for which Pillow up to 12 gave black and Pillow 13 raises an error.
    """
    if bits == 0:
        return Image.new(image.mode, image.size)
    return image if bits >= 8 else ImageOps.posterize(image, bits)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name}={value}: a probability lies between 0 and 1")
