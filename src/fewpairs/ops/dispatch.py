"""Selects kernels: a kernel that cannot run returns a reason, and the first that does not refuse runs.

The choice depends on the arguments (device, dtype, shapes, need of a gradient) and on what is installed, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from fewpairs.errors import InputError, nearest


class Kernel(NamedTuple):
    """One way to compute an operator. `refuse` and `run` take the operator's own arguments."""

    name: str
    refuse: Callable[..., str | None]
    """None when the kernel can run these arguments, else one sentence that says why it cannot."""
    run: Callable[..., Tensor]


class KernelRefused(InputError):  # noqa: N818  (the name reads as the sentence it carries)
    """The kernel that was asked for by name cannot run these arguments."""


def never(*_args: Any, **_options: Any) -> None:
    """Return None: a reference runs all arguments."""


def names_of(kernels: Sequence[Kernel]) -> tuple[str, ...]:
    """Return the names of the kernels, in order."""
    return tuple(kernel.name for kernel in kernels)


def choose(kernels: Sequence[Kernel], wanted: str | None, *args: Any, **options: Any) -> Kernel:
    """Return the first kernel that does not refuse, or the one named `wanted`.

    Raises:
        KernelRefused: `wanted` refuses; the message is its reason.
        InputError: no kernel has the name `wanted`.
    """
    if wanted is None:
        return next(kernel for kernel in kernels if kernel.refuse(*args, **options) is None)
    named = {kernel.name: kernel for kernel in kernels}
    if wanted not in named:
        raise InputError(f"kernel={wanted!r} does not exist; {nearest(wanted, named)}")
    reason = named[wanted].refuse(*args, **options)
    if reason is not None:
        raise KernelRefused(f"kernel {wanted!r} refuses: {reason}; use kernel=None to choose one that can run")
    return named[wanted]


def explain(kernels: Sequence[Kernel], *args: Any, **options: Any) -> list[tuple[str, str]]:
    """Return (name, sentence) for each kernel, in order: chosen, able but not needed, or the refusal."""
    lines, chosen = [], False
    for kernel in kernels:
        reason = kernel.refuse(*args, **options)
        if reason is not None:
            lines.append((kernel.name, f"refuses: {reason}"))
        else:
            lines.append((kernel.name, "could run, but one before it is chosen" if chosen else "chosen"))
            chosen = True
    return lines


def refuse_export() -> str | None:
    """Return the reason why only PyTorch's own operators may run (a graph is being exported), or None."""
    if torch.compiler.is_exporting() or _is_tracing():
        return "an exported graph may hold only PyTorch's own operators"
    return None


def readable(tensor: Tensor) -> bool:
    """Whether the values of `tensor` can be read: it has values, and no graph is being recorded."""
    if tensor.is_meta or isinstance(tensor, FakeTensor) or torch.compiler.is_compiling() or _is_tracing():
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def _is_tracing() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[no-untyped-call]  # PyTorch's own gap
