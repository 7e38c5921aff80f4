"""C++ kernels for the CPU: compiled by the user's compiler on first use, cached, and called through ctypes.

The sources have a plain C interface and do not use PyTorch's headers: they compile in seconds, and binaries do not
depend on PyTorch's ABI. The machine that runs them decides which instructions they use.
"""

from __future__ import annotations

from fewpairs.ops.native.compiler import Unavailable
from fewpairs.ops.native.library import HEADERS, Library, Plan


def check(status: int, what: str) -> None:
    """Turn the status of a C function into an exception; 0 means success.

    Raises:
        MemoryError: there was not enough scratch memory.
        RuntimeError: any other status.
    """
    if status == 0:
        return
    if status == 1:
        raise MemoryError(f"{what}: there is not enough memory for the kernel's scratch space")
    raise RuntimeError(f"{what}: the kernel ended with status {status}; please report this")


__all__ = ["HEADERS", "Library", "Plan", "Unavailable", "check"]
