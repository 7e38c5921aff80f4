"""Feature maps at rising strides from any hierarchical model of timm or ours, for dense prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import LayerNorm2d
from timm.models import group_parameters
from torch import Tensor, nn

from fewpairs.attention import Attention, Softmax, Variant, parse_attention
from fewpairs.cost.tracing import meta_copy
from fewpairs.errors import CheckpointError, InputError, did_you_mean
from fewpairs.models.architectures import swap_every_layer
from fewpairs.models.encoders.base import Encoder
from fewpairs.models.padding import crop, missing, pad_to_multiple
from fewpairs.models.pretrained import LoadReport, load_pretrained
from fewpairs.models.traced_size import hold_traced_size
from fewpairs.models.weights import first_line
from fewpairs.ops.transforms import recorded
from fewpairs.types import Size

EXAMPLES = ("linglo_b0", "pvt_v2_b0", "swin_tiny_patch4_window7_224", "cvt_13", "resnet18")
"""Suggestions for a message about an encoder without a pyramid."""

_NORMED = ("SwinTransformer", "SwinTransformerV2")
"""Models with pre-norm stages and no final norm: their authors put a layer norm on each map that is used."""

_PROBE = (64, 96)
_LEAST = 64
"""Minimum side in pixels, so that batch norm sees more than one position of the coarsest map of a single image."""


class Pyramid(Encoder):
    """Image `[b c H W]` of any size from one pixel on -> maps `[b channels[i] ceil(H/strides[i]) ceil(W/strides[i])]`.

    The finest map comes first. The image is padded below and to the right, by repeating its edge, to multiples of the
    coarsest stride (and to 64 pixels at least); what lies beyond the image is cropped from the maps.

    Args:
        name: name of the model for messages.
        body: image -> maps, with timm's `feature_info`.
        levels: maximum number of maps; the coarsest ones are kept.
        fixed: the only image size (h, w) in pixels that the body takes; None for any.
    """

    def __init__(self, name: str, body: nn.Module, *, levels: int = 4, fixed: Size | None = None) -> None:
        super().__init__()
        self.name, self.body, self.fixed = name, body, fixed
        if fixed is not None:
            hold_traced_size(self)
        info: Any = body.feature_info
        self.channels = tuple(info.channels())[-levels:]
        self.strides = tuple(info.reduction())[-levels:]
        kind = type(_whole(body)).__name__
        self.norms = nn.ModuleList(LayerNorm2d(width) if kind in _NORMED else nn.Identity() for width in self.channels)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, finest first.

        Raises:
            InputError: the model takes only one image size, and this is another.
        """
        height, width = image.shape[-2:]
        padded = self._padded(image)
        maps = self.body(padded)[-len(self.channels) :]
        return tuple(
            crop(norm(x), -(-height // stride), -(-width // stride))
            for norm, x, stride in zip(self.norms, maps, self.strides, strict=True)
        )

    def _padded(self, image: Tensor) -> Tensor:
        if self.fixed is not None:
            if tuple(image.shape[-2:]) != self.fixed:
                raise InputError(
                    f"{self.name} takes only images of {self.fixed[0]}x{self.fixed[1]} pixels, the size that it was "
                    f"made for, but this one has {image.shape[-2]}x{image.shape[-1]}; give that as image_size"
                )
            return image
        coarsest = self.strides[-1]
        image = pad_to_multiple(image, coarsest)
        least = max(_LEAST, 2 * coarsest)
        below, right = (missing(side, least) for side in image.shape[-2:])
        padded = recorded() or below or right
        return nn.functional.pad(image, (0, right, 0, below), mode="replicate") if padded else image

    def layer_prefixes(self) -> list[tuple[str, ...]]:
        model, root = _whole(self.body), "body." if _whole(self.body) is self.body else "body.model."
        if not hasattr(model, "group_matcher"):
            return [(f"{root}{name}.",) for name, _ in model.named_children()]
        groups = group_parameters(model, model.group_matcher(coarse=False))
        return [tuple(root + name for name in names) for _, names in sorted(groups.items())]

    def no_weight_decay(self) -> set[str]:
        model, root = _whole(self.body), "body." if _whole(self.body) is self.body else "body.model."
        # a swap may have removed parameters that the dense model lists
        there = {name for name, _ in model.named_parameters()}
        return {root + name for name in getattr(model, "no_weight_decay", set)() if name in there}

    def load(self, source: str | Path | Mapping[str, Tensor]) -> LoadReport:
        """Load weights of the whole model into the pyramid, see `fewpairs.models.load_pretrained`."""
        return load_pretrained(_whole(self.body), source)


def create_pyramid(
    name: str,
    *,
    attention: Attention | str | None = None,
    in_channels: int = 3,
    drop_path: float = 0.0,
    levels: int = 4,
    image_size: Size | None = None,
    pretrained: str | Path | bool | None = None,
) -> Pyramid:
    """Build the pyramid of a model by its name in timm, which knows ours too.

    Args:
        attention: None, or plain softmax attention, for the architecture as published. Our models take others as an
            argument (CvT then keeps every key if the variant needs them all), timm's by `fewpairs.swap_attention`.
        drop_path: stochastic depth of the last block, rising from 0 at the first.
        levels: maximum number of maps, counted from the coarsest: 4 gives strides 4 to 32 for most models.
        image_size: (h, w) in pixels, for models whose windows or tables are made for one image size.
        pretrained: True for timm's weights, or a file or `timm:NAME.TAG`, see `load_pretrained`.

    Raises:
        InputError: the name is unknown, the model has no pyramid, a number is out of range, some layer cannot have the
            attention, or a model for one image size lacks `image_size`.
        CheckpointError: weights cannot be downloaded, or do not fit.
    """
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"encoder {name!r} is not known; {_hint(name)}")
    for what, value in (("in_channels", in_channels), ("levels", levels)):
        if value < 1:
            raise InputError(f"{name}: {what}={value} must be 1 or more")
    if not 0 <= drop_path < 1:
        raise InputError(f"{name}: drop_path={drop_path} must be from 0 to below 1")
    options: dict[str, Any] = {"in_chans": in_channels}
    if drop_path:
        options["drop_path_rate"] = drop_path
    variant = None if attention is None else parse_attention(attention)
    ours = timm.model_entrypoint(name.partition(".")[0]).__module__.startswith("fewpairs.models.encoders")
    if ours and variant is not None:
        options["attention"] = variant
        if name.startswith("cvt") and any(one.keys_are_queries for one in _each(variant)):
            options["stride_kv"] = 1
    fetch = pretrained is True
    body = _build(name, fetch, options, {"strict_img_size": False})
    _check_levels(name, body)
    fixed = None
    if (why := _refusal(body, _PROBE, in_channels)) is not None:
        fixed = image_size
        body = _for_one_size(name, fetch, options, image_size, why)
    if not ours and variant is not None and variant != Softmax():
        swap_every_layer(_whole(body), variant)
    pyramid = Pyramid(name, body, levels=levels, fixed=fixed)
    if isinstance(pretrained, str | Path):
        pyramid.load(pretrained)
    return pyramid


def _whole(body: nn.Module) -> Any:
    """Return the model inside timm's feature extractor; the extractor itself if it is a truncated model."""
    return getattr(body, "model", body)


def _each(attention: Attention) -> Sequence[Variant]:
    return (attention,) if isinstance(attention, Variant) else attention


def _build(name: str, fetch: bool, options: dict[str, Any], extra: dict[str, Any]) -> nn.Module:
    """Build timm's feature extractor: the whole model if it can return its maps, otherwise a truncated one."""
    failed: Exception | None = None
    for getter in ({"feature_cls": "getter"}, {}):
        for more in (extra, {}):
            try:
                body: nn.Module = timm.create_model(
                    name, pretrained=fetch, features_only=True, **getter, **options, **more
                )
                return body
            except InputError:
                raise
            except Exception as error:  # timm, huggingface_hub and the network raise many kinds
                failed = failed if isinstance(error, TypeError) and failed is not None else error
    if fetch:
        raise CheckpointError(
            f"{name}: timm could not load its weights ({type(failed).__name__}: {first_line(failed or Exception())}); "
            "download the file where there is a network and give its path as pretrained, or leave it out"
        ) from failed
    raise InputError(
        f"encoder {name!r} cannot give maps with {', '.join(f'{key}={value}' for key, value in options.items())} "
        f"({type(failed).__name__}: {first_line(failed or Exception())}); {_hint(name)}"
    ) from failed


def _for_one_size(name: str, fetch: bool, options: dict[str, Any], size: Size | None, why: str) -> nn.Module:
    if size is None:
        raise InputError(
            f"encoder {name!r} takes images of only one size ({why}); give image_size, and images of that size, or "
            f"choose one for any size, such as {', '.join(EXAMPLES)}"
        )
    body = _build(name, fetch, options, {"img_size": size})
    refused = _refusal(body, size, options["in_chans"])
    if refused is not None:
        raise InputError(
            f"encoder {name!r} does not run on {size[0]}x{size[1]} pixels ({refused}); its own size, or multiples of "
            "224, may fit"
        )
    return body


def _refusal(body: nn.Module, size: Size, channels: int) -> str | None:
    """Return why the model does not run on images of this size; None if it does."""
    twin = meta_copy(body).eval()
    try:
        with torch.no_grad():
            maps = twin(torch.empty(1, channels, *size, device="meta"))
        info: Any = body.feature_info
        for x, stride in zip(maps, info.reduction(), strict=True):
            if tuple(x.shape[-2:]) != tuple(-(-side // stride) for side in size):
                return f"its map at stride {stride} has {x.shape[-2]}x{x.shape[-1]} places"
    except (RuntimeError, AssertionError) as error:
        return first_line(error)
    return None


def _check_levels(name: str, body: nn.Module) -> None:
    info: Any = body.feature_info
    strides = list(info.reduction())
    if len(strides) < 2 or strides != sorted(set(strides)):
        raise InputError(
            f"encoder {name!r} has no pyramid: its maps have stride{'s' if len(strides) > 1 else ''} "
            f"{', '.join(map(str, strides))}, where each must be coarser than the one before; choose one such as "
            f"{', '.join(EXAMPLES)}"
        )


def _hint(name: str) -> str:
    close = did_you_mean(name, timm.list_models())
    return f"{close}encoders with a pyramid are such as {', '.join(EXAMPLES)}, and timm.list_models() names all"
