"""Functions for Triton kernels that search the k-th largest score of a row by counting within a bracket.

`low` and `high` are float32 numbers as integers in the same order. At any time at least `topk` scores are at or above
`low`, and fewer at or above `high`. Pivots are first guessed (from a normal distribution of the row's mean and
spread, then by the slope there, then by a straight line between the bracket's counts), and after `GUIDED` steps halve
the bracket. The search ends where exactly `topk` scores are above, or where the bracket is one number wide: then that
number is the k-th score, and equal ones are to be told apart by their index.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

GUIDED = tl.constexpr(10)
LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
@no_type_check
def ordered(x):
    """Map float32 to int32 of the same order."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
@no_type_check
def number(image):
    """Compute the inverse of `ordered`."""
    return (image ^ ((image >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
@no_type_check
def start(live, bad, bottom, top, rows, n, topk):
    """Return the initial bracket, and the rows that need no search: at most `topk` scores, or NaN."""
    easy = (live <= topk) | bad | (rows >= n)
    low = tl.where(easy, ordered(tl.zeros_like(bottom) + LOWEST), ordered(bottom))
    high = tl.where(easy, low, ordered(top)) + 1
    return easy, low, high, tl.where(easy, topk, live), tl.zeros_like(live)


@triton.jit
@no_type_check
def normal_guess(live, mean, spread, topk):
    """Estimate the k-th of `live` normally distributed scores, and the number of scores per unit.

    Source of the quantile: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.22.
    """
    many = tl.maximum(live, 1).to(tl.float32)
    above = tl.minimum((topk - 0.5) / many, 1.0 - 1e-6)
    tail = tl.minimum(above, 1.0 - above)
    t = tl.sqrt(-2.0 * tl.log(tail))
    z = t - (2.30753 + 0.27061 * t) / (1.0 + 0.99229 * t + 0.04481 * t * t)
    z = tl.where(above < 0.5, z, -z)
    spread = tl.maximum(spread, 1e-30)
    return mean + z * spread, tl.exp(-0.5 * z * z) * 0.3989 * many / spread


@triton.jit
@no_type_check
def pivot(step, rose, low, high, at_low, at_high, topk, guess, density):
    """Return the next pivot, as an integer inside the bracket (its lower end if the bracket is empty)."""
    bottom, top = number(low), number(high)
    over, under = (at_low - topk).to(tl.float32), (topk - at_high).to(tl.float32)
    over = tl.maximum(over, 0.0)
    upwards = bottom + (over + tl.sqrt(over) + 1.0) / density
    downwards = top - (under + tl.sqrt(under) + 1.0) / density
    between = bottom + (top - bottom) * ((over + 0.5) / tl.maximum(at_low - at_high, 1).to(tl.float32))
    wanted = tl.where(step == 0, guess, tl.where(step == 1, tl.where(rose, upwards, downwards), between))
    image = ordered(wanted)
    middle = (low & high) + ((low ^ high) >> 1)
    return tl.where((image > low) & (image < high) & (step < GUIDED), image, middle)


@triton.jit
@no_type_check
def narrow(where, count, low, high, at_low, at_high, topk):
    """Update the bracket after `count` scores were found at or above the pivot `where`.

    A row that has found its cut keeps it while other rows of its block continue: the cut is between two scores, and
    further steps would move it to exactly the upper one.
    """
    found = at_low == topk
    rose, fell = (count >= topk) & (found == 0), (count < topk) & (found == 0)
    low, at_low = tl.where(rose, where, low), tl.where(rose, count, at_low)
    high, at_high = tl.where(fell, where, high), tl.where(fell, count, at_high)
    return rose, low, high, at_low, at_high


@triton.jit
@no_type_check
def searching(easy, low, high, at_low, topk):
    """Count the rows that have not found their cut."""
    return tl.sum(((at_low != topk) & (high - 1 > low) & (easy == 0)).to(tl.int32), 0)
