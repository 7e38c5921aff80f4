"""Models without weights, on the meta device, to count their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_INITIALISERS = {
    getattr(Tensor, name)
    for name in ("add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_")
}


class _SkipInit(TorchFunctionMode):
    """Skip the initialisation of tensors on the meta device, which would take most of the time."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _INITIALISERS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def empty_weights() -> Iterator[None]:
    """Make models on the meta device, without initialisation, within the block."""
    with torch.device("meta"), _SkipInit():
        yield
