"""The metric object: neither the batch size nor the number of processes may change a score."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.scoring import SegmentationMetric
from fewpairs.types import Geometry, Scan

CLASSES = ("stomach", "bowel")


def made_scans(number: int = 6) -> list[tuple[Tensor, Scan]]:
    generator = np.random.default_rng(0)
    pairs = []
    for index in range(number):
        slices = int(generator.integers(1, 5))
        mask = torch.from_numpy(generator.random((slices, 2, 6, 5)) < 0.3)
        prediction = mask ^ torch.from_numpy(generator.random((slices, 2, 6, 5)) < 0.15)
        scan = Scan(
            id=f"case{index // 2}_day{index}",
            case=f"case{index // 2}",
            image=torch.zeros(slices, 1, 6, 5),
            mask=mask,
            spacing=(3.0, 1.5, 1.5),
            geometry=Geometry((6, 5), (6, 5)),
            slice_ids=tuple(str(i) for i in range(slices)),
        )
        pairs.append((prediction, scan))
    return pairs


def chunks(items: list[int], sizes: list[int]) -> Iterator[list[int]]:
    start = 0
    for size in [*sizes, len(items)]:
        if items[start : start + size]:
            yield items[start : start + size]
        start += size


@given(st.permutations(range(6)), st.lists(st.integers(1, 4), max_size=4), st.lists(st.integers(0, 5), max_size=3))
def test_processes_and_order_change_no_bit(order: list[int], sizes: list[int], repeated: list[int]) -> None:
    pairs = made_scans()
    alone = SegmentationMetric(CLASSES)
    for prediction, scan in pairs:
        alone.update(prediction, scan)
    together = SegmentationMetric(CLASSES)
    for part in chunks([*order, *repeated], sizes):
        process = SegmentationMetric(CLASSES)
        for index in part:
            process.update(*pairs[index])
        together.merge(process.records)
    assert together.compute() == alone.compute()
    assert together.records == alone.records
    one, other = (metric.scoring.intervals(metric.records, samples=100) for metric in (together, alone))
    assert one == other


def test_surfaces_can_be_left_out() -> None:
    metric = SegmentationMetric(CLASSES, surface=False)
    (record,) = metric.update(*made_scans(1)[0])
    assert record.hd95_mm is None
    assert not {"hd95_mm", "kaggle"} & set(metric.compute())


def test_its_rule_is_used() -> None:
    scan = made_scans(1)[0][1]
    empty = Scan(scan.id, scan.case, scan.image, torch.zeros_like(scan.mask), scan.spacing, scan.geometry, ())
    scores = {}
    for rule in EmptyRule:
        metric = SegmentationMetric(CLASSES, rule=rule)
        metric.update(empty.mask, empty)
        scores[rule] = metric.compute()
    assert np.isnan(scores[EmptyRule.STRICT]["hd95_mm"])
    assert scores[EmptyRule.CREDIT]["dice_per_scan"] == 1.0
    assert scores[EmptyRule.KAGGLE]["hd95_mm"] == 0.0


def test_a_prediction_of_another_size_names_the_scan() -> None:
    prediction, scan = made_scans(1)[0]
    with pytest.raises(InputError, match="case0_day0"):
        SegmentationMetric(CLASSES).update(prediction[..., :-1], scan)


def test_classes_must_fit() -> None:
    with pytest.raises(InputError, match="3 class names"):
        SegmentationMetric(("a", "b", "c")).update(*made_scans(1)[0])
    with pytest.raises(InputError, match="different names"):
        SegmentationMetric(("a", "a"))


def test_an_unused_metric_has_no_scores() -> None:
    with pytest.raises(InputError, match="no scan was evaluated"):
        SegmentationMetric(CLASSES).compute()
