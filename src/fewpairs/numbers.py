"""How reports and commands write numbers: counts, sizes, durations, changes, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "−"
MISSING = "–"
_FACTORS = {"G": 1e9, "M": 1e6, "k": 1e3}


def number(value: float | None, decimals: int = 3) -> str:
    """A number with a true minus sign; a dash when it is missing."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def signed(value: float | None, decimals: int = 3) -> str:
    """A number with its sign, plus included."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def scientific(value: float) -> str:
    """Three significant digits, or an exponent for what is very small or large; a dash for what is not finite."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:.3g}" if value == 0 or 1e-3 <= value < 1e4 else f"{value:.1e}"


def change_percent(value: float, reference: float) -> float | None:
    """Change from `reference` to `value` in percent; None when the reference is zero."""
    return None if reference == 0 else 100.0 * (value - reference) / reference


def percent(value: float, reference: float) -> str:
    """Change from `reference` to `value`, such as `−8.3 %`."""
    change = change_percent(value, reference)
    return MISSING if change is None else f"{signed(change, 1)} %"


def count(value: float, prefixes: Sequence[str] = ("G", "M", "k", ""), least: float = 1.0) -> str:
    """A count with the first of the prefixes of which it holds `least`, else with the last: `85.80 M`, `999`."""
    prefix = next((one for one in prefixes[:-1] if value >= least * _FACTORS[one]), prefixes[-1])
    return f"{value / _FACTORS[prefix]:.2f} {prefix}" if prefix else f"{value:.0f}"


def parameters(value: float) -> str:
    """`85.80 M`, or `1.23 k` below a tenth of a million."""
    return count(value, ("M", "k"), 0.1)


def macs(value: float) -> str:
    """Multiply-adds: `17.47 G`, or `1.50 M` below a tenth of a thousand million."""
    return count(value, ("G", "M"), 0.1)


def mebibytes(value: float) -> str:
    """Bytes in units of 2 to the 20th: `4.04 MiB`."""
    return f"{value / 2**20:.2f} MiB"


def size(value: float) -> str:
    """Bytes in the largest unit that fits: `1.50 GiB`, `12 MiB`, `3 KiB`."""
    if value >= 2**30:
        return f"{value / 2**30:.2f} GiB"
    return f"{value / 2**20:.0f} MiB" if value >= 2**20 else f"{value / 2**10:.0f} KiB"


def duration(seconds: float) -> str:
    """`1.25 s`, `3.4 ms` or `12 µs`."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
