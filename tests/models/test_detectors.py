from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewpairs.attention import KNN
from fewpairs.cost import cost_breakdown
from fewpairs.errors import InputError
from fewpairs.models.detector_cost import CountedDetector
from fewpairs.models.detectors import DETECTORS, DetectorOptions, create_detector
from fewpairs.models.pyramid import create_pyramid

SMALL = DetectorOptions(short=64, long=96, width=16, hidden=16)


def strides(name: str, encoder: str) -> tuple[int, ...]:
    return create_detector(name, encoder=encoder, classes=1, options=SMALL).backbone.strides


def test_maps_are_those_of_the_publications() -> None:
    assert strides("retinanet", "pvt_v2_b0") == strides("retinanet", "resnet18") == (8, 16, 32, 64, 128)
    assert strides("mask_rcnn", "pvt_v2_b0") == strides("faster_rcnn", "resnet18") == (4, 8, 16, 32, 64)
    assert strides("retinanet", "cvt_13") == (4, 8, 16, 32, 64)


def test_anchors_are_those_of_the_publications_and_lie_at_the_maps_strides() -> None:
    dense = create_detector("retinanet", encoder="linglo_nano", classes=1, options=SMALL).network.anchor_generator
    assert [round(size, 1) for size in dense.sizes[0]] == [32.0, 40.3, 50.8]
    assert dense.num_anchors_per_location() == [9] * 5
    sparse = create_detector("faster_rcnn", encoder="linglo_nano", classes=1, options=SMALL).network.rpn
    assert sparse.anchor_generator.sizes == ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))

    maps = [torch.zeros(1, 16, 2, 3, dtype=torch.float16)] * 5
    images: Any = type("Images", (), {"image_sizes": [(5, 7), (9, 9)], "tensors": torch.zeros(2, 3, 32, 32)})()
    found = dense(images, maps)
    assert len(found) == 2
    assert found[0].dtype == torch.float32
    centres = found[0].unflatten(0, (5, 2, 3, 9)).unflatten(-1, (2, 2)).mean(-2)
    assert centres[:, 1, 2, 0].tolist() == [[2 * stride, stride] for stride in (8, 16, 32, 64, 128)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"short": 0}, "short=0 must be at least 1"),
        ({"width": 1}, "width=1 must be at least 2"),
        ({"long": 100}, "long=100 must be at least 800"),
        ({"score_threshold": 1.5}, "score_threshold=1.5 must be from 0 to 1"),
        ({"norm": "batch"}, "norm='batch' is not known; known: none, group"),
        ({"anchor_sizes": ((8.0,), (16.0, 20.0))}, "the same number of sizes"),
        ({"anchor_sizes": ()}, "the same number of sizes"),
        ({"anchor_sizes": ((0.0,),)}, "above 0"),
        ({"anchor_ratios": ()}, "one ratio"),
        ({"anchor_ratios": (float("nan"),)}, "above 0"),
        ({"detections": 0}, "detections=0 must be at least 1"),
    ],
)
def test_options_out_of_their_range_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DetectorOptions(**given)


def test_names_and_numbers_that_make_no_detector_are_refused() -> None:
    with pytest.raises(InputError, match=r"detector 'retinanett' is not known; did you mean .*retinanet"):
        create_detector("retinanett", classes=1)
    with pytest.raises(InputError, match="classes=0 must be 1 or more"):
        create_detector("retinanet", classes=0)
    with pytest.raises(InputError, match="has no pyramid"):
        create_detector("retinanet", encoder="vit_tiny_patch16_224", classes=1)
    with pytest.raises(InputError, match="sizes for 1 maps, but there are 5, of strides 8, 16, 32, 64, 128"):
        create_detector("retinanet", encoder="linglo_nano", classes=1, options=DetectorOptions(anchor_sizes=((8.0,),)))


def test_attention_and_pretrained_weights_are_the_encoders(tmp_path: Path) -> None:
    torch.manual_seed(5)
    body: Any = create_pyramid("linglo_nano").body
    file = tmp_path / "weights.safetensors"
    save_file(getattr(body, "model", body).state_dict(), file)
    model = create_detector("retinanet", encoder="linglo_nano", classes=1, pretrained=file, options=SMALL)
    own = dict(model.encoder.named_parameters())
    for name, value in create_pyramid("linglo_nano", pretrained=file).named_parameters():
        torch.testing.assert_close(own[name], value)
    swapped = create_detector("retinanet", encoder="pvt_v2_b0", attention=KNN(topk=4), classes=1, options=SMALL)
    assert any(getattr(module, "variant", None) == KNN(topk=4) for module in swapped.modules())


@pytest.mark.parametrize("name", DETECTORS)
def test_the_counted_part_has_every_parameter_and_counts_its_heads(name: str) -> None:
    model = create_detector(name, encoder="linglo_nano", classes=2, options=SMALL)
    cost = cost_breakdown(CountedDetector(model), (64, 96))
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    alone = cost_breakdown(model.encoder, (64, 96))
    assert sum(term.macs for key, term in cost.terms.items() if key not in ("decoder", "head")) == alone.macs
    places = {8: 8 * 12, 16: 4 * 6, 32: 2 * 3, 64: 1 * 2, 128: 1}
    if name == "retinanet":
        towers = 8 * 9 * 16 * 16 + 9 * 16 * 9 * (2 + 4)
        assert cost.terms["head"].macs == towers * sum(places.values())
        return
    dense = (9 * 16 * 16 + 16 * 3 * 5) * (16 * 24 + sum(places[stride] for stride in (8, 16, 32, 64)))
    boxes = 1000 * (16 * 49 * 16 + 16 * 16 + 16 * 3 * 5)
    masks = 100 * (4 * 14 * 14 * 9 * 16 * 16 + 14 * 14 * 16 * 16 * 4 + 28 * 28 * 16 * 3)
    assert cost.terms["head"].macs == dense + boxes + (masks if name == "mask_rcnn" else 0)


@pytest.mark.parametrize(("width", "groups"), [(256, 32), (64, 32), (16, 8), (18, 2), (2, 1)])
def test_groups_leave_channels_enough_for_a_map_of_one_place(width: int, groups: int) -> None:
    options = DetectorOptions(short=8, long=8, width=width, norm="group")
    model = create_detector("retinanet", encoder="linglo_nano", classes=1, options=options).eval()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {groups}
    with torch.no_grad():
        assert len(model(torch.rand(1, 3, 4, 4))) == 1
