"""Intervals over cases and paired verdicts: determinism, coverage, and what may not be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.record import SegmentationRecord, segmentation_record
from fewpairs.kinds.segmentation.scores import segmentation_scores
from fewpairs.kinds.segmentation.scoring import SegmentationScoring
from fewpairs.scoring.interval import Interval, PairedDifference
from fewpairs.scoring.verdict import read_interval

MakeRecord = Callable[..., SegmentationRecord]


def intervals(runs: Any, *, rule: EmptyRule = EmptyRule.STRICT, **options: Any) -> dict[str, Interval]:
    return SegmentationScoring(rule).intervals(runs, **options)


def paired(baseline: Any, candidate: Any, *, metric: str = "dice", **options: Any) -> PairedDifference:
    return SegmentationScoring().paired(baseline, candidate, metric=metric, **options)


def counted(case: int, right: int, wrong: int) -> SegmentationRecord:
    """A scan of 100 true voxels of which `right` were found, and `wrong` invented ones."""
    return SegmentationRecord(
        scan=f"scan{case}",
        case=f"case{case:03d}",
        classes=("organ",),
        true_positive=(right,),
        false_positive=(wrong,),
        false_negative=(100 - right,),
        true_negative=(1000 - 100 - wrong,),
        background=(900 - wrong, 100 - right, wrong, right),
        diagonal_mm=100.0,
        slice_dice=(0.5,),
        slices=(1,),
        hd95_mm=(float(wrong),),
        hausdorff_score=(0.5,),
    )


def model(offset: float, seed: int, cases: int = 30) -> list[SegmentationRecord]:
    generator = np.random.default_rng(seed)
    right = np.clip(generator.normal(80 + offset, 5, cases), 0, 100).astype(int)
    return [counted(i, int(r), 10) for i, r in enumerate(right)]


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_intervals(record: MakeRecord, seed: int) -> None:
    records = [record(i, case=f"case{i % 4}") for i in range(6)]
    first = intervals(records, samples=100, seed=seed)
    assert first == intervals(records[::-1], samples=100, seed=seed)


def test_another_seed_gives_other_intervals(record: MakeRecord) -> None:
    records = [record(i) for i in range(12)]
    first, second = (intervals(records, samples=200, seed=seed)["jaccard"] for seed in (0, 1))
    assert first.value == second.value
    assert first.low != second.low


def test_the_value_is_the_score_and_lies_inside(record: MakeRecord) -> None:
    records = [record(i, surface=True) for i in range(12)]
    scores = segmentation_scores(records)
    for name, interval in intervals(records, samples=500).items():
        assert interval.value == pytest.approx(scores[name]), name
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= scores[name] <= interval.high, name
        assert interval.low < interval.high, name


def test_a_higher_level_is_wider() -> None:
    records = model(0, 0)
    narrow, wide = (intervals(records, level=level)["dice"] for level in (0.5, 0.99))
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low is not None
    assert wide.high is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # A share of 0.8 of each case's voxels is found on average and nothing invented: the pooled Jaccard tends to 0.8.
    covered = 0
    generator = np.random.default_rng(0)
    for _ in range(300):
        right = generator.binomial(10, 0.8, size=25) * 10
        interval = intervals([counted(i, int(r), 0) for i, r in enumerate(right)], samples=300)["jaccard"]
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0.8 <= interval.high
    assert 0.89 <= covered / 300 <= 0.98


def test_cases_are_resampled_not_scans() -> None:
    """Copies of a case's scans hold no new information: the interval must not shrink."""
    records = model(0, 0, cases=8)
    copies = [replace(r, scan=f"{r.scan}_{i}") for r in records for i in range(10)]
    once, often = intervals(records)["jaccard"], intervals(copies)["jaccard"]
    assert (once.low, once.high) == pytest.approx((often.low, often.high))


def test_one_case_has_no_interval_and_says_why() -> None:
    interval = intervals([counted(0, 80, 10), replace(counted(0, 70, 5), scan="second")])["jaccard"]
    assert interval.value is not None
    assert (interval.low, interval.high) == (None, None)
    assert interval.reason is not None
    assert "only one case" in interval.reason


def test_a_class_that_one_case_has_gets_no_interval_though_others_do() -> None:
    records = []
    for case in range(4):
        truth = np.zeros((1, 2, 4, 4), dtype=bool)
        truth[0, 0, : case + 1] = True
        truth[0, 1, 0, 0] = case == 0
        prediction = truth.copy()
        prediction[0, :, :, 0] = True
        prediction[0, 1, :, 0] = False
        records.append(segmentation_record(prediction, truth, (1.0, 1.0, 1.0), scan=str(case), case=str(case)))
    result = intervals(records, samples=200)
    assert result["jaccard/0"].low is not None
    for name in ("jaccard/1", "dice/1", "hd95_mm/1"):
        assert result[name].value is not None
        assert result[name].low is None


def test_a_score_that_is_not_defined_is_no_number() -> None:
    empty = np.zeros((1, 1, 2, 2), dtype=bool)
    records = [segmentation_record(empty, empty, (1.0, 1.0, 1.0), scan=str(i), case=str(i)) for i in range(3)]
    interval = intervals(records, samples=100)["jaccard"]
    assert interval == Interval(None, None, None, 0.95, "no case defines this score")
    json.dumps(interval.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("offset", "margin", "said"),
    [(10, 0.02, "superior"), (-10, 0.02, "inferior"), (-1, 0.05, "non-inferior"), (-3, 0.03, "inconclusive")],
)
def test_verdicts_where_more_is_better(offset: float, margin: float, said: str) -> None:
    difference = paired(model(0, 1), model(offset, 2), metric="jaccard", margin=margin, samples=2000)
    assert difference.reading == said, difference
    assert difference.cases == 30


@pytest.mark.parametrize(
    ("offset", "margin", "said"),
    [(-8, 1.0, "superior"), (8, 1.0, "inferior"), (1, 4.0, "non-inferior"), (1, 1.0, "inconclusive")],
)
def test_verdicts_where_less_is_better(offset: int, margin: float, said: str) -> None:
    generator = np.random.default_rng(0)
    wrong = generator.integers(20, 30, size=(2, 30))
    baseline = [counted(i, 80, int(w)) for i, w in enumerate(wrong[0])]
    candidate = [counted(i, 80, int(w) + offset) for i, w in enumerate(wrong[1])]
    assert paired(baseline, candidate, metric="hd95_mm", margin=margin).reading == said


@given(st.floats(-0.2, 0.2), st.floats(0, 0.3), st.floats(0, 0.1))
def test_the_verdict_follows_from_the_interval(centre: float, width: float, margin: float) -> None:
    low, high = centre - width, centre + width
    said = read_interval(low, high, margin, higher_is_better=True)
    assert (said == "superior") == (low > 0)
    # an end that is the margin but for rounding is not above it
    above = low > -margin and not math.isclose(low, -margin, rel_tol=1e-9)
    assert (said in ("superior", "non-inferior")) == (above or low > 0)
    assert (said == "inferior") == (high < -margin)
    assert said == read_interval(-high, -low, margin, higher_is_better=False)


def test_pairing_makes_the_interval_narrower_than_the_cases_differ() -> None:
    generator = np.random.default_rng(3)
    difficulty = generator.integers(30, 90, size=25)
    baseline = [counted(i, int(d), 0) for i, d in enumerate(difficulty)]
    candidate = [counted(i, int(d) + 3, 0) for i, d in enumerate(difficulty)]
    difference = paired(baseline, candidate, metric="jaccard", margin=0.01)
    alone = intervals(baseline)["jaccard"]
    assert difference.value == pytest.approx(0.03)
    assert (difference.low, difference.high) == pytest.approx((0.03, 0.03))
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high - alone.low > 0.05
    assert difference.reading == "superior"


def test_seeds_are_averaged_and_drawn_inside_each_resample() -> None:
    baseline = [model(0, seed) for seed in (1, 2, 3)]
    candidate = [model(2, seed) for seed in (4, 5)]
    difference = paired(baseline, candidate, metric="dice", margin=0.01, samples=1000)
    means = [np.mean([segmentation_scores(run)["dice"] for run in side]) for side in (baseline, candidate)]
    assert difference.value == pytest.approx(means[1] - means[0])
    assert difference.over == "cases and seeds"
    assert difference.low < difference.runs_low < difference.runs_high < difference.high  # type: ignore[operator]
    fixed = paired(baseline, candidate, metric="dice", margin=0.01, samples=1000, over="cases")
    assert (fixed.low, fixed.high, fixed.over) == (difference.runs_low, difference.runs_high, "cases")
    swapped = paired(candidate[::-1], baseline[::-1], metric="dice", margin=0.01, samples=1000, over="cases")
    assert (swapped.low, swapped.high) == pytest.approx((-fixed.high, -fixed.low))  # type: ignore[operator]
    single = paired(baseline[:1], candidate[0], metric="dice", margin=0.01, samples=1000)
    assert single == paired(baseline[0], candidate[0], metric="dice", margin=0.01, samples=1000)


def test_intervals_average_seeds_inside_each_resample() -> None:
    runs = [model(0, seed) for seed in (1, 2, 3)]
    assert intervals(runs, samples=300)["dice"].over == "cases and seeds"
    together = intervals(runs, samples=300, over="cases")
    assert together["dice"].value == pytest.approx(np.mean([segmentation_scores(run)["dice"] for run in runs]))
    assert intervals(runs[:1], samples=300) == intervals(runs[0], samples=300)
    widths = [r.high - r.low for r in (intervals(run, samples=300)["dice"] for run in runs)]  # type: ignore[operator]
    assert together["dice"].high - together["dice"].low < max(widths)  # type: ignore[operator]
    with pytest.raises(InputError, match=r"the evaluation \(run 2\) was not evaluated.*case029"):
        intervals([runs[0], runs[1][:-1]])


def test_a_paired_difference_is_json() -> None:
    difference = paired(model(0, 1), model(1, 2), margin=0.02, samples=200)
    assert PairedDifference(**json.loads(json.dumps(difference.to_dict(), allow_nan=False))) == difference


def test_one_case_decides_nothing() -> None:
    difference = paired([counted(0, 50, 0)], [counted(0, 90, 0)], metric="jaccard", margin=0.01)
    assert difference.value == pytest.approx(0.4)
    assert (difference.low, difference.high, difference.verdict) == (None, None, "inconclusive")
    assert difference.reason is not None


def test_other_cases_are_named() -> None:
    baseline, candidate = model(0, 1), model(0, 2)
    with pytest.raises(InputError, match=r"candidate was not evaluated.*cases missing: case000, case001;"):
        paired(baseline, [*candidate[2:]], margin=0.01)
    with pytest.raises(InputError, match="cases only there: case030"):
        paired(baseline, [*candidate, counted(30, 1, 1)], margin=0.01)
    with pytest.raises(InputError, match=r"\(run 2\).*scans missing: scan0.*scans only there: second"):
        paired(baseline, [candidate, [replace(candidate[0], scan="second"), *candidate[1:]]], margin=0.01)


def test_other_classes_are_named() -> None:
    other = [replace(r, classes=("liver",)) for r in model(0, 2)]
    with pytest.raises(InputError, match="classes liver, the baseline organ"):
        paired(model(0, 1), other, margin=0.01)


def test_another_truth_is_named() -> None:
    other = [replace(r, false_negative=(200,)) if r.case == "case003" else r for r in model(0, 2)]
    with pytest.raises(InputError, match="candidate has another truth than the baseline for the cases case003;"):
        paired(model(0, 1), other, margin=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, "margin must be a number of at least 0"),
        ({"margin": math.nan}, "margin must be a number of at least 0"),
        ({"samples": 10}, "samples must be at least 100"),
        ({"level": 95}, "level must lie between 0 and 1"),
        ({"metric": "dise"}, "did you mean 'dice'"),
        ({"baseline": []}, "baseline has no records"),
        ({"candidate": [[]]}, "candidate has no records"),
        ({"candidate": [counted(0, 1, 1), [counted(0, 1, 1)]]}, "mixes records and lists"),
    ],
)
def test_wrong_calls_are_refused(arguments: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"baseline": model(0, 1), "candidate": model(0, 2), "margin": 0.01}
    with pytest.raises(InputError, match=message):
        paired(**(good | arguments))  # type: ignore[arg-type]


def test_a_surface_score_needs_surfaces(record: MakeRecord) -> None:
    records = [record(i) for i in range(3)]
    with pytest.raises(InputError, match="hd95_mm needs surface distances"):
        paired(records, records, metric="hd95_mm", margin=1.0)


def test_seeds_must_be_measured_alike(record: MakeRecord) -> None:
    with pytest.raises(
        InputError, match=r"run 2\) was evaluated without surface distances, the evaluation with surface distances"
    ):
        intervals([[record(1, surface=True)], [record(1)]])


def test_the_rule_reaches_the_interval() -> None:
    empty, full = np.zeros((1, 1, 3, 3), dtype=bool), np.ones((1, 1, 3, 3), dtype=bool)
    records = [
        segmentation_record(mask, mask, (1.0, 1.0, 1.0), scan=str(i), case=str(i))
        for i, mask in enumerate((empty, full))
    ]
    strict, credit = (intervals(records, rule=rule)["dice_per_scan"] for rule in (EmptyRule.STRICT, EmptyRule.CREDIT))
    assert strict.low is None
    assert credit.low == 1.0
