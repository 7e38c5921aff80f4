from __future__ import annotations

from typing import Any

import pytest
import torch

from fewpairs.errors import InputError
from fewpairs.kinds.detection.task import TERMS, Detection
from fewpairs.types import DetectionBatch, DetectionItem, Detections, Objects

BOX = torch.tensor([[1.0, 1.0, 5.0, 6.0]])


def found(label: int = 0, *, masks: bool = False) -> Detections:
    mask = torch.zeros(1, 8, 9, dtype=torch.bool)
    mask[:, 1:6, 1:5] = True
    return Detections(BOX, torch.tensor([0.9]), torch.tensor([label]), mask if masks else None)


def picture(*, masks: bool = False) -> DetectionItem:
    truth = Objects(BOX, torch.tensor([0]), found(masks=masks).masks, torch.tensor([False]), torch.tensor([20.0]))
    return DetectionItem(torch.rand(1, 3, 8, 9), "a.png", truth)


def batch() -> DetectionBatch:
    one = picture()
    return DetectionBatch((one.image[0],), (one.objects,), (one.id,))


def test_the_detectors_losses_are_weighted_by_name() -> None:
    task = Detection(["cell"], weights={"box": 2.0, "mask": 0.0})
    terms = task.loss({"class": torch.tensor(1.0), "box": torch.tensor(3.0), "mask": torch.tensor(5.0)}, batch())
    assert {name: float(value) for name, value in terms.items()} == {"class": 1.0, "box": 6.0, "mask": 0.0}


def test_a_perfect_detection_scores_one_and_none_scores_zero() -> None:
    for masks in (False, True):
        task, item = Detection(["cell", "other"], masks=masks), picture(masks=masks)
        metric = task.metric()
        metric.update(task.predict([found(masks=masks)], item), item)
        scores = metric.compute()
        assert scores["ap"] == scores["ap50"] == scores["ap/cell"] == pytest.approx(1.0)
        assert ("mask_ap" in scores) == masks
        empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0, 8, 9).bool())
        metric = task.metric()
        metric.update(task.predict([empty], item), item)
        assert metric.compute()["ap"] == 0.0


def test_as_many_detections_count_as_are_asked_for() -> None:
    assert Detection(["cell"]).metric().max_detections == 100
    assert Detection(["cell"], max_detections=300).metric().max_detections == 300


@pytest.mark.parametrize(
    ("classes", "options", "words"),
    [
        ("cell", {}, "must be a list of different names"),
        ([], {}, "must be a list of different names"),
        (["a", "a"], {}, "must be a list of different names"),
        (["a"], {"weights": {"boxes": 1.0}}, r"unknown term 'boxes' of the loss; did you mean .*box"),
        (["a"], {"weights": {"box": -1.0}}, "the weight of box must be 0 or more, got -1.0"),
        (["a"], {"weights": {"box": float("nan")}}, "the weight of box must be 0 or more"),
        (["a"], {"max_detections": 0}, "max_detections=0 must be at least 1"),
    ],
)
def test_what_makes_no_task_is_refused(classes: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Detection(classes, **options)


def test_what_is_no_detection_is_one_message() -> None:
    task, item = Detection(["cell"]), picture()
    with pytest.raises(InputError, match="returns its losses by name in training, got Tensor"):
        task.loss(torch.zeros(1), batch())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="returns Detections, got Tensor"):
        task.predict([torch.zeros(1)], item)  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"a\.png: the model predicted class number 1, but there are 1 classes"):
        task.predict([found(1)], item)
    with pytest.raises(InputError, match="the model predicts boxes alone; use mask_rcnn"):
        Detection(["cell"], masks=True).predict([found()], item)


def test_terms_are_those_of_the_detectors() -> None:
    from fewpairs.models.detector import _TERMS

    assert set(TERMS) == set(_TERMS.values())
