"""The cost of a model before and after a swap, measured on a copy on the meta device."""

from __future__ import annotations

from typing import Any

from torch import nn

from fewpairs.cost.breakdown import trace_model
from fewpairs.cost.tracing import Trace
from fewpairs.types import Size


def parameters(model: nn.Module) -> int:
    """Return the number of parameters; shared ones count once."""
    return sum(p.numel() for p in model.parameters())


def trace(twin: nn.Module, size: Size | None) -> Trace | None:
    """Trace multiply-adds and attention for one image; None if `size` is None or the model fails on that size."""
    if size is None:
        return None
    try:
        return trace_model(twin, size, channels=_channels(twin))
    except (RuntimeError, AssertionError, ValueError, TypeError, KeyError, AttributeError):
        return None


def input_size(model: nn.Module) -> Size | None:
    """Return the (height, width) in pixels of the model, or else of its pretrained weights; None if unknown."""
    for module in model.modules():
        if (size := _pair(getattr(module, "img_size", None))) is not None:
            return size
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, name, None)
        if config and (size := config.get("input_size")):
            return _pair(tuple(size)[-2:])
    return _pair(getattr(getattr(model, "config", None), "image_size", None))


def _pair(size: Any) -> Size | None:
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, tuple | list) and len(size) == 2 else None


def _channels(model: nn.Module) -> int:
    """Return the number of image channels, which is that of the first convolution."""
    return next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
