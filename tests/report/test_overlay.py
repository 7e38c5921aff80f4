"""Overlays, read back pixel by pixel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.report.overlay import CLASS_COLOURS, ERROR_COLOURS, class_colours, error_map, overlay, overlay_strip

CLASSES = ("stomach", "bowel")


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=int)


def has(picture: Image.Image, colour: tuple[int, ...], *, at_least: int = 1) -> bool:
    return int((pixels(picture) == np.array(colour)).all(axis=2).sum()) >= at_least


def panel(picture: Image.Image, size: int = 256) -> np.ndarray:
    """The picture of a page without title and captions: below and right of the margin."""
    return pixels(picture)[8 : 8 + size, 8 : 8 + size]


def example(size: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.linspace(0, 1000, size * size).reshape(size, size)
    truth = np.zeros((2, size, size), dtype=bool)
    truth[0, 4:12, 4:12] = True
    truth[1, 16:28, 16:28] = True
    prediction = truth.copy()
    prediction[0, 4:12, 4:6] = False
    prediction[1, 16:28, 28:30] = True
    return image, truth, prediction


def test_small_slices_are_enlarged_by_a_whole_factor() -> None:
    image, truth, prediction = example(32)
    picture = overlay(image, truth, prediction, CLASSES)
    assert picture.mode == "RGB"
    assert picture.width == 256 + 16
    assert overlay(np.zeros((300, 400)), None, np.zeros((2, 300, 400)), CLASSES).width == 416


def test_narrow_slices_do_not_explode() -> None:
    picture = overlay(np.zeros((2, 2000)), None, np.zeros((1, 2, 2000)), ("organ",))
    assert picture.width == 2 * 2000 + 16


def test_the_prediction_is_filled_and_the_truth_outlined() -> None:
    image, truth, prediction = np.zeros((32, 32)), *example()[1:]
    shown = panel(overlay(image, truth, prediction, CLASSES))
    fill = (np.array(CLASS_COLOURS[0]) * 0.5).round()
    np.testing.assert_allclose(shown[64, 80], fill, atol=1)
    np.testing.assert_array_equal(shown[64, 32], CLASS_COLOURS[0])
    np.testing.assert_array_equal(shown[64, 40], (0, 0, 0))
    np.testing.assert_array_equal(shown[240, 20], (0, 0, 0))


def test_without_truth_nothing_is_outlined() -> None:
    image, _, prediction = example()
    shown = panel(overlay(np.zeros_like(image), None, prediction, CLASSES))
    assert not (shown == np.array(CLASS_COLOURS[1])).all(axis=2).any()


def test_errors_lie_where_truth_and_prediction_differ() -> None:
    image, truth, prediction = np.zeros((32, 32)), *example()[1:]
    truth[0, 30, 0:2] = prediction[1, 30, 0:2] = True
    shown = panel(error_map(image, truth, prediction, CLASSES))
    places = {"missed": (8 * 8, 5 * 8), "extra": (20 * 8, 29 * 8), "wrong class": (30 * 8 + 4, 4)}
    for name, (row, column) in places.items():
        np.testing.assert_allclose(shown[row, column], np.array(ERROR_COLOURS[name]) * 0.85, atol=1)
    np.testing.assert_allclose(shown[20 * 8, 20 * 8], np.array(ERROR_COLOURS["correct"]) * 0.5, atol=1)
    np.testing.assert_array_equal(shown[2, 2], (0, 0, 0))


def test_a_perfect_prediction_has_no_errors() -> None:
    image, truth, _ = example()
    shown = panel(error_map(np.zeros_like(image), truth, truth, CLASSES))
    assert (shown.max(axis=2) == shown.min(axis=2)).all()


def test_the_strip_has_four_panels_or_two() -> None:
    image, truth, prediction = example()
    assert overlay_strip(image, truth, prediction, CLASSES).width == 4 * 256 + 5 * 8
    assert overlay_strip(image, None, prediction, CLASSES).width == 2 * 256 + 3 * 8


def test_the_first_panel_of_the_strip_is_the_image_alone() -> None:
    image, truth, prediction = example()
    strip = pixels(overlay_strip(image, truth, prediction, CLASSES))[60:250, 8:264]
    assert (strip.max(axis=2) == strip.min(axis=2)).all()


def test_the_legend_names_every_class_in_its_colour() -> None:
    image, truth, prediction = example()
    picture = overlay_strip(image, truth, prediction, CLASSES)
    for colour in (*CLASS_COLOURS[:2], *ERROR_COLOURS.values()):
        assert has(picture, colour, at_least=100)
    single = error_map(image, truth[:1], prediction[:1], CLASSES[:1])
    assert not has(single, ERROR_COLOURS["wrong class"])


def test_a_title_and_a_long_legend_make_room() -> None:
    image, truth, prediction = example()
    plain = overlay(image, truth, prediction, CLASSES)
    assert overlay(image, truth, prediction, CLASSES, title="case1").height > plain.height
    names = [f"a rather long name of organ {i}" for i in range(8)]
    masks = np.zeros((8, 32, 32), dtype=bool)
    many = overlay(image, masks, masks, names, title="x" * 200)
    assert many.height > plain.height
    assert many.width == plain.width


@settings(max_examples=15)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["float", "int16", "constant", "nan", "colour", "uint8"])
)
def test_any_size_and_kind_of_image_makes_a_picture(height: int, width: int, kind: str) -> None:
    generator = np.random.default_rng(0)
    image = {
        "float": generator.normal(size=(height, width)),
        "int16": generator.integers(-1000, 3000, size=(height, width)).astype(np.int16),
        "constant": np.full((height, width), 7.0),
        "nan": np.full((height, width), np.nan),
        "colour": generator.random((height, width, 3)),
        "uint8": generator.integers(0, 256, size=(height, width, 3)).astype(np.uint8),
    }[kind]
    masks = generator.random((2, height, width)) < 0.3
    picture = overlay(image, masks, masks, CLASSES)
    assert min(picture.width - 16, picture.height) >= min(256, 4096 // max(height, width) * min(height, width))


def test_colour_images_keep_their_colours() -> None:
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    image[..., 0], image[..., 1] = 200, 100
    none = np.zeros((2, 256, 256), dtype=bool)
    for same in (image, image / 255):
        np.testing.assert_array_equal(panel(overlay(same, None, none, CLASSES))[5, 5], (200, 100, 0))


def test_class_colours_differ_even_beyond_the_palette() -> None:
    colours = class_colours(20)
    assert colours[:7] == list(CLASS_COLOURS)
    assert len(set(colours)) == 20
    for a, b in itertools.combinations(np.array(colours[:7]), 2):
        assert np.abs(a - b).sum() > 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((4, 32, 32))}, r"needs an image \[H W\] or \[H W 3\], got \[4, 32, 32\]"),
        ({"image": np.zeros((0, 32))}, "needs an image"),
        ({"truth": np.zeros((2, 32, 31))}, r"the truth of an overlay must be \[2 32 32\].*got \[2, 32, 31\]"),
        ({"prediction": np.zeros((3, 32, 32))}, r"the prediction of an overlay must be \[2 32 32\]"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, np.ndarray], message: str) -> None:
    image, truth, prediction = example()
    for draw in (overlay, overlay_strip, error_map):
        with pytest.raises(InputError, match=message):
            draw(**({"image": image, "truth": truth, "prediction": prediction, "classes": CLASSES} | arguments))
