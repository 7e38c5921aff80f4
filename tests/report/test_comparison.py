"""The result as plain data: nothing is lost on the way through JSON, and nonsense is refused with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.data.description import DataDescription
from fewpairs.errors import DataError, InputError
from fewpairs.numbers import change_percent
from fewpairs.report import Comparison, Curve, Difference, Estimate, Overlay, Row, StepTime
from fewpairs.report.vocabulary import VOCABULARIES

numbers = st.floats(allow_nan=False, width=64)
maybe = st.none() | numbers
texts = st.text(max_size=12)
scores = st.dictionaries(texts, st.builds(Estimate, maybe, maybe, maybe), max_size=3).map(
    lambda found: found | {"jaccard": Estimate(0.5)}
)
rows = st.builds(
    Row,
    recipe=texts,
    label=texts,
    attention=texts,
    parameters=st.integers(0, 10**12),
    macs=st.integers(0, 10**15),
    scores=scores,
    step_ms=st.none() | st.builds(StepTime, numbers, numbers, numbers),
    peak_mib=maybe,
    peak_of=texts,
    per_seed=st.dictionaries(texts, st.lists(maybe, max_size=3).map(tuple), max_size=2),
    differences=st.none()
    | st.dictionaries(
        texts, st.builds(Difference, maybe, maybe, maybe, numbers, texts, texts, maybe, maybe), max_size=2
    ),
    curves=st.lists(
        st.builds(
            Curve, st.integers(), st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple), steps_per_epoch=maybe
        ),
        max_size=2,
    ).map(tuple),
    confusions=st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=3).map(tuple),
    overlays=st.lists(
        st.builds(
            Overlay, st.sampled_from(["best", "median", "worst", "mistakes"]), texts, st.none() | st.binary(max_size=20)
        ),
        max_size=2,
    ).map(tuple),
)
comparisons = st.builds(
    Comparison,
    title=texts,
    command=texts,
    commit=texts,
    hardware=texts,
    versions=st.dictionaries(texts, texts, max_size=2),
    data=st.builds(DataDescription, texts, st.dictionaries(texts, st.integers(), max_size=2), texts),
    classes=st.lists(texts, max_size=3).map(tuple),
    seeds=st.lists(st.integers(), max_size=3).map(tuple),
    margin=numbers,
    rows=st.lists(rows, min_size=1, max_size=2).map(tuple),
    kind=st.sampled_from(list(VOCABULARIES)),
    over=texts,
    settings=st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=3),
)


@given(comparisons)
def test_json_keeps_everything(found: Comparison) -> None:
    text = found.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert Comparison.from_json(text) == found


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "the file"),
        ("[]", "the file"),
        ('{"rows": 1}', "title"),
    ],
)
def test_damaged_json_names_file_and_field(text: str, place: str) -> None:
    with pytest.raises(DataError, match=rf"runs/a\.json: not a fewpairs comparison: {place}"):
        Comparison.from_json(text, source="runs/a.json")


def test_unknown_field_and_wrong_type_are_refused(comparison: Comparison) -> None:
    data = json.loads(comparison.to_json())
    with pytest.raises(DataError, match="surprise"):
        Comparison.from_json(json.dumps(data | {"surprise": 1}))
    data["rows"][1]["parameters"] = "many"
    with pytest.raises(DataError, match=r"rows\.1\.parameters"):
        Comparison.from_json(json.dumps(data))


def test_a_comparison_needs_rows_with_the_headline_score(comparison: Comparison) -> None:
    with pytest.raises(InputError, match="at least one row"):
        replace(comparison, rows=())
    with pytest.raises(InputError, match=r"no score 'kaggle' for qkv, kv"):
        replace(comparison, headline="kaggle")


def test_the_kind_decides_the_words(comparison: Comparison) -> None:
    assert comparison.words.units == "cases"
    assert comparison.resampled == "cases and seeds"
    assert replace(comparison, kind="classification").words.units == "images"
    assert replace(comparison, over="seeds").resampled == "seeds"
    with pytest.raises(InputError, match="unknown kind of comparison 'clasification'; did you mean 'classification'"):
        replace(comparison, kind="clasification")


def test_pictures_move_into_files_with_safe_names(comparison: Comparison, row_maker: Callable[..., Row]) -> None:
    awkward = replace(comparison, rows=(row_maker("../../etc/<passwd>", "kv", 0),))
    stored, files = awkward.with_overlay_files("pictures")
    assert len(files) == 3
    assert all(name.startswith("pictures/01-") and name.count("/") == 1 and ".." not in name for name in files)
    assert [overlay.path for overlay in stored.rows[0].overlays] == list(files)
    assert [overlay.png for overlay in stored.rows[0].overlays] == [None] * 3
    assert list(files.values()) == [overlay.png for overlay in awkward.rows[0].overlays]


def test_overlay_without_its_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png"):
        Overlay("best", "case1", path="gone.png").read(tmp_path)
    with pytest.raises(InputError, match="neither picture nor path"):
        Overlay("best", "case1").read()


def test_estimates_come_from_the_metrics_own_results() -> None:
    from fewpairs.scoring.interval import Interval, PairedDifference

    assert Estimate.of(Interval(0.8, 0.7, 0.9)) == Estimate(0.8, 0.7, 0.9)
    paired = PairedDifference(-0.1, -0.2, 0.0, 0.02, "inconclusive", "dice", 12, defining=11)
    assert Difference.of(paired) == Difference(-0.1, -0.2, 0.0, 0.02, "inconclusive", "cases", units=11, seeds=1)
    both = PairedDifference(
        *(-0.1, -0.2, 0.0, 0.02, "inconclusive", "top1", 12),
        over="images and seeds",
        runs_low=-0.15,
        runs_high=-0.05,
        seeds=3,
        defining=12,
        sure_low=-0.21,
        sure_high=0.01,
    )
    assert Difference.of(both) == Difference(
        *(-0.1, -0.2, 0.0, 0.02, "inconclusive", "images and seeds", -0.15, -0.05, -0.21, 0.01, 12, 3)
    )


def test_change_in_percent() -> None:
    assert change_percent(90, 100) == -10
    assert change_percent(5, 0) is None
