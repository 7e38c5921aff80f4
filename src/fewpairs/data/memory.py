"""How much memory there is, and refusals of files that need more."""

from __future__ import annotations

from pathlib import Path

from fewpairs.errors import DataError
from fewpairs.numbers import size

_CGROUPS = (  # limit, use and statistics of versions 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def available_memory() -> int | None:
    """Return the bytes that this process may still take: of the machine, its container and its address space.

    None if the system says nothing of them.
    """
    known = [
        _field("/proc/meminfo", "MemAvailable:", 1024),
        *(_left_in_container(*files) for files in _CGROUPS),
        _left_in_address_space(),
    ]
    return min((value for value in known if value is not None), default=None)


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Check that `needed` bytes can be had.

    Raises:
        DataError: there is less memory; the message says how much and ends with the remedy.
    """
    there = available_memory()
    if there is not None and needed > there:
        raise DataError(f"{what} needs {size(needed)} of memory, and {size(there)} are available; {remedy}")


def _left_in_container(limit: str, use: str, statistics: str) -> int | None:
    try:
        most, used = (int(Path(name).read_text()) for name in (limit, use))
    except (OSError, ValueError):  # no such container, or "max"
        return None
    return max(0, most - used + (_field(statistics, "inactive_file ", 1) or 0))


def _left_in_address_space() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = _field("/proc/self/status", "VmSize:", 1024)
    return None if limit == resource.RLIM_INFINITY or used is None else max(0, limit - used)


def _field(path: str, name: str, unit: int) -> int | None:
    """Return the number after `name` at the start of a line of a file of the system, times `unit`."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * unit for line in lines if line.startswith(name)), None)
