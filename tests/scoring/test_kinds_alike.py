"""Every kind's scoring is the same bootstrap: training seeds are drawn where there are several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewpairs.kinds.classification.record import ClassificationRecord
from fewpairs.kinds.classification.scoring import ClassificationScoring
from fewpairs.kinds.detection.record import DetectionRecord
from fewpairs.kinds.detection.scoring import DetectionScoring
from fewpairs.kinds.segmentation.record import SegmentationRecord, segmentation_record
from fewpairs.kinds.segmentation.scoring import SegmentationScoring
from fewpairs.kinds.self_distillation.scoring import FeatureScoring
from fewpairs.kinds.semantic.record import SemanticRecord
from fewpairs.kinds.semantic.scoring import SemanticScoring
from fewpairs.scoring.records import Record, load_records, merge_records, save_records
from fewpairs.scoring.scoring import Scoring

UNITS = 12
TWO = ("cat", "dog")


def scan(generator: np.random.Generator, number: int) -> SegmentationRecord:
    truth = np.random.default_rng(number).random((2, 1, 6, 6)) < 0.5
    found = truth ^ (generator.random(truth.shape) < 0.2)
    return segmentation_record(
        found, truth, (1.0, 1.0, 1.0), scan=f"s{number:02d}", case=f"c{number:02d}", classes=("organ",)
    )


def image(generator: np.random.Generator, number: int) -> ClassificationRecord:
    label, rank = number % 2, int(generator.integers(1, 3))
    predicted = label if rank == 1 else 1 - label
    return ClassificationRecord(f"{number:02d}", label, rank, predicted, 0.7, float(generator.random()), TWO)


def scene(generator: np.random.Generator, number: int) -> SemanticRecord:
    right, other = (int(n) for n in generator.integers(1, 50, 2))
    return SemanticRecord(
        f"{number:02d}", f"{number // 2:02d}", ((0, 0, right), (0, 1, 60 - right), (1, 1, other)), TWO
    )


def picture(generator: np.random.Generator, number: int) -> DetectionRecord:
    boxes = tuple((10.0 * place, 0.0, 10.0 * place + 8.0, 8.0) for place in range(3))
    shift = generator.uniform(0, 3, 3)
    found = tuple(
        (left + s, top, right + s, bottom) for s, (left, top, right, bottom) in zip(shift, boxes, strict=True)
    )
    scores = tuple(sorted(generator.random(3).tolist(), reverse=True))
    crowd, labels, area = (False,) * 3, (0, 1, number % 2), (64.0,) * 3
    name = f"{number:02d}"
    return DetectionRecord(name, (40, 40), boxes, labels, crowd, area, None, found, scores, labels, None, 0, TWO)


KINDS: dict[str, tuple[Scoring, Callable[[np.random.Generator, int], Any], str]] = {
    "segmentation": (SegmentationScoring(), scan, "cases"),
    "classification": (ClassificationScoring(), image, "images"),
    "semantic": (
        SemanticScoring(),
        lambda generator, number: replace(scene(generator, number), case=f"{number:02d}"),
        "images",
    ),
    "semantic cases": (SemanticScoring("cases"), scene, "cases"),
    "detection": (DetectionScoring(), picture, "images"),
    "self-distillation": (FeatureScoring(), image, "images"),
}
RECORDS = {"segmentation": scan, "classification": image, "semantic": scene, "detection": picture}


def run(kind: str, seed: int) -> list[Any]:
    make, generator = KINDS[kind][1], np.random.default_rng(seed)
    if kind.startswith("semantic"):  # the truth of an image does not depend on the run
        return [replace(r, pairs=(*r.pairs[:2], (1, 1, 30))) for r in (make(generator, n) for n in range(UNITS))]
    return [make(generator, number) for number in range(UNITS)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_seeds_are_drawn_and_one_is_not(kind: str) -> None:
    scoring, _, unit = KINDS[kind]
    sides = [[run(kind, seed) for seed in seeds] for seeds in ((1, 2), (3, 4))]
    alone, both = scoring.intervals(sides[0][:1], samples=200), scoring.intervals(sides[0], samples=200)
    assert scoring.unit == unit
    assert {one.over for one in alone.values()} == {unit}
    assert {one.over for one in both.values()} == {f"{unit} and seeds"}
    single = [scoring.scores(records) for records in sides[0]]
    assert list(alone) == list(single[0])
    for name, one in both.items():
        if one.value is not None:
            assert one.value == pytest.approx(np.mean([scores[name] for scores in single]))
    found = scoring.paired(*sides, metric=scoring.headline, margin=0.01, samples=200, steady=False)
    assert found.over == f"{unit} and seeds"
    assert found.metric == scoring.headline
    assert found.low < found.runs_low < found.runs_high < found.high  # type: ignore[operator]
    fixed = scoring.paired(*sides, metric=scoring.headline, margin=0.01, samples=200, over=unit, steady=False)
    assert (fixed.low, fixed.high, fixed.runs_low) == (found.runs_low, found.runs_high, None)
    assert found.cases == scoring.count(sides[0][0])


@pytest.mark.parametrize("kind", RECORDS)
def test_records_go_through_their_file_and_are_merged_alike(kind: str, tmp_path: Path) -> None:
    records: list[Record] = [RECORDS[kind](np.random.default_rng(number), number) for number in range(5)]
    what = type(records[0])
    save_records(records, tmp_path / "records.jsonl", what)
    assert load_records(tmp_path / "records.jsonl", what) == records
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 5 + what.header
    assert merge_records([*records[::-1], *records]) == records
