"""The memory of this process and of the machine, and a description of hardware and software."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fewpairs.data.memory import available_memory
from fewpairs.errors import FewpairsError


class NotMeasurable(FewpairsError):  # noqa: N818  (the name reads as the sentence it carries)
    """The operating system does not provide a measurement."""


def status(field: str) -> int:
    """Read `/proc/self/status`, in bytes: VmRSS (resident memory now) or VmHWM (its peak).

    Raises:
        NotMeasurable: the system has no such file (it is not Linux).
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise NotMeasurable("the peak memory of a process is available only on Linux")


def reset_peak() -> int:
    """Reset the peak of resident memory, and return the current resident memory in bytes.

    Freed memory that the C library still holds is returned to the system first.

    Raises:
        NotMeasurable: see `status`.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        raise NotMeasurable("the peak memory of a process is available only on Linux") from None
    return status("VmRSS")


def free_memory(device: str = "cpu") -> int | None:
    """Return the available memory in bytes, or None if unknown."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    return available_memory()


def describe_machine() -> dict[str, Any]:
    """Return machine, versions, commit and date, which every record contains."""
    from fewpairs.train import describe_environment
    from fewpairs.train.environment import source_commit

    return {
        "environment": describe_environment(),
        "commit": source_commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
