"""Counting one scan, and keeping what was counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.record import SegmentationRecord, segmentation_record
from fewpairs.scoring.records import load_records, merge_records, save_records

MakeRecord = Callable[..., SegmentationRecord]
stacks = arrays(bool, (3, 2, 4, 5))


@given(stacks, stacks)
def test_counts_are_those_of_single_voxels(prediction: np.ndarray, truth: np.ndarray) -> None:
    record = segmentation_record(prediction, truth, (1.0, 1.0, 1.0), scan="s", case="c", surface=False)
    for j in range(2):
        p, t = prediction[:, j], truth[:, j]
        assert record.true_positive[j] == (p & t).sum()
        assert record.false_positive[j] == (p & ~t).sum()
        assert record.false_negative[j] == (~p & t).sum()
        assert record.true_negative[j] == (~p & ~t).sum()
    p, t = ~prediction.any(axis=1), ~truth.any(axis=1)
    assert record.background == ((p & t).sum(), (p & ~t).sum(), (~p & t).sum(), (~p & ~t).sum())


@given(stacks, stacks)
def test_a_record_survives_json(prediction: np.ndarray, truth: np.ndarray) -> None:
    record = segmentation_record(prediction, truth, (3.0, 1.5, 1.5), scan="s", case="c")
    assert SegmentationRecord.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False))) == record


def test_tensors_arrays_and_numbers_are_the_same_to_it() -> None:
    truth = torch.rand(3, 2, 4, 5) > 0.5
    prediction = torch.rand(3, 2, 4, 5) > 0.5
    first = segmentation_record(prediction, truth, (1.0, 1.0, 1.0), scan="s", case="c")
    second = segmentation_record(prediction.numpy(), truth.float(), (1.0, 1.0, 1.0), scan="s", case="c")
    assert first == second


def test_a_class_that_either_side_lacks_has_no_distance() -> None:
    truth = np.zeros((2, 3, 4, 4), dtype=bool)
    truth[:, :2, 1:3, 1:3] = True
    prediction = np.zeros_like(truth)
    prediction[:, 1:, 1:3, 1:3] = True
    record = segmentation_record(prediction, truth, (2.0, 1.0, 1.0), scan="s", case="c")
    assert record.hd95_mm == (None, 0.0, None)
    assert record.diagonal_mm == pytest.approx(np.sqrt(4**2 + 4**2 + 4**2))
    assert record.hausdorff_score == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truth": np.zeros((2, 1, 3, 4))}, r"'day0'.*one shape.*\[2, 1, 3, 3\] and \[2, 1, 3, 4\]"),
        ({"truth": np.full((2, 1, 3, 3), 2)}, "truth of scan 'day0' must hold only 0 and 1"),
        ({"prediction": np.full((2, 1, 3, 3), 0.5)}, "prediction of scan 'day0' must hold only 0 and 1"),
        ({"prediction": np.full((2, 1, 3, 3), np.nan)}, "prediction of scan 'day0' must hold only 0 and 1"),
        ({"spacing": (0.0, 1.0, 1.0)}, "spacing must be three positive distances"),
        ({"spacing": (1.0, 1.0)}, "spacing must be three positive distances"),
        ({"classes": ("a", "b")}, "2 class names"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], message: str) -> None:
    mask = np.zeros((2, 1, 3, 3), dtype=bool)
    good: dict[str, object] = {
        "prediction": mask,
        "truth": mask,
        "spacing": (1.0, 1.0, 1.0),
        "scan": "day0",
        "case": "c",
    }
    with pytest.raises(InputError, match=message):
        segmentation_record(**(good | arguments))


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4))
def test_merging_sorts_and_counts_repeated_scans_once(record: MakeRecord, order: list[int], again: list[int]) -> None:
    records = [record(seed) for seed in range(6)]
    assert merge_records([records[i] for i in [*order, *again]]) == records


def test_two_results_for_one_scan_are_refused(record: MakeRecord) -> None:
    with pytest.raises(InputError, match="'scan1' of case 'a' was evaluated twice"):
        merge_records([record(1, case="a"), record(2, case="a", scan="scan1")])


def test_records_of_other_classes_are_refused(record: MakeRecord) -> None:
    with pytest.raises(
        InputError,
        match=r"'scan2' of case 'case2' has the classes liver, spleen but scan 'scan1' of case 'case1' has sto",
    ):
        merge_records([record(1), replace(record(2), classes=("liver", "spleen"))])


def test_records_survive_a_file(record: MakeRecord, tmp_path: Path) -> None:
    records = [record(seed, surface=seed > 1) for seed in range(4)]
    save_records(records, tmp_path / "records.jsonl", SegmentationRecord)
    assert load_records(tmp_path / "records.jsonl", SegmentationRecord) == records


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("case"),
        lambda data: data.update(extra=1),
        lambda data: data.update(true_positive=[1]),
        lambda data: data.update(true_positive=["1", "2"]),
        lambda data: data.update(slices=None),
        lambda data: data.update(classes="ab"),
        lambda data: data.update(scan=3),
        lambda data: data.update(diagonal_mm="far"),
        lambda data: data.update(background=[1, 2]),
    ],
)
def test_a_damaged_record_names_file_and_line(
    record: MakeRecord, tmp_path: Path, damage: Callable[[dict[str, object]], object]
) -> None:
    path = tmp_path / "records.jsonl"
    good, bad = record(1).to_dict(), record(2).to_dict()
    damage(bad)
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    with pytest.raises(DataError, match=r"records\.jsonl, line 2"):
        load_records(path, SegmentationRecord)


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"scan": '])
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "records.jsonl").write_text(text)
    with pytest.raises(DataError, match="line 1"):
        load_records(tmp_path / "records.jsonl", SegmentationRecord)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nothing\.jsonl"):
        load_records(tmp_path / "nothing.jsonl", SegmentationRecord)
