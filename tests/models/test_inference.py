"""How a segmenter goes over an image: windows, ratios, mirrors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fewpairs.errors import InputError
from fewpairs.models import InferenceConfig, InferenceSegmenter
from fewpairs.models.large_images import starts


class Pointwise(nn.Module):
    """Logits that depend on their own pixel alone; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image):
        self.seen.append(tuple(image.shape))
        return torch.cat([image, -image, 2 * image], dim=1)


class Sided(nn.Module):
    """Logits that rise from left to right, whatever the image."""

    def forward(self, image):
        ramp = torch.linspace(0, 1, image.shape[-1]).expand(len(image), 1, *image.shape[-2:])
        return torch.cat([ramp, 1 - ramp], dim=1)


@settings(max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    window=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    share=st.floats(0.1, 1.0),
    windows=st.integers(1, 5),
    batch=st.integers(1, 2),
)
def test_sliding_a_pointwise_model_is_the_model_itself(height, width, window, share, windows, batch):
    stride = tuple(max(1, int(side * share)) for side in window)
    model, image = Pointwise(), torch.randn(batch, 1, height, width)
    swept = InferenceSegmenter(model, InferenceConfig(mode="slide", window=window, stride=stride, windows=windows))
    assert torch.allclose(swept(image), Pointwise()(image), atol=1e-5)
    assert max(shape[0] for shape in model.seen) <= windows * batch
    assert {shape[-2:] for shape in model.seen} == {(min(height, window[0]), min(width, window[1]))}


@given(length=st.integers(1, 200), window=st.integers(1, 200), step=st.integers(1, 200))
def test_windows_cover_a_side_and_stay_inside(length, window, step):
    window, step = min(length, window), min(step, window)
    covered = {place for start in starts(length, window, step) for place in range(start, start + window)}
    assert covered == set(range(length))


def test_plain_inference_is_the_model():
    image = torch.randn(1, 1, 7, 9)
    assert torch.equal(InferenceSegmenter(Pointwise(), InferenceConfig())(image), Pointwise()(image))


def test_mirrored_views_are_mirrored_back():
    image = torch.randn(1, 1, 6, 8)
    pointwise = InferenceSegmenter(Pointwise(), InferenceConfig(flip=True))(image)
    assert torch.allclose(pointwise.exp(), Pointwise()(image).softmax(dim=1), atol=1e-6)
    sided = InferenceSegmenter(Sided(), InferenceConfig(flip=True))(image)
    assert torch.allclose(sided, sided.flip(-1), atol=1e-6)


def test_ratios_average_probabilities_at_the_size_of_the_image():
    image = torch.randn(1, 1, 12, 16)
    model = Pointwise()
    found = InferenceSegmenter(model, InferenceConfig(ratios=(0.5, 1.0, 1.75), flip=True))(image)
    assert found.shape == (1, 3, 12, 16)
    assert torch.allclose(found.exp().sum(dim=1), torch.ones(1, 12, 16), atol=1e-5)
    assert [shape[-2:] for shape in model.seen] == [(6, 8)] * 2 + [(12, 16)] * 2 + [(21, 28)] * 2


def test_broken_outputs_stay_broken():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 2] = float("nan")
    assert not InferenceSegmenter(Pointwise(), InferenceConfig(flip=True))(image)[0, :, 1, 2].isfinite().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "slid"}, "inference.mode='slid'"),
        ({"window": (0, 4)}, "inference.window"),
        ({"window": (8, 8), "stride": (9, 8)}, r"inference.stride=\[9, 8\] is larger"),
        ({"ratios": ()}, "inference.ratios"),
        ({"ratios": (0.0,)}, "inference.ratios"),
        ({"windows": 0}, "inference.windows=0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        InferenceConfig(**options)


def test_the_stride_is_two_thirds_unless_given():
    assert InferenceConfig(window=(512, 512)).step == (341, 341)
    assert InferenceConfig(window=(1, 2)).step == (1, 1)
