from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_files import make_coco
from PIL import Image
from pycocotools.coco import COCO

from fewpairs.errors import InputError
from fewpairs.kinds.detection.layouts.open import open_detection
from fewpairs.kinds.detection.writing import (
    coco_results,
    colour,
    draw_detections,
    label_map,
    write_label_map,
    write_picture,
    write_results,
)
from fewpairs.types import Detections


def found(masks: bool = True) -> Detections:
    outlines = torch.zeros(3, 40, 60, dtype=torch.bool)
    outlines[0, 5:15, 5:25] = True
    outlines[1, 10:20, 20:30] = True
    outlines[2, 0:2, 0:2] = True
    return Detections(
        torch.tensor([[5.0, 5, 25, 15], [20, 10, 30, 20], [0, 0, 2, 2]]),
        torch.tensor([0.9, 0.8, 0.3]),
        torch.tensor([0, 1, 1]),
        outlines if masks else None,
    )


def test_results_are_read_by_pycocotools(tmp_path: Path) -> None:
    source = open_detection("coco", make_coco(tmp_path))
    results = coco_results(source.records[0].number, found(), source.classes, source.category_of)
    write_results(results, tmp_path / "out" / "results.json")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "annotations" / "instances_train2017.json"))
        loaded = coco.loadRes(str(tmp_path / "out" / "results.json"))
    assert [one["bbox"] for one in loaded.dataset["annotations"]] == [[5, 5, 20, 10], [20, 10, 10, 10], [0, 0, 2, 2]]
    assert [one["category_id"] for one in loaded.dataset["annotations"]] == [3, 7, 7]
    assert results[0]["segmentation"]["size"] == [40, 60]
    assert results[0]["score"] == pytest.approx(0.9)


def test_no_detections_are_an_empty_list(tmp_path: Path) -> None:
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4, 4))
    assert coco_results("a.png", none, ("a",), {"a": 1}) == []
    write_results([], tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert label_map(none, (4, 4)).max() == 0
    assert "segmentation" not in coco_results("a.png", found(masks=False), ("a", "b"), {"a": 1, "b": 2})[0]
    with pytest.raises(InputError, match="without a category id: b"):
        coco_results("a.png", found(), ("a", "b"), {"a": 1})


def test_of_overlapping_masks_the_best_is_on_top(tmp_path: Path) -> None:
    labels = label_map(found(), (40, 60))
    assert labels.dtype == np.uint16
    assert labels.max() == 2
    assert labels[12, 22] == 1
    assert labels[18, 22] == 2
    assert labels[0, 0] == 0
    assert label_map(found(), (40, 60), threshold=0.1)[0, 0] == 3
    write_label_map(labels, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as stored:
        assert stored.mode.startswith("I;16")
        np.testing.assert_array_equal(np.asarray(stored), labels)
    with pytest.raises(InputError, match="needs masks"):
        label_map(found(masks=False), (40, 60))


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("shape", [(3, 40, 60), (1, 40, 60), (1, 3, 40, 60)])
def test_pictures_show_what_was_found(tmp_path: Path, masks: bool, shape: tuple[int, ...]) -> None:
    picture = draw_detections(torch.zeros(shape), found(masks), ("cell", "blob"))
    assert picture.shape == (3, 40, 60)
    assert picture.dtype == torch.uint8
    assert tuple(picture[:, 15, 6].tolist()) == colour(0)
    assert picture[:, 2, 2].sum() == 0
    assert bool(picture[:, 7, 10].sum()) or not masks
    write_picture(picture, tmp_path / "shown.png")
    with Image.open(tmp_path / "shown.png") as stored:
        assert stored.size == (60, 40)


def test_a_picture_without_detections_is_itself() -> None:
    image = torch.full((3, 8, 8), 7, dtype=torch.uint8)
    assert torch.equal(draw_detections(image, found(), ("a", "b"), threshold=1.0), image)


def test_neighbouring_classes_have_different_colours() -> None:
    assert len({colour(label) for label in range(40)}) == 40


def test_truth_has_names_without_scores() -> None:
    image = torch.zeros(3, 40, 60)
    with_scores, without = (
        draw_detections(image, found(), ("cell", "blob"), scored=scored) for scored in (True, False)
    )
    assert without.any()
    assert (with_scores != 0).sum() > (without != 0).sum()
