"""Verdicts say no more than seeds, units and resamples carry."""

from __future__ import annotations

import math
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.scoring import bootstrap
from fewpairs.scoring.interval import PairedDifference, sure_bounds
from fewpairs.scoring.score_table import Score
from fewpairs.scoring.unit_table import SumTable
from fewpairs.scoring.verdict import LEAST_SEEDS, missing_evidence, speaks_of, verdict

SCORES = {"mean": Score("mean", "Mean", "", True, "mean over units")}


def table(values: np.ndarray) -> SumTable:
    return SumTable(
        unit="cases",
        units=tuple(f"u{place:04d}" for place in range(len(values))),
        classes=("one",),
        truth=(None,) * len(values),
        sums={"value": values[:, None], "count": np.ones((len(values), 1))},
        score=lambda sums, classes: {"mean": (sums["value"] / sums["count"])[..., 0]},
    )


def compared(
    gains: list[np.ndarray], *, samples: int = 2000, margin: float = 0.02, over: str | None = None
) -> PairedDifference:
    """The difference of trainings whose gains by unit are these."""
    zero = [table(np.zeros(len(gain))) for gain in gains]
    new = [table(gain) for gain in gains]
    return bootstrap.paired(zero, new, SCORES, metric="mean", margin=margin, samples=samples, over=over)  # type: ignore[arg-type]


def gains(seeds: int, units: int, mean: float, noise: float = 0.01) -> list[np.ndarray]:
    generator = np.random.default_rng((seeds, units))
    return [mean + noise * generator.standard_normal(units) for _ in range(seeds)]


@pytest.mark.parametrize(
    ("seeds", "units", "mean", "said"),
    [
        (1, 2, 0.05, "higher in these runs"),
        (1, 40, 0.05, "higher in these runs"),
        (5, 40, -0.05, "lower in these runs"),
        (6, 19, 0.05, "higher in these runs"),
        (3, 40, 0.0, "within the margin in these runs"),
        (6, 40, 0.05, "superior"),
        (6, 40, -0.05, "inferior"),
        (6, 40, 0.0, "non-inferior"),
    ],
)
def test_words_about_a_method_need_six_seeds_and_twenty_units(seeds: int, units: int, mean: float, said: str) -> None:
    found = compared(gains(seeds, units, mean))
    assert found.verdict == said, found
    assert (found.seeds, found.defining) == (seeds, units)
    assert bool(missing_evidence(found.over, found.seeds, found.defining)) == (seeds < 6 or units < 20)


def test_seeds_that_are_not_drawn_carry_nothing() -> None:
    found = compared(gains(6, 40, 0.05), over="cases")
    assert (found.reading, found.verdict) == ("superior", "higher in these runs")
    assert missing_evidence("cases", 6, 40) == ["an interval over cases and seeds"]


def test_identical_models_rule_nothing_out() -> None:
    for value in (0.0, 0.125):
        found = compared([np.full(40, value)] * 6)
        assert (found.low, found.high) == pytest.approx((value, value))
        assert found.verdict == "no variation"


def test_rounding_decides_no_verdict() -> None:
    old = [table(np.full(30, 0.1 + 0.2)) for _ in range(6)]
    new = [table(np.full(30, 0.3)) for _ in range(6)]
    found = bootstrap.paired(new, old, SCORES, metric="mean", margin=0.0)
    assert (found.low, found.high, found.verdict) == (0.0, 0.0, "no variation")


@pytest.mark.parametrize("shift", np.linspace(0.0, 0.006, 13))
def test_more_resamples_turn_no_verdict(shift: float) -> None:
    """The gains lie about as far from zero as their interval is wide, and some ends within its error of zero."""
    few, more = (compared(gains(6, 25, shift, 0.012), samples=samples) for samples in (2000, 10_000))
    assert few.verdict == more.verdict
    assert few.samples <= 32_000
    assert few.sure_low <= few.low <= few.high <= few.sure_high  # type: ignore[operator]


@given(st.integers(0, 2**31), st.sampled_from([200, 2000, 20_000]), st.sampled_from([0.8, 0.95, 0.99]))
def test_sure_bounds_hold_the_true_quantiles(seed: int, samples: int, level: float) -> None:
    """Against the quantiles of the distribution that is drawn from: uniform numbers."""
    low, high = sure_bounds(np.random.default_rng(seed).random(samples), level)
    tail = (1 - level) / 2
    outside = math.sqrt(tail * (1 - tail) / samples)
    assert low <= tail + 2.5 * outside
    assert high >= 1 - tail - 2.5 * outside


def test_six_seeds_are_the_fewest_with_which_a_sign_test_reaches_five_percent() -> None:
    """Counted: all signs of the differences of paired seeds, and how many are as one-sided as can be."""
    for seeds in range(1, 8):
        signs = list(product((-1, 1), repeat=seeds))
        smallest = sum(abs(sum(sign)) == seeds for sign in signs) / len(signs)
        assert smallest == 2 / 2**seeds
        assert (smallest < 0.05) == (seeds >= LEAST_SEEDS)
    assert 2 / comb(8, 4) < 0.05 < 2 / comb(6, 3), "as docs/scores.md says of seeds that are not paired"


@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(["cases", "images and seeds"]))
def test_an_interval_says_of_what_it_speaks(seeds: int, units: int, over: str) -> None:
    text = speaks_of(over, seeds, units)
    assert text.startswith("these trainings") == (over == "cases")
    assert f"{units} {over.split(' ', maxsplit=1)[0][:-1]}" in text
    said = verdict(0.1, 0.2, 0.0, higher_is_better=True, over=over, seeds=seeds, units=units)
    assert (said == "superior") == (seeds >= 6 and units >= 20 and over.endswith("seeds"))
