"""What benchmarks share: spreads and ratios of interleaved runs, peak memory of a process, and what ran."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from latchkey.provenance import commit
from latchkey.train import describe_environment

ROOT = Path(__file__).parents[1]


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = quantiles(values, n=4)
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


def ratio(values: list[float], base: list[float]) -> dict[str, float]:
    """How many times as long as `base`: of the medians, and the lowest and highest of any round."""
    by_round = [a / b for a, b in zip(values, base, strict=True)]
    return {"of_medians": median(values) / median(base), "lowest": min(by_round), "highest": max(by_round)}


def status(field: str) -> int:
    """A line of `/proc/self/status` in bytes: VmRSS (resident now) or VmHWM (the most so far)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def forget_peak() -> int:
    """Starts the record of the most resident memory anew; returns what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def available() -> int:
    """Bytes that processes can still have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def about() -> dict[str, Any]:
    """Machine, versions, commit and day, to stand beside every result."""
    return {
        "environment": describe_environment(),
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def duration(seconds: float) -> str:
    """For people."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def size(number: float) -> str:
    """For people."""
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
