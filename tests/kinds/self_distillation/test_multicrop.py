"""Multi-crop views: decided by seed, epoch and index alone, of the sizes and shares that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.kinds.classification.source import LabelledSource
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.self_distillation.multicrop import (
    ExemplarItems,
    MultiCrop,
    MultiCropDataset,
    collate_crops,
    cut,
    recoloured,
)
from fewpairs.types import Labelled

SMALL = MultiCrop(local_size=(12, 10), local_crops=3)
STILL = MultiCrop(local_size=(8, 8), flip=0, jitter=0, grey=0, blur=0, solarise=0)


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30), seed: int = 0) -> Image.Image:
    """Width and height, as Pillow counts."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


class Pictures:
    """A part of a labelled data set."""

    def __init__(self, count: int = 6, mode: str = "RGB") -> None:
        self.images = [picture(mode, seed=number) for number in range(count)]
        self.labels = np.arange(count) % 2

    def read(self, index: int) -> Image.Image:
        return self.images[index]

    def id(self, index: int) -> str:
        return f"image-{index}"

    def file(self, index: int) -> None:
        return None


def dataset(crops: MultiCrop = SMALL, mode: str = "RGB", **options: Any) -> MultiCropDataset:
    channels = 3 if mode == "RGB" else 1
    source = LabelledSource("pictures", ["a", "b"], {"train": Pictures(mode=mode)}, channels=channels)
    settings: dict[str, Any] = {"indices": np.array([1, 3, 4]), "view": LabelledView(size=(24, 20)), **options}
    return MultiCropDataset(source, crops=crops, **settings)


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.image, other.image, strict=True))


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_a_batch(mode: str, channels: int) -> None:
    data = dataset(mode=mode)
    assert len(data) == 3
    batch = collate_crops([data[0, 2], data[0, 0]])
    assert batch.ids == ("image-4", "image-1")
    assert [tuple(crop.shape) for crop in batch.image] == [(2, channels, 24, 20)] * 2 + [(2, channels, 12, 10)] * 3
    assert torch.equal(batch.image[4][1], data[0, 0].image[4])
    assert batch.to("cpu").ids == batch.ids


def test_seed_epoch_and_index_decide_everything() -> None:
    first = dataset()[3, 1]
    again = dataset()
    for key in ((0, 0), (3, 0), (4, 1)):
        assert not same(again[key], first)
    np.random.seed(5)
    torch.manual_seed(5)
    assert same(again[3, 1], first)
    assert not same(dataset(seed=1)[3, 1], first)
    views = first.image
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[2], views[3])


def ramp(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row, four levels a pixel."""
    columns, rows = np.arange(width)[None] * 4, np.arange(height)[:, None] * 4
    return Image.fromarray(np.stack(np.broadcast_arrays(columns, rows, 0), axis=-1).astype(np.uint8))


def covered(crop: Image.Image) -> tuple[float, float]:
    """Width and height, in pixels of the ramp, of what a crop shows."""
    seen = np.asarray(crop).astype(int)
    return tuple((seen[..., axis].max() - seen[..., axis].min()) / 4 + 1 for axis in (0, 1))  # type: ignore[return-value]


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.02, 1), st.floats(0.02, 1), st.integers(0, 99))
def test_a_crop_has_its_size_and_stays_inside(width: int, height: int, one: float, other: float, seed: int) -> None:
    crop = cut(ramp(width, height), (32, 24), (min(one, other), max(one, other)), np.random.default_rng(seed))
    assert crop.size == (24, 32)
    w, h = covered(crop)
    assert w <= width
    assert h <= height


@pytest.mark.parametrize("scale", [(0.3, 0.3), (0.05, 0.4), (0.4, 0.5)])
def test_a_crop_covers_its_share(scale: tuple[float, float]) -> None:
    image = ramp(60, 60)
    sizes = [covered(cut(image, (60, 60), scale, np.random.default_rng(seed))) for seed in range(60)]
    shares = [w * h / 3600 for w, h in sizes]
    assert scale[0] * 0.85 < min(shares) <= max(shares) < scale[1] * 1.15
    assert max(shares) - min(shares) > 0.5 * (scale[1] - scale[0])
    ratios = [w / h for w, h in sizes]
    assert 0.65 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.5


def test_a_crop_of_an_image_too_narrow_for_any() -> None:
    image = picture("L", (200, 4))
    crop = cut(image, (6, 6), (1.0, 1.0), np.random.default_rng(0))
    assert crop.size == (6, 6)
    middle = image.resize((6, 6), Image.Resampling.BICUBIC, box=(97, 0, 102, 4))
    assert np.array_equal(np.asarray(crop), np.asarray(middle))


def test_changes_can_be_switched_off() -> None:
    image = picture()
    views = MultiCrop(local_crops=0, global_scale=(1.0, 1.0), flip=0, jitter=0, grey=0, blur=0, solarise=0)(
        image, (30, 40), np.random.default_rng(0)
    )
    assert len(views) == 2
    assert all(np.array_equal(np.asarray(view), np.asarray(image)) for view in views)


@pytest.mark.parametrize(
    ("change", "views"),
    [({"flip": 1.0}, {0, 1}), ({"blur": 2.0}, {0}), ({"solarise": 1.0}, {1}), ({"grey": 1.0}, {0, 1})],
)
def test_which_views_a_change_touches(change: dict[str, float], views: set[int]) -> None:
    """Blur: the first global crop always; solarisation: the second alone."""
    image, still = picture(), {"global_scale": (1.0, 1.0), "flip": 0, "jitter": 0, "grey": 0, "blur": 0, "solarise": 0}
    crops = MultiCrop(local_crops=0, **still | change)  # type: ignore[arg-type]
    touched = set.intersection(
        *(
            {
                number
                for number, view in enumerate(crops(image, (30, 40), np.random.default_rng(seed)))
                if not np.array_equal(np.asarray(view), np.asarray(image))
            }
            for seed in range(12)
        )
    )
    assert touched == views


def test_solarised_pixels_are_inverted_above_the_middle() -> None:
    crops = MultiCrop(local_crops=0, global_scale=(1.0, 1.0), flip=0, jitter=0, grey=0, blur=0, solarise=1)
    image = picture("L")
    before = np.asarray(image)
    after = np.asarray(crops(image, (30, 40), np.random.default_rng(0))[1])
    assert np.array_equal(after, np.where(before < 128, before, 255 - before))


def test_colours_change_within_bounds() -> None:
    grey = picture("L")
    changed = {seed: recoloured(grey, np.random.default_rng(seed)) for seed in range(5)}
    assert {image.mode for image in changed.values()} == {"L"}
    means = [np.asarray(image).mean() for image in changed.values()]
    assert np.std(means) > 1
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for seed in range(20):
        r, g, b = np.asarray(recoloured(red, np.random.default_rng(seed)))[0, 0].astype(int)
        assert r >= max(g, b)


def test_views_are_normalised_as_the_view_says() -> None:
    view = LabelledView(size=(30, 40), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    whole = MultiCrop(local_crops=0, global_scale=(1.0, 1.0), flip=0, jitter=0, grey=0, blur=0, solarise=0)
    first, second = dataset(whole, view=view)[0, 0].image
    torch.testing.assert_close(first, view.tensor(picture(seed=1)))
    assert torch.equal(first, second)
    grey = dataset(whole, view=LabelledView(size=(30, 40), channels=1))[0, 0].image[0]
    torch.testing.assert_close(grey, LabelledView(channels=1).tensor(picture(seed=1)))


def test_one_pixel() -> None:
    data = dataset(STILL, view=LabelledView(size=(1, 1)))
    assert len(data[0, 0].image) == 10
    with pytest.raises(IndexError, match="image 3 of 3"):
        data[0, 3]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"local_size": (0, 4)}, r"local_size=\(0, 4\)"),
        ({"local_crops": -1}, "local_crops=-1"),
        ({"global_scale": (0.0, 1.0)}, r"global_scale=\(0\.0, 1\.0\)"),
        ({"local_scale": (0.5, 0.4)}, r"local_scale=\(0\.5, 0\.4\)"),
        ({"flip": 1.5}, r"flip=1\.5"),
        ({"jitter": -0.1}, r"jitter=-0\.1"),
        ({"blur": 0.05}, r"blur=0\.05"),
    ],
)
def test_mistakes(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        MultiCrop(**wrong)


def test_nothing_to_train_on_and_a_wrong_seed() -> None:
    with pytest.raises(InputError, match="pictures: no images to train on"):
        dataset(indices=[])
    with pytest.raises(InputError, match="seed=-1"):
        dataset(seed=-1)


def test_exemplars_are_the_bank_and_then_the_queries() -> None:
    def items(count: int, name: str) -> list[Labelled]:
        return [
            Labelled(torch.full((2, 1, 4, 4), float(i)), torch.tensor([i, i]), (f"{name}{i}a", f"{name}{i}b"))
            for i in range(count)
        ]

    exemplars = ExemplarItems(items(2, "t"), items(1, "v"))
    assert len(exemplars) == 3
    assert [(item.part, item.ids[0]) for item in exemplars] == [("bank", "t0a"), ("bank", "t1a"), ("query", "v0a")]
    assert torch.equal(exemplars[1].label, torch.tensor([1, 1]))
    with pytest.raises(IndexError, match="item 3 of 3"):
        exemplars[3]
