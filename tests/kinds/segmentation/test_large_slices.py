"""Prediction of large slices, in bands and windows, gives the masks of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from fewpairs.kinds.segmentation.intensity import intensity_statistics
from fewpairs.kinds.segmentation.predict import SegmentationPredictor
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import SegmentationView

CLASSES = ("bright", "very_bright")


class Smooth(nn.Module):
    """A convolution, which looks at neighbours and thus at where windows end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_channels = channels
        torch.manual_seed(0)
        self.layer = nn.Conv2d(channels, len(CLASSES), 5, padding=2, bias=False)
        self.layer.weight.data -= self.layer.weight.mean(dim=(2, 3), keepdim=True)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.layer(image)
        return result


@pytest.mark.parametrize("fit", ["pad", "resize"])
@pytest.mark.parametrize("normalise", ["max", "percentile", "zscore"])
@pytest.mark.parametrize("stack", [1, 3])
def test_large_slices_in_bands_have_the_masks_of_the_whole(
    fit: str, normalise: str, stack: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = SegmentationView((16, 12), fit=fit, normalise=normalise, stack=stack)  # type: ignore[arg-type]
    image = np.random.default_rng(0).normal(size=(5, 1, 61, 47)).astype(np.float32)
    predict = SegmentationPredictor(Smooth(stack), Segmentation(CLASSES), view, device="cpu")  # type: ignore[arg-type]
    whole = predict(image)
    assert 0.1 < whole.mean() < 0.9
    monkeypatch.setattr("fewpairs.models.large_images.LARGE", 64)
    monkeypatch.setattr("fewpairs.models.large_images._BAND", 5 * 47)
    assert np.array_equal(predict(image), whole)


@pytest.mark.parametrize("size", [(61, 47), (61, 9), (10, 47)])
def test_windows_are_monai_s(size: tuple[int, int]) -> None:
    view = SegmentationView((16, 12), fit="pad", normalise="zscore")
    image = np.random.default_rng(0).normal(size=(3, 1, *size)).astype(np.float32)
    predict = SegmentationPredictor(Smooth(1), Segmentation(CLASSES), view, device="cpu")  # type: ignore[arg-type]
    slices = SegmentationView(size, fit="pad", normalise="zscore").apply(image, intensity_statistics(image))[0]
    with torch.no_grad():
        logits = sliding_window_inference(slices, (16, 12), 8, predict.model, overlap=0.25, mode="gaussian")
    assert isinstance(logits, Tensor)
    clear = logits.abs() > 1e-4
    assert np.array_equal(predict(image)[clear.numpy()], (logits > 0)[clear].numpy())
