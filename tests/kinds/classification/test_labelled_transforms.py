from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from fewpairs.data.random_state import seeded_generators
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.augment import (
    LabelledAugment,
    Mixing,
    deit_augment,
    small_augment,
    training_transform,
)
from fewpairs.kinds.classification.view import LabelledView

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(size: tuple[int, int] = (50, 70), mode: str = "RGB", seed: int = 0) -> Image.Image:
    smooth = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(smooth).resize((size[1], size[0]), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_evaluation_is_timms(crop_mode: str, size: tuple[int, int], interpolation: str) -> None:
    view = LabelledView(size, crop_pct=0.9, crop_mode=crop_mode, interpolation=interpolation)  # type: ignore[arg-type]
    theirs = create_transform((3, *size), crop_pct=0.9, crop_mode=crop_mode, interpolation=interpolation)
    ours = view.apply(picture())
    assert ours.shape == (3, *size)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs(picture()))


@pytest.mark.parametrize("seed", range(8))
def test_deits_recipe_is_timms(seed: int) -> None:
    theirs = create_transform(
        (3, 32, 32),
        is_training=True,
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
    )
    ours = training_transform(LabelledView((32, 32)).with_channels(3), deit_augment())
    with seeded_generators((seed,)):
        expected = theirs(picture())
    with seeded_generators((seed,)):
        assert torch.equal(ours(picture()), expected)


def test_28_pixels_are_left_alone() -> None:
    view = LabelledView((28, 28), channels=1, crop_pct=1.0)
    image = picture((28, 28), "L")
    expected = (torch.from_numpy(np.array(image)).float()[None] / 255 - 0.449) / 0.226
    torch.testing.assert_close(view.apply(image), expected)
    torch.testing.assert_close(view.tensor(picture((9, 5), "L")).shape, torch.Size([1, 9, 5]))


def test_pad_and_crop_moves_the_image() -> None:
    view = LabelledView((28, 28), channels=1, crop_pct=1.0, mean=(0.0,), std=(1.0,))
    image = picture((28, 28), "L")
    whole = view.apply(image)[0]
    transform = training_transform(view, small_augment(padding=2))
    padded = torch.zeros(32, 32)
    padded[2:30, 2:30] = whole
    allowed = [
        torch.flip(crop, [-1]) if mirrored else crop
        for mirrored in (False, True)
        for crop in (padded[top : top + 28, left : left + 28] for top in range(5) for left in range(5))
    ]
    found = set()
    for seed in range(200):
        with seeded_generators((seed,)):
            changed = transform(image)[0]
        places = [place for place, crop in enumerate(allowed) if torch.equal(crop, changed)]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 40, "nearly all of the 50 places and sides are drawn"


@pytest.mark.parametrize(
    "augment",
    [
        deit_augment(),
        small_augment(),
        LabelledAugment(jitter=0.4, erasing=1.0, erasing_mode="rand"),
        LabelledAugment(scale=None, policy="rand-m5-n4-p1-mmax10", erasing=1.0, erasing_mode="const"),
        LabelledAugment(policy="rand-tweights-mstd0.5"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_part_works_in_grey_and_colour(augment: LabelledAugment, channels: int) -> None:
    view = LabelledView((24, 20)).with_channels(channels)
    transform = training_transform(view, augment)
    changed = []
    for seed in range(40):
        with seeded_generators((seed,)):
            changed.append(transform(picture(mode="L" if channels == 1 else "RGB")))
    assert {image.shape for image in changed} == {torch.Size([channels, 24, 20])}
    assert all(image.isfinite().all() for image in changed)
    assert not torch.equal(changed[0], changed[1])


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 90), (90, 1), (3, 200)])
@pytest.mark.parametrize("augment", [deit_augment(), small_augment(), LabelledAugment(scale=(0.001, 0.002))])
def test_pictures_of_a_few_pixels(size: tuple[int, int], augment: LabelledAugment) -> None:
    view = LabelledView((16, 16)).with_channels(3)
    assert view.apply(picture(size)).shape == (3, 16, 16)
    for seed in range(30):
        with seeded_generators((seed,)):
            assert training_transform(view, augment)(picture(size)).shape == (3, 16, 16)
    crop = training_transform(view, LabelledAugment(scale=(0.001, 0.002)))
    white = Image.new("RGB", (size[1], size[0]), (255, 255, 255))
    for seed in range(30):
        with seeded_generators((seed,)):
            assert (crop(white) > 1).all(), "an empty crop would be black"


def test_pictures_of_which_nothing_would_be_left() -> None:
    with pytest.raises(DataError, match=r"a picture of 1 x 900 pixels cannot be brought to 16 x 16 .*'border'"):
        LabelledView((16, 16), crop_mode="border").apply(picture((1, 900)))


def test_jitter_changes_colours_and_erasing_fills() -> None:
    view = LabelledView((20, 20)).with_channels(3)
    plain = LabelledAugment(scale=None, flip=0.0)
    whole = training_transform(view, plain)(picture())
    torch.testing.assert_close(whole, view.apply(picture()))
    with seeded_generators((1,)):
        jittered = training_transform(view, LabelledAugment(scale=None, flip=0.0, jitter=0.4))(picture())
    assert (jittered - whole).abs().mean() > 0.05
    with seeded_generators((1,)):
        erased = training_transform(view, LabelledAugment(scale=None, flip=0.0, erasing=1.0))(picture())
    changed = (erased != whole).all(0)
    assert 0.01 < changed.float().mean() < 0.4
    assert torch.equal(erased[:, ~changed], whole[:, ~changed])


@pytest.mark.parametrize("policy", ["rand-m10-inc1", "rand-m0-inc1", "rand-tweights-m0"])
def test_posterize_at_the_ends_of_its_range(policy: str) -> None:
    transform = training_transform(LabelledView((8, 8)).with_channels(3), LabelledAugment(policy=policy, flip=0.0))
    operations = [op for op in transform.transforms[1].ops if op.name.startswith("Posterize")]  # type: ignore[attr-defined]
    image = picture()
    for operation in operations:
        operation.prob = 1.0
        pixels = np.asarray(operation(image))
        kept = {0: 0, 4: 0xF0}[operation.level_fn(operation.magnitude, {})[0]]
        np.testing.assert_array_equal(pixels, np.asarray(image) & kept)
    assert operations


def test_chance_is_its_own_and_leaves_the_rest_alone() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = [draw(), draw()]
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = draw()
    with seeded_generators((0, 1, 2)):
        inside = draw()
    assert [before, draw()] == expected
    with seeded_generators((0, 1, 2)):
        assert draw() == inside
    others = []
    for numbers, stream in (((0, 1, 3), 0), ((1, 1, 2), 0), ((0, 1, 2), 1), ((0, 2, 1), 0)):
        with seeded_generators(numbers, stream=stream):
            others.append(draw())
    for draws in zip(inside, *others, strict=True):
        assert len(set(draws)) == 5, "each generator follows every number"
    with pytest.raises(TypeError), seeded_generators((1,)):
        draw(1)  # type: ignore[call-arg]
    state = draw()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    draw(), draw()
    assert draw() == state


def test_settings_travel_and_lists_become_tuples() -> None:
    view = LabelledView([24, 20], mean=[0.5], std=[0.25])  # type: ignore[arg-type]
    assert view == LabelledView((24, 20), mean=(0.5,), std=(0.25,))
    augment = LabelledAugment(scale=[0.2, 1.0], mixing=Mixing(cutmix_minmax=[0.2, 0.8]))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps((view, augment))) == (view, augment)
    assert hash(augment) == hash(LabelledAugment(scale=(0.2, 1.0), mixing=Mixing(cutmix_minmax=(0.2, 0.8))))


def test_channels_of_a_view() -> None:
    assert LabelledView().with_channels(1) == LabelledView(channels=1, mean=(0.449,), std=(0.226,))
    assert LabelledView().with_channels(3) == LabelledView(channels=3, mean=MEAN, std=STD)
    assert LabelledView(channels=3).with_channels(1).channels == 3
    with pytest.raises(InputError, match=r"mean=\[0.5\]: give one number for each of 3 channels"):
        LabelledView(mean=(0.5,), std=(0.2,)).with_channels(3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (0, 5)}, "size="),
        ({"size": (5,)}, "size="),
        ({"channels": 2}, "channels=2: allowed are 1"),
        ({"mean": (0.1, 0.2)}, "mean="),
        ({"channels": 3, "mean": (0.1,)}, "for each of 3 channels"),
        ({"std": (0.0,)}, "must be positive"),
        ({"std": (float("nan"),)}, "must be positive"),
        ({"crop_pct": 0}, "crop_pct=0"),
        ({"crop_pct": 1.1}, "crop_pct=1.1"),
        ({"crop_mode": "centre"}, "crop_mode='centre': allowed are center, squash, border"),
        ({"interpolation": "cubic"}, "interpolation='cubic'"),
    ],
)
def test_wrong_views(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelledView(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.0, 1.0)}, "scale="),
        ({"scale": (0.9, 0.5)}, "scale="),
        ({"scale": (0.5, 1.5)}, "scale="),
        ({"ratio": (2.0, 1.0)}, "ratio="),
        ({"padding": -1, "scale": None}, "padding=-1"),
        ({"padding": 4}, "are two crops; give one"),
        ({"scale": None, "ratio": (0.5, 2.0)}, "scale=null switches off"),
        ({"flip": 1.5}, "flip=1.5: a probability"),
        ({"erasing": float("nan")}, "erasing=nan"),
        ({"erasing_mode": "zero"}, "erasing_mode='zero'"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"policy": "rand-x9"}, "policy='rand-x9' is no RandAugment .* rand-m9-mstd0.5-inc1"),
        ({"policy": "augmix"}, "policy='augmix'"),
    ],
)
def test_wrong_augmentation(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelledAugment(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": -1.0}, "mixup=-1.0"),
        ({"cutmix": float("inf")}, "cutmix=inf"),
        ({"mixup": 0.0, "cutmix": 0.0}, "mix nothing; leave the mixing out"),
        ({"prob": 2.0}, "prob=2.0"),
        ({"switch": -0.5}, "switch=-0.5"),
        ({"mode": "image"}, "mode='image': allowed are batch, pair, elem"),
        ({"cutmix_minmax": (0.5, 0.2)}, "cutmix_minmax="),
        ({"cutmix_minmax": (0.2, 0.8), "cutmix": 0.0}, "which cutmix=0 switches off"),
    ],
)
def test_wrong_mixing(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mixing(**settings)  # type: ignore[arg-type]
