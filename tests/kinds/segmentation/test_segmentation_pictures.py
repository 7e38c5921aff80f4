from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewpairs.kinds.segmentation.pictures import ranked_cases
from fewpairs.kinds.segmentation.record import SegmentationRecord, segmentation_record
from fewpairs.runs.config import load_experiment
from fewpairs.scoring.records import load_records


def record(case: str, hit: float) -> SegmentationRecord:
    """A scan of one class of 100 pixels, of which the share `hit` is found, with surfaces measured."""
    truth = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    truth[..., :] = True
    predicted = truth.clone()
    predicted.view(-1)[: round(100 * (1 - hit))] = False
    return segmentation_record(predicted, truth, (1.0, 1.0, 1.0), scan=case, case=case, classes=("a",))


def test_best_median_and_worst_are_what_they_say() -> None:
    records = [record(case, hit) for case, hit in {"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.7, "e": 0.4}.items()]
    shown = ranked_cases(records, "dice")
    assert {rank: case for rank, (case, _) in shown.items()} == {"best": "b", "median": "c", "worst": "a"}


def test_lower_distances_are_better() -> None:
    records = [record(case, hit) for case, hit in {"a": 0.2, "b": 0.9, "c": 0.5}.items()]
    shown = ranked_cases(records, "hd95_mm")
    assert (shown["best"][0], shown["worst"][0]) == ("b", "a")
    assert shown["best"][1] < shown["worst"][1]


@pytest.mark.parametrize(("hits", "ranks"), [((0.5,), ["best"]), ((0.5, 0.6), ["best", "worst"])])
def test_a_case_is_shown_once(hits: tuple[float, ...], ranks: list[str]) -> None:
    records = [record(str(index), hit) for index, hit in enumerate(hits)]
    assert list(ranked_cases(records, "dice")) == ranks


def test_pictures_of_a_run(tiny: list[str], trained: Path) -> None:
    experiment = load_experiment("setr_kv_small", tiny)
    records = load_records(trained / "records-best.jsonl", SegmentationRecord)
    overlays = experiment.pictures(trained, records, weights="best", headline="dice")
    assert overlays[0].rank == "best"
    for overlay in overlays:
        picture = np.asarray(Image.open(io.BytesIO(overlay.read())).convert("RGB"))
        assert picture.shape[1] > picture.shape[0] > 100
        assert picture.std() > 5
        assert f"{overlay.rank} case" in overlay.caption


def test_other_records_choose_the_cases_and_captions_hold_the_own_scores(tiny: list[str], trained: Path) -> None:
    experiment = load_experiment("setr_kv_small", tiny)
    records = list(load_records(trained / "records-best.jsonl", SegmentationRecord))
    options = {"weights": "best", "headline": "dice"}
    own = experiment.pictures(trained, records, **options)
    best, worst = own[0].caption.split(" case ")[1], own[-1].caption.split(" case ")[1]
    assert best != worst
    hits = {record.case: 50 if record.case == worst.split(":")[0] else 0 for record in records}
    turned = [replace(record, true_positive=(hits[record.case],) * len(record.classes)) for record in records]
    others = experiment.pictures(trained, records, chosen_by=turned, **options)
    assert others[0].caption == f"best case {worst}", "the only case that those records hit, with its score here"
