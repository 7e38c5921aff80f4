"""Opens a model by its name in fewpairs or timm, with attention that can be inspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from fewpairs.attention import Core, parse_attention
from fewpairs.errors import CheckpointError, InputError, nearest
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.models import ENCODERS, MODELS, create_encoder, create_segmenter, load_pretrained
from fewpairs.models.classifiers import CLASSIFIERS, create_classifier
from fewpairs.models.weights import first_line, read_weights
from fewpairs.swap import swap_attention
from fewpairs.types import Size

Spec = str | Mapping[str, Any] | Sequence[Any]
"""What `fewpairs.attention.parse_attention` reads."""

_FETCH = "download the file where there is a network, and give its path as the weights (--weights FILE)"


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model that `inspect_attention` can inspect."""

    model: nn.Module
    weights: str
    """A sentence that says where the weights come from."""
    untrained: bool
    view: LabelledView
    """How a picture becomes the model's input."""


def open_model(
    name: str,
    attention: Spec | None = None,
    *,
    size: Size | None = None,
    classes: int | None = None,
    channels: int = 3,
    pretrained: bool = False,
    weights: Path | None = None,
    seed: int = 0,
) -> OpenedModel:
    """A model by its name in `fewpairs models` or in timm, in evaluation mode on the CPU, with `attention` inside.

    Args:
        attention: as in `fewpairs.attention.parse_attention`; "knn" uses the k of a classifier's own row. None means
            k-NN, key-only for a LinGlo, and no change for a timm model that has fewpairs' attention already.
        size: height and width in pixels of the input; the model's own by default.
        classes: outputs; the model's own number by default.
        channels: channels of the input.
        pretrained: whether to download timm's weights.
        weights: a file of weights to load.
        seed: seed of the random weights that are used where none are loaded.

    Raises:
        InputError: the name or attention is unknown, the model cannot have this size, or its layers cannot be swapped.
        CheckpointError: the weights cannot be downloaded or read, or belong to another model.
    """
    if pretrained and weights is not None:
        raise InputError("pretrained and weights are two sources of weights; leave one of them out")
    torch.manual_seed(seed)
    wish = _Request(attention, size, classes, channels)
    own = name in CLASSIFIERS or name in MODELS or name in ENCODERS
    if name in CLASSIFIERS:
        model, size = _classifier(name, wish, pretrained)
    elif own:
        if pretrained:
            raise CheckpointError(f"{name}: there are no weights to fetch; {_FETCH}")
        model, size = _own(name, wish)
    else:
        model, size = _from_timm(name, wish, pretrained)
    source = f"Random, drawn with seed {seed}: the model is not trained."
    if weights is not None:
        missing = load_pretrained(model, weights, strict_shapes=True).new if own else _fill(model, weights)
        source = f"From {weights}" + (f"; not in it, and random: {_some(missing)}." if missing else ".")
    elif pretrained:
        source = "Pretrained, fetched by timm."
    if not own:
        replace_attention(model, attention)
    return OpenedModel(model.eval(), source, not pretrained and weights is None, view_of(model, size))


@dataclass(frozen=True, slots=True)
class _Request:
    """The user's choices for a named model."""

    attention: Spec | None
    size: Size | None
    classes: int | None
    channels: int


def replace_attention(model: nn.Module, attention: Spec | None) -> None:
    """Replaces a model's attention. None keeps attention that can be inspected, and puts k-NN in place of any other.

    Raises:
        InputError: the attention is unknown, or the model cannot have it.
    """
    present = [module.variant for module in model.modules() if isinstance(module, Core)]
    if attention is None and present:
        return
    variant = parse_attention(attention or "knn")
    if not present or any(one != variant for one in present):
        swap_attention(model, variant)


def input_channels(model: nn.Module) -> int:
    """The number of image channels that a model's first convolution takes.

    Raises:
        InputError: the model has no convolution.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise InputError(f"{type(model).__name__} has no convolution that takes an image in")


def view_of(model: nn.Module, size: Size) -> LabelledView:
    """A view of the largest centred part of a picture, normalised as timm does for this model or as for ImageNet.

    Raises:
        InputError: the model takes neither grey nor colour images.
    """
    channels = input_channels(model)
    if channels not in (1, 3):
        raise InputError(f"the model takes images of {channels} channels; pictures have 1 or 3")
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    mean, std = config.get("mean"), config.get("std")
    known = mean is not None and std is not None and len(mean) == len(std) == channels
    view = LabelledView(size=size, mean=mean if known else None, std=std if known else None, crop_pct=1.0)
    return view.with_channels(channels)


def _classifier(name: str, wish: _Request, pretrained: bool) -> tuple[nn.Module, Size]:
    default = CLASSIFIERS[name].default_attention
    default = "knn" if default == "softmax" else default
    asked = default if wish.attention is None else wish.attention
    attention = asked if asked == "knn" else parse_attention(asked)
    model = create_classifier(
        name,
        attention=attention,
        classes=1000 if wish.classes is None else wish.classes,
        in_channels=wish.channels,
        image_size=wish.size,
        pretrained=pretrained,
    )
    return model, wish.size or CLASSIFIERS[name].image_size


def _own(name: str, wish: _Request) -> tuple[nn.Module, Size]:
    variant = parse_attention(wish.attention or "knn")
    if name in ENCODERS:
        size = wish.size or ENCODERS[name].image_size
        options: dict[str, Any] = {"in_channels": wish.channels, "classes": wish.classes}
        return create_encoder(name, attention=variant, image_size=size, **options), size
    size = wish.size or MODELS[name].image_size
    options = {"in_channels": wish.channels, "classes": wish.classes or 1}
    return create_segmenter(name, attention=variant, image_size=size, **options), size


def _from_timm(name: str, wish: _Request, pretrained: bool) -> tuple[nn.Module, Size]:
    if not timm.is_model(name):
        known = [*CLASSIFIERS, *ENCODERS, *MODELS, *timm.list_models()]
        close = nearest(name, known, "fewpairs models")
        raise InputError(f"model {name!r} is neither one of fewpairs nor of timm; {close}")
    options: dict[str, Any] = {"in_chans": wish.channels, "pretrained": pretrained}
    options |= {} if wish.classes is None else {"num_classes": wish.classes}
    try:
        model = _created(name, wish.size, options)
    except Exception as error:  # timm, huggingface_hub and the network raise many kinds
        if not pretrained:
            raise
        raise CheckpointError(
            f"{name}: timm could not give its weights ({type(error).__name__}: {first_line(error)}); {_FETCH}"
        ) from error
    config: Any = model.pretrained_cfg
    height, width = (config.get("input_size") or (3, 224, 224))[1:]
    return model, wish.size or (height, width)


def _created(name: str, size: Size | None, options: dict[str, Any]) -> nn.Module:
    """The timm model, made for `size` where its constructor takes one."""
    if size is not None:
        try:
            return timm.create_model(name, img_size=size, **options)
        except TypeError:
            pass
    return timm.create_model(name, **options)


def _fill(model: nn.Module, file: Path) -> list[str]:
    """Loads a file that holds exactly the model's tensors, and returns an empty list of missing ones."""
    given, own = read_weights(file), model.state_dict()
    odd = [f"{key} is not in the model" for key in given if key not in own]
    odd += [f"{key} is not in the file" for key in own if key not in given]
    odd += [
        f"{key} is {list(given[key].shape)}, and {list(own[key].shape)} in the model"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    if odd:
        raise CheckpointError(f"{file} belongs to another model: {_some(odd)}")
    model.load_state_dict(given)
    return []


def _some(texts: Sequence[str]) -> str:
    return "; ".join(texts[:4]) + (f"; and {len(texts) - 4} more" if len(texts) > 4 else "")
