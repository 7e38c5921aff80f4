"""Trace of a model on the meta device: all matrix products and convolutions for one image, by module."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fewpairs.attention import Core, Variant
from fewpairs.cost.fused import fused_output


@dataclass(frozen=True, slots=True)
class Site:
    """One call of attention for one image: `n` queries and `m` keys, `copies` times (windows)."""

    name: str
    """Name of the module, as in `model.get_submodule(name)`."""
    n: int
    m: int
    heads: int
    copies: int
    variant: Variant | None
    """None if the model calls PyTorch's own attention."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Multiply-adds and attention calls for one image; `sites` are in the order of execution."""

    macs: Counter[str]
    """Multiply-adds by term."""
    sites: list[Site]


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model on the meta device; weights are not copied, and those already on meta are shared.

    Kernels that layers name are forgotten, since few of them run there.
    """
    # Results of other weights, such as the product that pruning or a weight norm leaves, have no copies of their own.
    memo: dict[int, Any] = {
        id(value): torch.empty_like(value, device="meta")
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    for tensor in chain(model.parameters(), model.buffers()):
        twin = tensor if tensor.is_meta else torch.empty_like(tensor, device="meta")
        is_weight = isinstance(tensor, nn.Parameter) and not tensor.is_meta
        memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if is_weight else twin
    copied = copy.deepcopy(model, memo)
    for module in copied.modules():
        if isinstance(module, Core):
            module.kernel = None
    return copied


@contextmanager
def traced(model: nn.Module, terms: dict[nn.Module, str]) -> Iterator[Trace]:
    """Record into the trace what runs through `model`, which is on the meta device, within the block.

    Products of `Core` modules count by the formulas of their variant; all others as in PyTorch's operation counter,
    and PyTorch's own attention as two dense products. A `Core` does not run: it returns an output of the right shape.
    """
    trace, current = Trace(Counter(), []), _CurrentModule(model, terms)
    for name, module in model.named_modules():
        if isinstance(module, Core):
            current.watch(module, partial(_note_core, trace, name))
            module.forward = _shape_only  # type: ignore[method-assign]  # restored below

    try:
        with torch.no_grad(), _ShapesOnly(trace, current), _CountProducts(trace.macs, current):
            yield trace
    finally:
        current.remove_hooks()
        for module in model.modules():
            if isinstance(module, Core):
                module.__dict__.pop("forward", None)


def _note_attention(trace: Trace, name: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Count PyTorch's own attention, outside any `Core`."""
    copies, heads = prod(q.shape[:-3]), q.shape[-3] if q.ndim > 3 else 1
    n, m = q.shape[-2], k.shape[-2]
    trace.macs["scores"] += copies * heads * n * m * q.shape[-1]
    trace.macs["values"] += copies * heads * n * m * v.shape[-1]
    trace.sites.append(Site(name, n, m, heads, copies, None))


def _note_core(trace: Trace, name: str, core: Core, roles: tuple[Tensor, ...]) -> None:
    first, last = roles[0], roles[-1]
    copies, n, m = prod(first.shape[:-3]), first.shape[-2], last.shape[-2]
    for term, macs in core.variant.terms(n, m, core.heads, core.dim_head).items():
        wider = last.shape[-1] / core.dim_head if term == "values" else 1  # values may be wider than keys
        trace.macs[term] += copies * round(macs * wider)
    trace.sites.append(Site(name, n, m, core.heads, copies, core.variant))


def _shape_only(*roles: Tensor, bias: Tensor | None = None, grid: Any = None) -> Tensor:
    """Replace `Core.forward`."""
    return fused_output(roles[0], roles[-1])


class _CurrentModule:
    """The module of the model that is running."""

    def __init__(self, model: nn.Module, terms: dict[nn.Module, str]) -> None:
        self.terms = terms
        self.inside: list[nn.Module] = [model]
        self.products = [0]
        """Number of products that each module in `inside` has formed itself since it was entered."""
        self._names = {module: name for name, module in model.named_modules()}
        self._handles = []
        for module in model.modules():
            self._handles.append(module.register_forward_pre_hook(self._enter))
            self._handles.append(module.register_forward_hook(self._exit))

    @property
    def name(self) -> str:
        return self._names[self.inside[-1]]

    def term(self, *, linear: bool) -> str:
        """Return the term of the next product; attention forms its scores first, then the weighted values."""
        term = self.terms[self.inside[-1]]
        if term != "scores" or linear:
            return "projections" if term in ("scores", "values") and linear else term
        self.products[-1] += 1
        return "values" if self.products[-1] > 1 else term

    def watch(self, core: Core, note: Callable[[Core, tuple[Tensor, ...]], None]) -> None:
        self._handles.append(core.register_forward_pre_hook(note))

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, _args: Any) -> None:
        self.inside.append(module)
        self.products.append(0)

    def _exit(self, module: nn.Module, _args: Any, _out: Any) -> None:
        self.inside.pop()
        self.products.pop()


class _ShapesOnly(TorchFunctionMode):
    """Count linear maps and PyTorch's own attention, and return empty outputs for them and for pointwise functions.

    The rest of the model only needs shapes, and PyTorch derives them slowly on the meta device.
    """

    def __init__(self, trace: Trace, current: _CurrentModule) -> None:
        super().__init__()
        self.trace, self.current = trace, current

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _KEEP_THEIR_SHAPE or (func in _PAIRWISE and _same_shape(*args[:2])):
            return torch.empty_like(args[0])
        if func is F.interpolate and (size := _new_size(args[0], **kwargs)) is not None:
            return args[0].new_empty(*args[0].shape[:2], *size)
        if func is F.linear and len(args) >= 2:
            out = args[0].new_empty(*args[0].shape[:-1], args[1].shape[0])
            self.trace.macs[self.current.term(linear=True)] += out.numel() * args[1].shape[1]
            return out
        if func is F.scaled_dot_product_attention:
            q, k, v = (args[i] if i < len(args) else kwargs[name] for i, name in enumerate(("query", "key", "value")))
            _note_attention(self.trace, self.current.name, q, k, v)
            return fused_output(q, v)
        return func(*args, **kwargs)


_PAIRWISE = {Tensor.add, Tensor.mul, Tensor.__add__, Tensor.__mul__}
_KEEP_THEIR_SHAPE = {
    *(F.layer_norm, F.batch_norm, F.group_norm, F.gelu, F.relu, F.silu, F.softmax),
    *(torch.softmax, torch.sigmoid, Tensor.softmax, Tensor.sigmoid),
}


def _new_size(x: Tensor, *, size: Any = None, scale_factor: Any = None, **_how: Any) -> list[int] | None:
    """Return the size of a map resized to `size` or by one factor; None for other calls."""
    if isinstance(size, tuple | list):
        return list(size)
    return [int(side * scale_factor) for side in x.shape[2:]] if isinstance(scale_factor, int | float) else None


def _same_shape(first: Any, second: Any = 0.0) -> bool:
    """Return whether a tensor and a second one, or a number, combine to the first one's shape."""
    if not isinstance(first, Tensor):
        return False
    return isinstance(second, float) or (isinstance(second, Tensor) and first.shape == second.shape)


class _CountProducts(TorchDispatchMode):
    """Count the other matrix products and the convolutions, by the running module."""

    def __init__(self, macs: Counter[str], current: _CurrentModule) -> None:
        super().__init__()
        self.macs, self.current = macs, current

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            linear = func._overloadpacket not in (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
            self.macs[self.current.term(linear=linear)] += count(*args, **kwargs, out_val=out) // 2
        return out
