"""The table of models."""

import pytest
import torch

from fewpairs.models import MODELS, create_segmenter, list_models
from fewpairs.models.segmenters import scaled_layers

NAMES = {
    *(f"setr_{head}_vit_{size}" for head in ("naive", "pup", "mla") for size in ("s16", "b16", "l16")),
    *("conv_setr_cup_r50_vit_b16", "conv_setr_pup_r50_vit_b16", "cvt_setr_pup_cvt13", "cvt_setr_pup_cvt21"),
    *("semantic_fpn", "upernet", "semantic_fpn_narrow"),
    *("setr_naive_small", "setr_pup_small", "setr_mla_small"),
    *("conv_setr_cup_small", "conv_setr_pup_small", "cvt_setr_pup_small"),
}


def test_names():
    assert set(MODELS) == NAMES
    assert list_models("*small") == [name for name in MODELS if name.endswith("small")]
    assert list_models("nothing*") == []


def test_setr_names_its_layers_of_24():
    assert scaled_layers(24, (10, 15, 20, 24)) == (9, 14, 19, 23)
    assert scaled_layers(24, (6, 12, 18, 24)) == (5, 11, 17, 23)
    assert scaled_layers(12, (10, 15, 20, 24)) == (4, 7, 9, 11)
    assert scaled_layers(6, (6, 12, 18, 24)) == (1, 2, 4, 5)
    assert scaled_layers(2, (10, 15, 20, 24)) == (0, 1)


@pytest.mark.parametrize(
    ("name", "taps"),
    [
        ("setr_pup_vit_l16", (9, 14, 19, 23)),
        ("setr_mla_vit_l16", (5, 11, 17, 23)),
        ("setr_mla_vit_b16", (2, 5, 8, 11)),
    ],
)
def test_taps_of_the_large_models(name, taps):
    with torch.device("meta"):
        assert create_segmenter(name, classes=3, auxiliary=True).encoder.taps == taps


def test_pup_decoder_has_the_published_size():
    with torch.device("meta"):
        decoder = create_segmenter("setr_pup_vit_b16", classes=3).decoder
    assert round(sum(p.numel() for p in decoder.parameters()) / 1e6, 2) == 3.54


@pytest.mark.parametrize("name", list_models("*small"))
def test_small_models_are_small(name):
    model = create_segmenter(name, classes=3)
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 2e6
    assert not [m for m in model.decoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
