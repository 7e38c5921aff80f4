"""The words: better and worse only where the interval excludes zero, in the direction of the score."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fewpairs import numbers
from fewpairs.report import Comparison, DataDescription, Difference, Estimate, Row, score_text
from fewpairs.scoring.verdict import verdict

carried = partial(Difference, over="cases and seeds", units=40, seeds=6)
"""A difference from trainings and cases enough for a verdict about the method."""

ends = st.floats(-0.2, 0.2)


def said(difference: Difference, name: str = "jaccard") -> str:
    """The headline of a row with this difference."""
    rows = (
        Row("a", "A", "softmax", 100, 100, {name: Estimate(0.5)}),
        Row("b", "B", "kv", 90, 90, {name: Estimate(0.5)}, differences={name: difference}),
    )
    data = DataDescription("scans", {}, "")
    shown = Comparison("a, b", "", "", "", {}, data, (), (0,), 0.02, rows, headline=name)
    return score_text.headline(shown, rows[1])


@given(ends, ends, st.floats(0, 0.1), st.sampled_from(["jaccard", "dice/stomach", "hd95_mm"]))
def test_better_and_worse_need_an_interval_without_zero(a: float, b: float, margin: float, name: str) -> None:
    low, high = sorted((a, b))
    assume(not math.isclose(low, high, rel_tol=1e-12))
    difference = carried((low + high) / 2, low, high, margin)
    kind = score_text.verdict_kind(name, difference)
    higher = score_text.describe(name).higher_is_better
    assert (kind == "better") == (low > 0 if higher else high < 0)
    assert (kind == "worse") == (high < 0 if higher else low > 0)
    worst = low if higher else -high
    if kind == "non-inferior":
        assert worst > -margin
    if kind == "inconclusive":
        assert worst <= -margin or math.isclose(worst, -margin, rel_tol=1e-9)
    sentence = said(difference, name)
    assert bool(re.search(r"\b(better|worse)\b", sentence)) == (kind in ("better", "worse"))
    assert ("ruled out." in sentence) == (kind == "non-inferior")


@given(
    ends,
    ends,
    st.floats(0, 0.1),
    st.sampled_from(["jaccard", "hd95_mm"]),
    st.integers(0, 8) | st.none(),
    st.integers(0, 30) | st.none(),
)
def test_few_seeds_or_units_carry_no_word_about_the_method(
    a: float, b: float, margin: float, name: str, seeds: int | None, units: int | None
) -> None:
    low, high = sorted((a, b))
    difference = Difference((low + high) / 2, low, high, margin, over="cases and seeds", seeds=seeds, units=units)
    sentence, kind = said(difference, name), score_text.verdict_kind(name, difference)
    assert kind == verdict_words(difference, name)
    enough = seeds is not None and seeds >= 6 and units is not None and units >= 20
    if math.isclose(low, high, rel_tol=1e-12):
        assert (kind, "nothing is ruled out" in sentence) == ("no variation", True)
    elif not enough:
        assert not re.search(r"\b(better|worse|non-inferior)\b|is ruled out", sentence)
        assert kind not in ("better", "worse", "non-inferior")
        assert ("6 seeds a side (" in sentence) == (seeds is None or seeds < 6)
        assert ("20 cases (" in sentence) == (units is None or units < 20)
    if kind.startswith(("higher", "lower")):
        assert kind.startswith("higher") == (low > 0)


def verdict_words(found: Difference, name: str) -> str:
    """The words of the report for the verdict of `fewpairs.scoring`."""
    higher = score_text.describe(name).higher_is_better
    given = (found.low, found.high, found.margin)
    said = verdict(*given, higher_is_better=higher, over=found.over, seeds=found.seeds, units=found.units)
    if said in ("superior", "inferior"):
        return {"superior": "better", "inferior": "worse"}[said]
    most = found.high if higher else -found.low  # type: ignore[operator]
    return "worse" if most < 0 and said in ("non-inferior", "inconclusive") else said


@given(ends, ends, st.floats(0.001, 0.1))
def test_the_words_agree_with_the_verdict_of_metrics(a: float, b: float, margin: float) -> None:
    low, high = sorted((a, b))
    assume(not math.isclose(low, high, rel_tol=1e-12))
    theirs = verdict(low, high, margin, higher_is_better=False, over="cases and seeds", seeds=6, units=20)
    ours = score_text.verdict_kind("hd95_mm", carried(0.0, low, high, margin))
    words = score_text.verdict("hd95_mm", carried(0.0, low, high, margin))
    assert (theirs == "superior") == (ours == "better")
    assert (theirs == "inferior") == (words == "worse, beyond the margin")
    assert (theirs == "non-inferior") == (words in ("non-inferior", "worse, within the margin"))


def test_verdicts_read_the_ends_that_no_number_of_resamples_moves() -> None:
    near = carried(0.02, 0.0005, 0.04, 0.01, sure_low=-0.0002, sure_high=0.041)
    assert score_text.verdict("jaccard", near) == "non-inferior"
    assert "0.001 to 0.040" in said(near), "the interval itself is what is printed"


def test_without_an_interval_nothing_is_claimed() -> None:
    for gap in (carried(-0.3, None, None, 0.02), carried(-0.3, math.nan, math.nan, 0.02)):
        assert score_text.verdict_kind("jaccard", gap) == "not computed"
        sentence = said(gap)
        assert "worse" not in sentence
        assert "nothing is said" in sentence


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.03, "better"),
        (-0.015, -0.001, "worse, within the margin"),
        (-0.05, -0.001, "worse"),
        (-0.05, -0.03, "worse, beyond the margin"),
        (-0.019, 0.01, "non-inferior"),
        (-0.05, 0.05, "inconclusive"),
    ],
)
def test_verdicts(low: float, high: float, words: str) -> None:
    assert score_text.verdict("jaccard", carried((low + high) / 2, low, high, 0.02)) == words


def test_headline_says_cost_and_score(
    row_maker: Callable[..., Row], comparison_maker: Callable[..., Comparison]
) -> None:
    def headline(difference: Difference | None) -> str:
        row = row_maker("KV", "kv", 1, difference=difference)
        return score_text.headline(comparison_maker(row_maker("QKV", "softmax", 0), row), row)

    ends = (-0.004, -0.013, 0.004, 0.02)
    cost = "Against QKV: 8.5 % fewer parameters, 4.8 % fewer multiply-adds. "
    shown = "No difference of Jaccard is shown (−0.004, 95 % interval −0.013 to 0.004: "
    assert headline(carried(*ends)) == (
        f"{cost}{shown}other trainings too, by 6 seeds a side, 40 cases), and a loss of 0.02 or more is ruled out."
    )
    assert headline(Difference(*ends, over="cases and seeds", units=12, seeds=3)) == (
        f"{cost}{shown}other trainings too, by 3 seeds a side, 12 cases), and the interval leaves out a loss of 0.02. "
        "To speak of the method takes 6 seeds a side (3 here) and 20 cases (12 here)."
    )
    assert headline(Difference(0.01, 0.002, 0.02, 0.02, units=2, seeds=1)) == (
        f"{cost}Jaccard is higher in these runs (+0.010, 95 % interval 0.002 to 0.020: these trainings, 2 cases). "
        "To speak of the method takes 6 seeds a side (1 here) and 20 cases (2 here)."
    )
    assert headline(Difference(0.0, 0.0, 0.0, 0.02, over="cases", units=40, seeds=6)) == (
        f"{cost}Jaccard differs by 0.000 in every resample (these trainings, 40 cases): without variation the interval "
        "has no width, and nothing is ruled out."
    )
    fixed = headline(Difference(0.01, 0.002, 0.02, 0.02, over="cases", units=40, seeds=6))
    assert fixed.endswith("these trainings, 40 cases). To speak of the method takes an interval over cases and seeds.")
    assert headline(None) == f"{cost}No paired difference of Jaccard was computed."


def test_numbers() -> None:
    assert numbers.number(-0.0042) == "−0.004"
    assert numbers.number(-0.0001) == "0.000"
    assert numbers.signed(-0.0001) == "0.000"
    assert numbers.signed(0.0001) == "0.000"
    assert numbers.signed(0.004) == "+0.004"
    assert numbers.number(math.nan) == numbers.number(None) == numbers.MISSING
    assert numbers.number(-math.inf) == "−∞"
    assert score_text.span("dice", None, 1.0) == score_text.span("top1", 0.0, None) == ""
    assert numbers.percent(90, 100) == "−10.0 %"
    assert numbers.percent(1, 0) == numbers.MISSING
    assert (numbers.parameters(85_800_000), numbers.parameters(1234)) == ("85.80 M", "1.23 k")
    assert (numbers.macs(17_470_000_000), numbers.macs(1_500_000)) == ("17.47 G", "1.50 M")


def test_unknown_scores_are_shown_by_their_name(row_maker: Callable[..., Row]) -> None:
    assert score_text.title("novel") == "novel"
    assert score_text.title("hd95_mm/stomach") == "HD95 (mm)"
    row = row_maker("A", "kv", 0)
    row = replace(row, scores={"novel": row.scores["dice"], **row.scores})
    names = score_text.macro_scores([row])
    assert names[-1] == "novel"
    assert names.index("jaccard") < names.index("hd95_mm")
