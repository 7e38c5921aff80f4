"""Prediction of large pictures in bands and with masks on demand, against the prediction of the whole at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from fewpairs.errors import DataError
from fewpairs.kinds.detection.masks import coco, decode_masks
from fewpairs.kinds.detection.predict import DetectionPredictor
from fewpairs.kinds.detection.record import detection_record
from fewpairs.kinds.detection.task import Detection
from fewpairs.kinds.detection.view import DetectionView
from fewpairs.kinds.detection.writing import colour, draw_detections, label_map
from fewpairs.kinds.predictor import OutputFolder, PictureFile
from fewpairs.models.detectors import DetectorOptions, create_detector
from fewpairs.models.pasted_masks import PastedMasks
from fewpairs.runs.predict import predict_files
from fewpairs.types import Detections, Objects

SIZE = (122, 94)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let images of a few pixels count as large."""
    monkeypatch.setattr("fewpairs.models.large_images.LARGE", 64)
    monkeypatch.setattr("fewpairs.models.large_images._BAND", 5 * SIZE[1])


def predictor() -> DetectionPredictor:
    torch.manual_seed(0)
    options = DetectorOptions(
        short=64, long=96, width=16, hidden=16, norm="group", detections=8, score_threshold=0.0, nms_threshold=0.3
    )
    model = create_detector("mask_rcnn", encoder="linglo_pico", classes=2, options=options)
    view = DetectionView(64, 96)
    return DetectionPredictor(model, Detection(("a", "b")), view, {"a": 1, "b": 2}, threshold=0.0, device="cpu")


def pixels() -> torch.Tensor:
    made: torch.Tensor = torch.randint(
        0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return made


def found() -> Detections:
    boxes = torch.tensor([[5.0, 10, 60, 100], [40, 50, 90, 120], [0, 0, 94, 122]])
    small = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    return Detections(
        boxes,
        torch.tensor([0.9, 0.8, 0.6]),
        torch.tensor([0, 1, 1]),
        torch.stack(list(PastedMasks(small, boxes, SIZE))),
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_large_pictures_in_bands_have_the_detections_of_the_whole(
    dtype: torch.dtype, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, image = predictor(), pixels()
    parts = made(image if dtype == torch.uint8 else image / 255)
    monkeypatch.setattr("fewpairs.models.large_images.LARGE", 2**24)
    whole = made(image.float() / 255)
    assert len(whole) == 8
    assert_allclose(parts.scores, whole.scores, rtol=1e-4)
    assert_allclose(parts.boxes, whole.boxes, atol=0.01)
    assert_array_equal(parts.labels, whole.labels)
    assert isinstance(parts.masks, PastedMasks)
    assert isinstance(whole.masks, torch.Tensor)
    assert whole.masks.any()
    assert (torch.stack(list(parts.masks)) != whole.masks).float().mean() < 0.001
    assert torch.equal(made(image).scores, whole.scores)  # small pictures of uint8 are those of floats


def test_records_and_label_maps_take_masks_on_demand(large: None) -> None:
    result = predictor()(pixels())
    assert isinstance(result.masks, PastedMasks)
    stack = torch.stack(list(result.masks))
    record = detection_record("a", SIZE, Objects.none(SIZE), result, classes=("a", "b"), masks=True)
    columns = np.asfortranarray(stack.permute(1, 2, 0).numpy(), np.uint8)
    assert record.found_masks == tuple(str(one["counts"], "ascii") for one in coco.encode(columns))
    whole = Detections(result.boxes, result.scores, result.labels, stack)
    assert_array_equal(label_map(result, SIZE, threshold=0), label_map(whole, SIZE, threshold=0))


def test_files_of_a_large_picture(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewpairs.kinds.detection.writing._LONG_SIDE", 50)
    Image.fromarray(pixels().permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    predict_files(predictor(), [tmp_path / "a.png"], OutputFolder(tmp_path / "out"), progress=False)
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    masks = decode_masks([one["segmentation"]["counts"] for one in results], SIZE)
    with (
        Image.open(tmp_path / "out" / "a-objects.png") as objects,
        Image.open(tmp_path / "out" / "a-boxes.png") as drawn,
    ):
        assert_array_equal(np.asarray(objects) > 0, masks.any(axis=0))
        assert drawn.size == (32, 41)  # every third pixel of 94 x 122


def test_overlays_are_those_of_torchvision(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    image, result, order = pixels(), found(), [2, 1, 0]
    assert result.masks is not None
    masks, colours = torch.stack([result.masks[place] for place in order]), [colour(label) for label in (1, 1, 0)]
    assert (masks.sum(0) > 1).any()
    names = ["b 0.60", "b 0.80", "a 0.90"]
    for thinned in (3, 1):
        monkeypatch.setattr("fewpairs.kinds.detection.writing._LONG_SIDE", 50 if thinned == 3 else 122)
        seen = image[:, ::thinned, ::thinned].contiguous(), masks[:, ::thinned, ::thinned]
        tinted = draw_segmentation_masks(*seen, alpha=0.4, colors=colours)
        wanted = draw_bounding_boxes(tinted, result.boxes[order] / thinned, labels=names, colors=colours, width=1)
        assert torch.equal(draw_detections(image, result, ("a", "b")), wanted)


def test_a_picture_that_does_not_fit_says_what_it_needs(
    tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / "a.png")
    predictor().read(PictureFile(tmp_path / "a.png"))
    monkeypatch.setattr("fewpairs.data.memory.available_memory", lambda: 2**17)
    with pytest.raises(DataError, match=r"a\.png \(122 x 94 pixels, 83 x 64 for the model\) needs 299 KiB .*shrink"):
        predictor().read(PictureFile(tmp_path / "a.png"))
