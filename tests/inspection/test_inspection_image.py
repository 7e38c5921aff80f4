"""The way from a picture file to a model's input, for pixels and for points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.inspection.image import load_image, load_slice
from fewpairs.inspection.open_model import view_of
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.models.classifiers import create_classifier


def dotted(folder: Path, size: tuple[int, int], dot: tuple[int, int], *, radius: int = 3) -> Path:
    """A black picture with a white square around a pixel."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[max(0, dot[0] - radius) : dot[0] + radius + 1, max(0, dot[1] - radius) : dot[1] + radius + 1] = 255
    file = folder / "picture.png"
    Image.fromarray(pixels).save(file)
    return file


@given(
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    model=st.tuples(st.integers(16, 64), st.integers(16, 64)),
    at=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    mode=st.sampled_from(["center", "squash", "border"]),
)
@example(size=(20, 27), model=(20, 16), at=(0.0, 0.875), mode="center")
def test_a_point_stays_on_what_it_points_at(
    size: tuple[int, int],
    model: tuple[int, int],
    at: tuple[float, float],
    mode: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dot = 3 + int(at[0] * (size[0] - 6)), 3 + int(at[1] * (size[1] - 6))
    file = dotted(tmp_path_factory.mktemp("picture"), size, dot)
    seen = load_image(file, LabelledView(size=model, crop_mode=mode, crop_pct=1.0))  # type: ignore[arg-type]
    assert seen.tensor.shape == (3, *model)
    assert seen.picture.shape == (*model, 3)
    try:
        y, x = seen.point(*dot)
    except InputError:
        assert mode == "center"
        return
    assert 0 <= y < model[0]
    assert 0 <= x < model[1]
    assert seen.picture[int(y), int(x), 0] > 90


def test_pixels_are_normalised_as_the_view_says(tmp_path: Path) -> None:
    file = dotted(tmp_path, (32, 32), (16, 16), radius=40)
    seen = load_image(file, LabelledView(size=(16, 16), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), crop_pct=1.0))
    assert seen.tensor.mean((1, 2)).tolist() == pytest.approx([1, 3, 1])


def test_a_border_has_the_mean_colour(tmp_path: Path) -> None:
    file = dotted(tmp_path, (20, 11), (10, 5), radius=30)
    seen = load_image(file, LabelledView(size=(40, 40), mean=(0.5, 0.25, 0.0), crop_mode="border", crop_pct=1.0))
    assert seen.picture[20, 2].tolist() == [128, 64, 0]
    assert seen.picture[20, 20].tolist() == [255, 255, 255]
    assert all(0 <= place < 40 for corner in ((0, 0), (19, 10)) for place in seen.point(*corner))


def test_the_middle_of_a_wide_picture(tmp_path: Path) -> None:
    file = dotted(tmp_path, (20, 40), (10, 20))
    seen = load_image(file, LabelledView(size=(10, 10), crop_pct=1.0))
    assert seen.box == (0, 10, 20, 20)
    assert seen.point(0, 10) == (0.25, 0.25)
    with pytest.raises(InputError, match=r"outside the part of picture.png that the model sees: .* columns 10 to 29"):
        seen.point(0, 30)
    with pytest.raises(InputError, match=r"query 20,0 \(row, column\) lies outside picture.png of 20 x 40 pixels"):
        seen.point(20, 0)


@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_a_slice_for_a_segmenter(fit: str, tmp_path: Path) -> None:
    file = tmp_path / "slice.png"
    pixels = np.zeros((20, 30), np.uint8)
    pixels[5:8, 20:23] = 200
    Image.fromarray(pixels).save(file)
    seen = load_slice(file, SegmentationView(size=(40, 40), fit=fit, stack=3))  # type: ignore[arg-type]
    assert seen.tensor.shape == (3, 40, 40)
    assert torch.equal(seen.tensor[0], seen.tensor[2])
    y, x = seen.point(6, 21)
    assert seen.picture[int(y), int(x)].tolist() == [255] * 3


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_text("no picture")
    with pytest.raises(DataError, match="not a readable picture"):
        load_image(file, LabelledView(size=(16, 16)))


def test_a_model_of_one_channel_sees_grey(tmp_path: Path) -> None:
    model = create_classifier("vit_nano", in_channels=1, classes=2)
    seen = load_image(dotted(tmp_path, (30, 30), (4, 4)), view_of(model, (28, 28)))
    assert seen.tensor.shape == (1, 28, 28)
    with pytest.raises(InputError, match="the model takes images of 4 channels; pictures have 1 or 3"):
        view_of(create_classifier("vit_nano", in_channels=4, classes=2), (28, 28))
