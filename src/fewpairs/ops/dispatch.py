"""Selects kernels: a kernel that cannot run returns a reason, and the first that does not refuse runs.

The choice depends on the arguments (device, dtype, shapes, need of a gradient) and on what is installed, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fewpairs.errors import InputError, nearest
from fewpairs.ops.transforms import refuse_transforms


class Kernel(NamedTuple):
    """One way to compute an operator. `refuse` and `run` take the operator's own arguments."""

    name: str
    refuse: Callable[..., str | None]
    """None when the kernel can run these arguments, else one sentence that says why it cannot."""
    run: Callable[..., Tensor]
    plain: bool = False
    """Whether it consists of PyTorch's own operators alone, so that every transformation of PyTorch understands it."""

    def reason(self, *args: Any, **options: Any) -> str | None:
        """Return why the kernel cannot run these arguments where and how they are called, or None."""
        transformed = None if self.plain else refuse_transforms(*args, *options.values())
        return transformed or self.refuse(*args, **options)


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
        return next(kernel for kernel in kernels if kernel.reason(*args, **options) is None)
    named = {kernel.name: kernel for kernel in kernels}
    if wanted not in named:
        raise InputError(f"kernel={wanted!r} does not exist; {nearest(wanted, named)}")
    reason = named[wanted].reason(*args, **options)
    if reason is not None:
        raise KernelRefused(f"kernel {wanted!r} refuses: {reason}; use kernel=None to choose one that can run")
    return named[wanted]


def explain(kernels: Sequence[Kernel], *args: Any, **options: Any) -> list[tuple[str, str]]:
    """Return (name, sentence) for each kernel, in order: chosen, able but not needed, or the refusal."""
    lines, chosen = [], False
    for kernel in kernels:
        reason = kernel.reason(*args, **options)
        if reason is not None:
            lines.append((kernel.name, f"refuses: {reason}"))
        else:
            lines.append((kernel.name, "could run, but one before it is chosen" if chosen else "chosen"))
            chosen = True
    return lines
