"""Models with a table for one image size, traced: the graph refuses images of other sizes."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.ops.transforms import is_tracing


def only_size(image: Tensor, height: int, width: int) -> Tensor:
    """Return `image`, or raise if its size is another; TorchScript keeps the branch, which tracing would drop."""
    if image.shape[-2] != height or image.shape[-1] != width:
        raise ValueError(
            "torch.jit.trace keeps the positions of the traced size, and this image has another; trace at its size, or "
            "use torch.export with dynamic_shapes"
        )
    return image


@cache
def _scripted() -> Any:
    return torch.jit.script(only_size)


def hold_traced_size(module: nn.Module) -> None:
    """Let graphs of `torch.jit.trace` refuse images of another size than the traced one at the input of `module`.

    For modules `[b c H W] -> ...` whose tables of positions or windows tracing makes constants. A size with the same
    number of tokens would else give wrong numbers without a word.
    """
    module.register_forward_pre_hook(_hold)


def _hold(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    if not is_tracing() or torch.onnx.is_in_onnx_export():
        return None
    image, *others = inputs
    height, width = (int(side) for side in image.shape[-2:])
    return (_scripted()(image, height, width), *others)
