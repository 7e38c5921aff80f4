"""The machine under a measurement: memory of this process and of all, and what ran on what."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fewpairs.errors import FewpairsError


class NotMeasurable(FewpairsError):  # noqa: N818  (the name reads as the sentence it carries)
    """This system does not tell what was asked."""


def status(field: str) -> int:
    """A line of `/proc/self/status` in bytes: VmRSS (resident now) or VmHWM (the most so far).

    Raises:
        NotMeasurable: the system has no such file (it is not Linux).
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise NotMeasurable("the most memory that a process held is known on Linux alone")


def reset_peak() -> int:
    """Starts the record of the most resident memory anew; returns what is resident now, in bytes.

    Memory that was freed but kept by the C library is given back first.

    Raises:
        NotMeasurable: see `status`.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        raise NotMeasurable("the most memory that a process held is known on Linux alone") from None
    return status("VmRSS")


def free_memory(device: str = "cpu") -> int | None:
    """Bytes that can still be had; None where the system does not tell."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def describe_machine() -> dict[str, Any]:
    """Machine, versions, commit and day, to stand beside every result."""
    from fewpairs.train import describe_environment
    from fewpairs.train.environment import source_commit

    return {
        "environment": describe_environment(),
        "commit": source_commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
