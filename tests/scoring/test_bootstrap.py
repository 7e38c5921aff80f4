"""The one bootstrap against a plain loop over resamples, and against cases that have a closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.scoring import bootstrap
from fewpairs.scoring.interval import percentiles
from fewpairs.scoring.score_table import Score
from fewpairs.scoring.unit_table import SumTable, Units

SCORES = {"share": Score("share", "Share", "", True, "hits of all tries"), "misses": Score("misses", "", "", False, "")}


def share(sums, classes):
    hits, tries = sums["hits"][..., 0], sums["tries"][..., 0]
    found = np.divide(hits, tries, out=np.full(np.shape(tries), np.nan), where=tries > 0)
    return {"share": found, "misses": 1 - found}


def table(hits: Sequence[float], tries: Sequence[float], unit: Units = "cases", **more) -> SumTable:
    names = tuple(f"u{number:03d}" for number in range(len(hits)))
    columns = {"hits": np.array(hits, float)[:, None], "tries": np.array(tries, float)[:, None]}
    return SumTable(unit=unit, units=names, classes=("c",), truth=tuple(tries), sums=columns, score=share, **more)


def made(seed: int, units: int, runs: int) -> list[SumTable]:
    tries = np.random.default_rng(7).integers(1, 9, units)
    generator = np.random.default_rng(seed)
    return [table(generator.integers(0, tries + 1).tolist(), tries.tolist()) for _ in range(runs)]


def by_loop(sides: Sequence[Sequence[SumTable]], samples: int, seed: int, *, seeds: bool) -> list[list[float]]:
    """The share of each side in each resample, one unit, one run and one resample after the other."""
    units, *others = (np.random.default_rng((seed, stream)) for stream in range(1 + len(sides)))
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(samples):
        count = len(sides[0][0].units)
        times = units.multinomial(count, [1 / count] * count)
        for place, side in enumerate(sides):
            drawn = others[place].multinomial(len(side), [1 / len(side)] * len(side)) if seeds else [1] * len(side)
            total = 0.0
            for run, often in zip(side, drawn, strict=True):
                hits = sum(t * h for t, h in zip(times, run.sums["hits"][:, 0], strict=True))
                tries = sum(t * h for t, h in zip(times, run.sums["tries"][:, 0], strict=True))
                total += often * hits / tries
            found[place].append(total / len(side))
    return found


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(1, 3))
def test_intervals_are_those_of_a_plain_loop(seed: int, units: int, runs: int) -> None:
    side = made(seed, units, runs)
    found = bootstrap.intervals(side, samples=100, seed=seed)["share"]
    assert found.over == ("cases and seeds" if runs > 1 else "cases")
    (drawn,) = by_loop([side], 100, seed, seeds=True)
    assert (found.low, found.high) == pytest.approx(percentiles(np.array(drawn), 0.95))
    assert found.value == pytest.approx(np.mean([run.totals()["share"] for run in side]))
    fixed = bootstrap.intervals(side, samples=100, seed=seed, over="cases", level=0.8)["share"]
    (drawn,) = by_loop([side], 100, seed, seeds=False)
    assert (fixed.low, fixed.high) == pytest.approx(percentiles(np.array(drawn), 0.8))


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(1, 3), st.integers(1, 3))
def test_differences_are_those_of_a_plain_loop(seed: int, units: int, before: int, after: int) -> None:
    old, new = made(seed, units, before), made(seed + 1, units, after)
    found = bootstrap.paired(old, new, SCORES, metric="share", margin=0.1, samples=100, seed=seed, steady=False)
    both = min(before, after) > 1
    assert found.over == ("cases and seeds" if both else "cases")
    first, second = (np.array(side) for side in by_loop([old, new], 100, seed, seeds=both))
    assert (found.low, found.high) == pytest.approx(percentiles(second - first, 0.95))
    if both:
        first, second = (np.array(side) for side in by_loop([old, new], 100, seed, seeds=False))
        assert (found.runs_low, found.runs_high) == pytest.approx(percentiles(second - first, 0.95))
    turned = bootstrap.paired(old, new, SCORES, metric="misses", margin=0.1, samples=100, seed=seed, steady=False)
    assert turned.value == pytest.approx(-found.value)  # type: ignore[operator]
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))  # type: ignore[operator]
    assert (turned.reading, turned.cases) == (found.reading, found.cases)


def test_intervals_of_a_share_and_of_two_seeds_have_a_closed_form() -> None:
    hits = [1.0] * 300 + [0.0] * 100
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    one = bootstrap.intervals([table(hits, [1] * 400)], samples=4000)["share"]
    assert (one.low, one.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.004)
    # Units that are all equal leave the seeds alone to chance: both of two are drawn with probability 1/2.
    seeds = [table([1] * 50, [2] * 50), table([2] * 50, [2] * 50)]
    both = bootstrap.intervals(seeds, samples=1000)["share"]
    assert (both.low, both.value, both.high) == (0.5, 0.75, 1.0)
    fixed = bootstrap.intervals(seeds, samples=1000, over="cases")["share"]
    assert (fixed.low, fixed.high) == (0.75, 0.75)


def test_blocks_of_resamples_are_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = made(1, 9, 2), made(2, 9, 3)
    whole = bootstrap.paired(*sides, SCORES, metric="share", margin=0.0, samples=333)
    monkeypatch.setattr(bootstrap, "_CELLS", 9 * 7)
    cut = bootstrap.paired(*sides, SCORES, metric="share", margin=0.0, samples=333)
    assert (cut.low, cut.high, cut.runs_low) == pytest.approx((whole.low, whole.high, whole.runs_low))


def test_what_few_units_define_says_so() -> None:
    lone = bootstrap.intervals([table([1, 0, 0], [2, 0, 0], "images")], samples=100)["share"]
    assert (lone.value, lone.low) == (0.5, None)
    assert lone.reason == "only one image defines this score: an interval over images needs at least two"
    nothing = table([0, 0], [0, 0])
    assert bootstrap.intervals([nothing], samples=100)["share"].reason == "no case defines this score"
    found = bootstrap.paired([nothing], [nothing], SCORES, metric="share", margin=0.0, samples=100)
    assert (found.verdict, found.reason) == ("inconclusive", "no case defines this score on both sides")


def test_runs_that_do_not_belong_together_are_named() -> None:
    one = table([1, 1], [2, 2])
    for other, message in (
        (
            table([1, 1, 1], [2, 2, 2]),
            r"\(run 2\) was not evaluated on the cases of the evaluation: cases only there: u",
        ),
        (table([1, 1], [2, 3]), r"\(run 2\) has another truth than the evaluation for the cases u001;"),
        (table([1, 1], [2, 2], form="blurred"), r"\(run 2\) was evaluated blurred"),
        (table([1, 1], [2, 2], parts=frozenset({("u000", "s")}), part="scans"), r"scans only there: s;"),
    ):
        with pytest.raises(InputError, match=message):
            bootstrap.intervals([one, other], samples=100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"over": "images"}, "over='images': these scores are resampled over 'cases' or 'cases and seeds'"),
        ({"over": "cases and seeds"}, "the baseline has a single training seed"),
        ({"samples": 99}, "samples must be at least 100"),
        ({"level": 1.0}, "level must lie between 0 and 1"),
        ({"margin": math.inf}, "margin must be a number of at least 0, in the unit of share"),
        ({"metric": "shore"}, "did you mean 'share'"),
    ],
)
def test_wrong_calls_are_refused(arguments: dict, message: str) -> None:
    good = {"metric": "share", "margin": 0.0, "samples": 100}
    with pytest.raises(InputError, match=message):
        bootstrap.paired(made(1, 4, 1), made(2, 4, 2), SCORES, **(good | arguments))
