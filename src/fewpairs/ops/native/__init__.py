"""C++ kernels for the CPU: compiled by the user's compiler on first use, cached, and called through ctypes.

The sources have a plain C interface and do not use PyTorch's headers: they compile in seconds, and binaries do not
depend on PyTorch's ABI. The machine that runs them decides which instructions they use.
"""

from __future__ import annotations

from fewpairs.errors import InputError
from fewpairs.ops.native.compiler import Unavailable
from fewpairs.ops.native.library import HEADERS, Library, Plan

MISFIT = 16
"""A status above it means that the check of this number, counted from here, failed."""


def check(status: int, what: str) -> None:
    """Turn the status of a C function into an exception; 0 means success.

    Raises:
        MemoryError: there was not enough scratch memory.
        InputError: the function refused its arguments (see `csrc/tensor.h`).
        RuntimeError: any other status.
    """
    if status == 0:
        return
    if status == 1:
        raise MemoryError(f"{what}: there is not enough memory for the kernel's scratch space")
    if status > MISFIT:
        raise InputError(
            f"{what}: the C++ kernel refuses its arguments, whose shapes, strides or dtypes do not fit one another "
            f"(check {status - MISFIT}); call the operator of fewpairs.ops, which says what is wrong, or report this"
        )
    raise RuntimeError(f"{what}: the kernel ended with status {status}; please report this")


__all__ = ["HEADERS", "Library", "Plan", "Unavailable", "check"]
