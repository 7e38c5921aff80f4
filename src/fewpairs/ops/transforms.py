"""What PyTorch does to a call beside computing it: transformations, recorded graphs and subclasses of tensors.

Kernels of our own are opaque to it, so that there only kernels made of PyTorch's own operators may answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad
from torch.overrides import handle_torch_function

Taken = ParamSpec("Taken")


def overridable(operator: Callable[Taken, Tensor]) -> Callable[Taken, Tensor]:
    """Decorate a public operator so that subclasses of tensors treat it as they treat PyTorch's own functions.

    Subclasses with `__torch_function__`, such as MONAI's MetaTensor, then compute with any kernel and keep their type.
    A `TorchFunctionMode` sees what the operator calls, not the operator.
    """

    @wraps(operator)
    def call(*args: Taken.args, **options: Taken.kwargs) -> Tensor:
        others = [value for value in (*args, *options.values()) if _is_overriding(value)]
        if others and torch._C._is_torch_function_enabled():
            out: Tensor = handle_torch_function(call, others, *args, **options)
            return out
        return operator(*args, **options)

    return call


def refuse_export(*values: Any) -> str | None:
    """Return the reason why operators of fewpairs may not run, only PyTorch's own, or None."""
    if torch.compiler.is_exporting() or is_tracing():
        return "an exported graph may hold only PyTorch's own operators"
    for value in values:
        if _is_wrapped(value) and not isinstance(value, FakeTensor | FunctionalTensor):
            return f"{type(value).__name__} intercepts PyTorch's operators and knows no others"
    return None


def refuse_transforms(*values: Any) -> str | None:
    """Return the reason why only operators that PyTorch can transform may run, or None."""
    if functorch_is_active():
        return "torch.func (grad, vmap, jvp, ...) transforms only PyTorch's own operators"
    if torch.compiler.is_compiling():
        return None
    if any(_has_tangent(x) for x in values):
        return "it has no derivative in forward mode"
    return None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # PyTorch's own gap
def functorch_is_active() -> bool:
    """Whether a transformation of `torch.func` is running."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def recorded() -> bool:
    """Whether a graph is being recorded, instead of computed."""
    return torch.compiler.is_compiling() or torch.compiler.is_exporting() or is_tracing()


def readable(tensor: Tensor) -> bool:
    """Whether the values of `tensor` can be read: it has some, and neither a graph nor a transformation is recorded."""
    if tensor.is_meta or recorded() or functorch_is_active() or _is_wrapped(tensor):
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def _is_overriding(value: Any) -> bool:
    """Whether the value is a tensor of a subclass with its own `__torch_function__`."""
    if not isinstance(value, Tensor) or type(value) in (Tensor, nn.Parameter):
        return False
    return type(value).__torch_function__ is not torch._C._disabled_torch_function_impl


def _has_tangent(value: Any) -> bool:
    """Whether the value is a dual tensor of PyTorch's forward mode."""
    return isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None  # type: ignore[no-untyped-call]  # PyTorch's own gap


def _is_wrapped(tensor: Any) -> bool:
    """Whether the tensor is of a subclass that intercepts operators, and whose data may lie elsewhere or not exist."""
    if not isinstance(tensor, Tensor) or type(tensor) in (Tensor, nn.Parameter):
        return False
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__


def is_tracing() -> bool:
    """Whether `torch.jit.trace` is recording."""
    return bool(torch.jit.is_tracing())  # type: ignore[no-untyped-call]  # PyTorch's own gap
