"""The words: better and worse only where the interval excludes zero, in the direction of the score."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs import numbers
from fewpairs.report import Difference, Row, score_text

ends = st.floats(-0.2, 0.2)


@given(ends, ends, st.floats(0, 0.1), st.sampled_from(["jaccard", "dice/stomach", "hd95_mm"]))
def test_better_and_worse_need_an_interval_without_zero(a: float, b: float, margin: float, name: str) -> None:
    low, high = sorted((a, b))
    difference = Difference((low + high) / 2, low, high, margin)
    kind = score_text.verdict_kind(name, difference)
    higher = score_text.describe(name).higher_is_better
    assert (kind == "better") == (low > 0 if higher else high < 0)
    assert (kind == "worse") == (high < 0 if higher else low > 0)
    worst = low if higher else -high
    if kind == "non-inferior":
        assert worst > -margin
    if kind == "inconclusive":
        assert worst <= -margin
    row = Row("b", "B", "kv", 90, 90, {}, differences={name: difference})
    sentence = score_text.headline(row, Row("a", "A", "softmax", 100, 100, {}), name)
    assert bool(re.search(r"\b(better|worse)\b", sentence)) == (kind in ("better", "worse"))
    assert ("ruled out." in sentence) == (kind == "non-inferior")


@given(ends, ends, st.floats(0.001, 0.1))
def test_the_words_agree_with_the_verdict_of_metrics(a: float, b: float, margin: float) -> None:
    from fewpairs.scoring.interval import verdict

    low, high = sorted((a, b))
    theirs = verdict(low, high, margin, higher_is_better=False)
    ours = score_text.verdict_kind("hd95_mm", Difference(0.0, low, high, margin))
    words = score_text.verdict("hd95_mm", Difference(0.0, low, high, margin))
    assert (theirs == "superior") == (ours == "better")
    assert (theirs == "inferior") == (words == "worse, beyond the margin")
    assert (theirs == "non-inferior") == (words in ("non-inferior", "worse, within the margin"))


def test_without_an_interval_nothing_is_claimed(row_maker: Callable[..., Row]) -> None:
    for gap in (Difference(-0.3, None, None, 0.02), Difference(-0.3, math.nan, math.nan, 0.02)):
        assert score_text.verdict_kind("jaccard", gap) == "not computed"
        row = replace(row_maker("KV", "kv", 1), differences={"jaccard": gap})
        sentence = score_text.headline(row, row_maker("QKV", "softmax", 0), "jaccard")
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
    assert score_text.verdict("jaccard", Difference((low + high) / 2, low, high, 0.02)) == words


def test_headline_says_cost_and_score(row_maker: Callable[..., Row]) -> None:
    row = row_maker("KV", "kv", 1, difference=Difference(-0.004, -0.013, 0.004, 0.02))
    assert score_text.headline(row, row_maker("QKV", "softmax", 0), "jaccard") == (
        "Against QKV: 8.5 % fewer parameters, 4.8 % fewer multiply-adds. No difference of Jaccard is shown "
        "(−0.004, 95 % interval −0.013 to 0.004), and a loss of 0.02 or more is ruled out."
    )
    same = score_text.headline(replace(row, differences=None), row, "jaccard")
    assert (
        same == "Against KV: as many parameters, as many multiply-adds. No paired difference of Jaccard was computed."
    )


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
