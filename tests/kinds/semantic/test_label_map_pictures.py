"""Pictures of label maps."""

import numpy as np
import pytest
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.overlays import label_overlay, label_strip, paletted
from fewpairs.types import IGNORE

COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
CLASSES = ("ground", "disc", "bar")


def test_a_palette_keeps_the_labels_and_shows_the_colours(tmp_path):
    labels = np.array([[0, 1], [2, IGNORE]], np.uint8)
    paletted(labels, COLOURS).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert np.array_equal(np.asarray(picture), labels)
        assert np.asarray(picture.convert("RGB")).tolist() == [
            [[0, 0, 0], [255, 0, 0]],
            [[0, 255, 0], [255, 255, 255]],
        ]


@pytest.mark.parametrize("shape", [(300, 280), (300, 280, 3), (4, 5, 3), (1, 900)])
def test_overlays_and_strips_of_any_size(shape):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, shape, np.uint8)
    truth, found = (generator.choice([0, 1, 2, IGNORE], shape[:2]).astype(np.uint8) for _ in range(2))
    one = label_overlay(image, found, CLASSES, COLOURS, title="a")
    four = label_strip(image, truth, found, CLASSES, COLOURS)
    assert four.width > 3.5 * (one.width - 16)
    assert max(one.size) < 1400


def test_black_classes_and_ignored_pixels_leave_the_photograph():
    image = np.full((256, 256, 3), 100, np.uint8)
    labels = np.zeros((256, 256), np.uint8)
    labels[:100], labels[100:200] = 1, IGNORE
    pixels = np.asarray(label_overlay(image, labels, CLASSES, COLOURS))
    assert pixels[60, 60].tolist() == [193, 40, 40]
    assert pixels[150, 60].tolist() == pixels[230, 60].tolist() == [100, 100, 100]


def test_many_classes_are_summed_up_in_the_legend():
    labels = np.arange(40, dtype=np.uint8).repeat(300).reshape(40, 300)
    names = [f"c{k}" for k in range(40)]
    label_overlay(np.zeros((40, 300, 3), np.uint8), labels, names, [(k, 9, 9) for k in range(40)])


def test_another_size_is_refused():
    with pytest.raises(InputError, match="label maps"):
        label_overlay(np.zeros((4, 4, 3)), np.zeros((4, 5)), CLASSES, COLOURS)
