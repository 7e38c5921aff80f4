"""C++ kernels for the CPU: compiled by the user's own compiler on first use, kept, and called through ctypes.

The sources are plain C behind a plain C interface, without PyTorch's headers: they compile in seconds, and one binary
does not depend on PyTorch's own interface. Which instructions they may use is decided where they run.
"""

from __future__ import annotations

from fewpairs.ops.native.compiler import Unavailable
from fewpairs.ops.native.library import HEADERS, Library, Plan


def check(status: int, what: str) -> None:
    """Turn what a C function returned into an exception; 0 is success.

    Raises:
        MemoryError: there was not enough memory for its scratch.
        RuntimeError: any other status.
    """
    if status == 0:
        return
    if status == 1:
        raise MemoryError(f"{what}: there is not enough memory for the kernel's scratch space")
    raise RuntimeError(f"{what}: the kernel ended with status {status}; please report this")


__all__ = ["HEADERS", "Library", "Plan", "Unavailable", "check"]
