from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.detector import Detector
from fewpairs.models.detectors import DETECTORS, DetectorOptions, create_detector
from fewpairs.train import OptimizerConfig
from fewpairs.train.optimizer import parameter_groups
from fewpairs.types import DetectionBatch, Detections, Objects

SMALL = DetectorOptions(short=64, long=96, width=16, hidden=16, norm="group", detections=20)


def small(name: str, encoder: str = "linglo_pico", **options: Any) -> Detector:
    torch.manual_seed(0)
    return create_detector(name, encoder=encoder, classes=2, options=SMALL, **options)


def objects(masks: bool = True, size: tuple[int, int] = (64, 80)) -> Objects:
    found = torch.zeros(3, *size, dtype=torch.bool)
    boxes = torch.tensor([[4.0, 8.0, 36.0, 40.0], [40.0, 10.0, 70.0, 60.0], [0.0, 0.0, 80.0, 64.0]])
    for mask, (left, top, right, bottom) in zip(found, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    crowd = torch.tensor([False, False, True])
    return Objects(boxes, torch.tensor([0, 1, 0]), found if masks else None, crowd, torch.ones(3))


def pictures(*truth: Objects, channels: int = 3, size: tuple[int, int] = (64, 80)) -> DetectionBatch:
    images = tuple(torch.rand(channels, *size) for _ in truth)
    return DetectionBatch(images, truth, tuple(f"{number}.png" for number in range(len(truth))))


def losses(model: Detector, batch: DetectionBatch) -> dict[str, Tensor]:
    found = model.train()(batch)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_learns_from_a_batch_with_objects(name: str) -> None:
    model = small(name)
    found = losses(model, pictures(objects(), objects()))
    assert all(value.ndim == 0 and value.dtype == torch.float32 and value.isfinite() for value in found.values())
    torch.stack(list(found.values())).sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(64, 80), (1, 1), (3, 70), (33, 5)], ids=str)
def test_a_batch_without_any_object_teaches_the_background_alone(name: str, size: tuple[int, int]) -> None:
    model = small(name)
    found = losses(model, pictures(Objects.none(size), size=size))
    assert all(value.isfinite() for value in found.values())
    assert {key: float(value.detach()) for key, value in found.items() if "class" not in key} == dict.fromkeys(
        [key for key in found if "class" not in key], 0.0
    )
    torch.stack(list(found.values())).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", DETECTORS)
def test_crowds_and_boxes_without_area_are_not_learnt(name: str) -> None:
    model, whole = small(name), objects()
    flat = Objects(
        torch.cat([whole.boxes[:2], torch.tensor([[5.0, 5.0, 5.0, 9.0]])]),
        whole.labels,
        whole.masks,
        torch.zeros(3, dtype=torch.bool),
        whole.area,
    )
    found = []
    for truth in (whole, flat, whole.take(torch.tensor([0, 1]))):
        torch.manual_seed(1)
        batch = pictures(truth)
        torch.manual_seed(2)
        found.append({key: float(value.detach()) for key, value in losses(model, batch).items()})
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(64, 80), (200, 90), (1, 1), (2, 300)], ids=str)
def test_detections_lie_within_the_image_best_first(name: str, size: tuple[int, int]) -> None:
    model = small(name).eval()
    if name == "retinanet":
        nn.init.constant_(model.network.head.classification_head.cls_logits.bias, 0.0)
    with torch.no_grad():
        (found,) = model(torch.rand(1, 3, *size))
    assert isinstance(found, Detections)
    assert len(found) <= 20
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([size[1], size[0]] * 2) + 1e-3).all()
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert set(found.labels.tolist()) <= {0, 1}
    assert (found.masks is None) == (name != "mask_rcnn")
    if found.masks is not None:
        assert found.masks.shape == (len(found), *size)
        assert found.masks.dtype == torch.bool


@pytest.mark.parametrize("name", DETECTORS)
def test_an_image_without_any_detection_gives_none(name: str) -> None:
    torch.manual_seed(0)
    options = DetectorOptions(short=64, long=96, width=16, hidden=16, score_threshold=1.0)
    model = create_detector(name, encoder="linglo_pico", classes=2, options=options).eval()
    with torch.no_grad():
        (found,) = model(torch.rand(1, 3, 30, 40))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.masks is None or found.masks.shape == (0, 30, 40)


@pytest.mark.parametrize("name", DETECTORS)
def test_lower_precision_gives_losses_and_boxes_in_float32(name: str) -> None:
    model, batch = small(name), pictures(objects(), Objects.none((64, 80)))
    torch.manual_seed(3)
    full = losses(model, batch)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        half = losses(model, batch)
        found = model.eval()(batch.images)
    for key, value in half.items():
        assert value.dtype == torch.float32
        assert float(value.detach()) == pytest.approx(float(full[key].detach()), rel=0.2, abs=0.1)
    assert all(one.boxes.dtype == one.scores.dtype == torch.float32 for one in found)


def test_images_of_several_sizes_go_together_and_grey_ones_too() -> None:
    model = small("retinanet", in_channels=1)
    batch = pictures(objects(False), channels=1)
    other = DetectionBatch((*batch.images, torch.rand(1, 40, 100)), (*batch.objects, Objects.none()), ("a", "b"))
    assert set(losses(model, other)) == {"class", "box"}
    assert len(model.eval()(other)) == 2


def test_what_the_detector_cannot_use_is_one_message() -> None:
    model = small("mask_rcnn")
    with pytest.raises(InputError, match="in training needs DetectionBatch"):
        model.train()(torch.rand(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"c=3 channels; got \[1, 64, 80\]"):
        model(pictures(objects(), channels=1))
    with pytest.raises(InputError, match=r"got \[3, 0, 5\]"):
        model.eval()(torch.rand(1, 3, 0, 5))
    with pytest.raises(InputError, match="no image"):
        model(())
    with pytest.raises(InputError, match="only boxes; use faster_rcnn"):
        model.train()(pictures(objects(masks=False)))


def test_layers_from_the_input_up_have_rates_of_their_own() -> None:
    model = small("retinanet", encoder="pvt_v2_b0")
    layers = model.layer_groups()
    assert sorted(name for names in layers for name in names) == sorted(name for name, _ in model.named_parameters())
    assert all("backbone.encoder" in name for names in layers[:-1] for name in names)
    assert any("fpn" in name for name in layers[-1])
    groups = parameter_groups(model, OptimizerConfig(layer_decay=0.5, head_lr=2.0))
    assert max(group["scale"] for group in groups) == 2.0
    assert model.no_weight_decay() <= {name for name, _ in model.named_parameters()}
