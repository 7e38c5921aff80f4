from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fewpairs.errors import DataError
from fewpairs.kinds.predictor import PictureFile
from fewpairs.kinds.semantic.predict import SemanticPredictor
from fewpairs.kinds.semantic.task import Semantic
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.models.inference import InferenceConfig, InferenceSegmenter

CLASSES = tuple(f"class {number}" for number in range(20))


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, len(CLASSES), 5, padding=2)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.layer(image)
        return result


def predictor(view: SemanticView, **settings: object) -> SemanticPredictor:
    config = InferenceConfig(mode="slide", window=(16, 12), **settings)  # type: ignore[arg-type]
    model = InferenceSegmenter(Smooth(), config)
    return SemanticPredictor(model, Semantic(CLASSES), view.with_channels(3), ((0, 0, 0),) * len(CLASSES), device="cpu")


@pytest.mark.parametrize("view", [SemanticView(short=None), SemanticView(short=20)], ids=["own size", "resized"])
def test_large_pictures_in_bands_have_the_labels_of_the_whole(
    view: SemanticView, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)
    made = predictor(view)
    whole = made(Image.fromarray(pixels))
    assert len(np.unique(whole)) > 5
    monkeypatch.setattr("fewpairs.models.large_images.LARGE", 64)
    monkeypatch.setattr("fewpairs.models.large_images._BAND", 5 * 47)
    found = made(Image.fromarray(pixels))
    # pixels of two classes alike may change sides by rounding where logits are interpolated
    assert np.mean(found != whole) <= (0 if view.short is None else 0.001)


def test_a_picture_that_cannot_be_read_in_windows_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (47, 61)).save(tmp_path / "a.png")
    monkeypatch.setattr("fewpairs.models.large_images.LARGE", 64)
    monkeypatch.setattr("fewpairs.data.memory.available_memory", lambda: 2**19)
    predictor(SemanticView(short=None)).read(PictureFile(tmp_path / "a.png"))
    with pytest.raises(DataError, match=r"a\.png \(61 x 47 pixels .* needs 582 KiB .*inference.mode=slide"):
        predictor(SemanticView(short=None), flip=True).read(PictureFile(tmp_path / "a.png"))
