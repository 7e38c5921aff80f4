from __future__ import annotations

import torch

from fewpairs.kinds.detection.pictures import ranked_images
from fewpairs.kinds.detection.record import DetectionRecord, detection_record
from fewpairs.types import Detections, Objects


def record(name: str, shift: float | None) -> DetectionRecord:
    """An image whose object was found `shift` pixels beside its place; None: an image without objects."""
    box = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    truth = Objects(box, torch.tensor([0]), None, torch.tensor([False]), torch.tensor([400.0]))
    found = Detections(box + (shift or 0.0), torch.tensor([0.9]), torch.tensor([0]))
    return detection_record(
        name, (40, 40), Objects.none() if shift is None else truth, found, classes=("cell",), masks=False
    )


def test_the_best_the_median_and_the_worst_image() -> None:
    records = [record("empty", None), record("far", 9.0), record("exact", 0.0), record("near", 1.0)]
    shown = ranked_images(records, "ap")
    assert {rank: name for rank, (name, _) in shown.items()} == {"best": "exact", "median": "near", "worst": "far"}
    assert shown["best"][1] == 1.0
    assert shown["worst"][1] == 0.0


def test_fewer_images_give_fewer_pictures() -> None:
    assert ranked_images([record("one", 0.0)], "ap50") == {"best": ("one", 1.0)}
    assert ranked_images([record("empty", None)], "ap50") == {}
