from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fewpairs.errors import InputError
from fewpairs.kinds.detection.record import DetectionRecord
from fewpairs.kinds.detection.scores import detection_scores
from fewpairs.kinds.detection.scoring import DetectionMetric, DetectionScoring
from fewpairs.scoring.score_table import DETECTION_SCORES, find_score
from fewpairs.types import DetectionItem, Detections, Objects

CLASSES = ("cat", "dog")


def run(shift: float, *, images: int = 12, seed: int = 0, noise: int = 0) -> list[DetectionRecord]:
    """Images with three objects each, found `shift` px beside their places, some with a false alarm."""
    truth, chance = np.random.default_rng(seed), np.random.default_rng((seed, noise))
    metric = DetectionMetric(CLASSES)
    for image in range(images):
        corners = truth.uniform(0, 60, (3, 2)).astype(np.float32)
        boxes = torch.from_numpy(np.hstack([corners, corners + 30]))
        labels = torch.from_numpy(truth.integers(0, 2, 3))
        objects = Objects(boxes, labels, None, torch.zeros(3, dtype=torch.bool), torch.full((3,), 900.0))
        found = torch.cat([boxes + shift, torch.tensor([[0.0, 0, 9, 9]])])
        scores = torch.from_numpy(chance.uniform(0, 1, 4).astype(np.float32))
        item = DetectionItem(torch.zeros(1, 3, 100, 100), f"{image:03}.png", objects)
        metric.update([Detections(found, scores, torch.cat([labels, labels[:1]]))], item)
    return metric.records


def test_intervals_hold_the_score_and_repeat() -> None:
    records = run(3.0)
    found = DetectionScoring().intervals(records, samples=200)
    scores = detection_scores(records)
    assert list(found) == list(scores)
    for name in ("ap", "ap50", "ap/cat", "aps"):
        one = found[name]
        assert one.value == pytest.approx(scores[name])
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
        assert one.over == "images"
    assert found["apl"].value is None
    assert "no image holds" in (found["apl"].reason or "")
    assert DetectionScoring().intervals(records, samples=200) == found


def test_intervals_over_seeds_are_about_their_mean() -> None:
    runs = [run(3.0, noise=1), run(3.0, noise=2)]
    found = DetectionScoring().intervals(runs, samples=200)["ap"]
    assert found.value == pytest.approx(np.mean([detection_scores(one)["ap"] for one in runs]))
    assert found.over == "images and seeds"
    images = DetectionScoring().intervals(runs, samples=200, over="images")["ap"]
    assert images.over == "images"


def test_one_image_gives_no_interval() -> None:
    found = DetectionScoring().intervals(run(3.0, images=1), samples=100)["ap"]
    assert found.value is not None
    assert found.low is None
    assert "only one image" in (found.reason or "")


def test_a_better_detector_is_superior_and_the_same_is_equal() -> None:
    good, bad = run(1.0), run(9.0)
    found = DetectionScoring().paired(bad, good, metric="ap", margin=0.0, samples=300)
    assert found.reading == "superior"
    assert found.value == pytest.approx(detection_scores(good)["ap"] - detection_scores(bad)["ap"])
    assert found.cases == 12
    same = DetectionScoring().paired(good, good, metric="ap50", margin=0.01, samples=100)
    assert (same.value, same.low, same.high, same.verdict) == (0.0, 0.0, 0.0, "no variation")
    runs = DetectionScoring().paired([bad, bad], [good, good], metric="ap", margin=0.0, samples=100)
    assert runs.over == "images and seeds"
    assert runs.runs_low is not None


def test_what_cannot_be_compared_is_refused() -> None:
    good = run(1.0)
    with pytest.raises(InputError, match=r"images missing: 011\.png"):
        DetectionScoring().paired(good, good[:-1], metric="ap", margin=0.0, samples=100)
    with pytest.raises(InputError, match="another truth"):
        DetectionScoring().paired(good, run(1.0, seed=4), metric="ap", margin=0.0, samples=100)
    with pytest.raises(InputError, match="single training seed"):
        DetectionScoring().intervals(good, samples=100, over="images and seeds")
    with pytest.raises(InputError, match="unknown score 'mask_ap'"):
        DetectionScoring().paired(good, good, metric="mask_ap", margin=0.0, samples=100)
    with pytest.raises(InputError, match="at least 100"):
        DetectionScoring().intervals(good, samples=10)
    with pytest.raises(InputError, match="max_detections=0"):
        detection_scores(good, max_detections=0)


def test_scoring_is_what_a_comparison_asks_for(tmp_path: Path) -> None:
    scoring, records = DetectionScoring(headline="ap50"), run(2.0)
    assert scoring.compared == ("ap50", "ap", "ap75")
    assert scoring.count(records) == 12
    assert scoring.higher_is_better("ap/cat") is True
    assert scoring.higher_is_better("mask_ap") is None
    assert scoring.confusions(records) == ()
    assert "best 100" in scoring.rule
    scoring.check("ap50/dog", CLASSES)
    with pytest.raises(InputError, match="unknown score 'ap75/dog'"):
        scoring.check("ap75/dog", CLASSES)
    scoring.save(records, tmp_path / "records.jsonl")
    loaded = scoring.load(tmp_path / "records.jsonl")
    assert scoring.scores(loaded)["ap"] == scoring.scores(records)["ap"]
    assert scoring.intervals([loaded], samples=100)["ap"].value == pytest.approx(scoring.scores(records)["ap"])
    assert scoring.paired(records, loaded, metric="ap", margin=0.0, samples=100).value == 0
    json.dumps(scoring.intervals(records, samples=100)["ap"].to_dict())
    with pytest.raises(InputError, match="headline='mask_ap'"):
        DetectionScoring(headline="mask_ap")
    assert DetectionScoring(masks=True).compared[-1] == "mask_ap50"


def test_fewer_detections_count_where_fewer_are_asked_for() -> None:
    records = run(2.0)
    assert detection_scores(records, max_detections=1)["ap"] < detection_scores(records)["ap"]


def test_every_score_is_in_the_table() -> None:
    for name in detection_scores(run(2.0, images=2)):
        assert find_score(name, CLASSES, DETECTION_SCORES).higher_is_better
    assert not math.isnan(detection_scores(run(2.0, images=2))["ap"])
