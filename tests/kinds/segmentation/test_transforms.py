from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.augment import SegmentationAugment

STILL = {"flip": 0.0, "rotate": 0.0, "scale": 0.0, "elastic": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0}


def only(**wanted: float) -> SegmentationAugment:
    return SegmentationAugment(**{**STILL, "probability": 1.0, **wanted})


def discs(height: int = 48, width: int = 64) -> torch.Tensor:
    """Two overlapping discs, `[2 H W]`."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    first = (x - 24) ** 2 + (y - 20) ** 2 < 13**2
    second = (x - 38) ** 2 + (y - 28) ** 2 < 11**2
    return torch.stack([first, second]).float()


@pytest.mark.parametrize("change", [{"flip": 1.0}, {"rotate": 40.0}, {"scale": 0.4}, {"elastic": 2.0}])
@pytest.mark.parametrize("seed", range(3))
def test_an_image_that_is_its_mask_stays_so(change: dict[str, float], seed: int) -> None:
    mask = discs()
    image, moved = only(**change)(mask, mask, np.random.default_rng(seed))
    assert not torch.equal(moved, mask)
    assert set(moved.unique().tolist()) <= {0.0, 1.0}
    wrong = ((image > 0.5) != (moved > 0.5)).float().mean()
    assert wrong < 0.01
    assert torch.equal(image[moved == 1] > 0, torch.ones_like(image[moved == 1], dtype=torch.bool))


@given(st.integers(0, 1000))
def test_every_change_at_once_keeps_them_together(seed: int) -> None:
    mask = discs()
    augment = only(flip=0.5, rotate=30, scale=0.3, elastic=1.5)
    image, moved = augment(mask, mask, np.random.default_rng(seed))
    assert ((image > 0.5) != (moved > 0.5)).float().mean() < 0.01


def test_rotation_keeps_shapes_in_images_that_are_not_square() -> None:
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = ((x - 39.5) ** 2 + (y - 19.5) ** 2 < 12**2).float()[None]
    _, turned = only(rotate=90.0)(disc, disc, np.random.default_rng(0))
    assert (turned != disc).float().mean() < 0.03, "a disc in the middle does not change when it is turned"


def test_scale_changes_areas_and_flip_mirrors() -> None:
    disc = discs()[:1]
    _, mirrored = only(flip=1.0)(disc, disc, np.random.default_rng(0))
    assert torch.equal(mirrored, disc.flip(-1))
    areas = [only(scale=0.5)(disc, disc, np.random.default_rng(seed))[1].sum().item() for seed in range(12)]
    assert min(areas) < 0.85 * disc.sum() < 1.15 * disc.sum() < max(areas)
    assert max(areas) < 2.35 * disc.sum()


def test_elastic_displacements_are_smooth_and_of_the_stated_size() -> None:
    augment = only(elastic=3.0)
    shifts = []
    for seed in range(20):
        grid = augment.grid((60, 50), np.random.default_rng(seed))
        assert grid is not None
        flat = SegmentationAugment(**STILL).grid((60, 50), np.random.default_rng(0))
        assert flat is None
        y, x = (2 * torch.arange(60) + 1) / 60 - 1, (2 * torch.arange(50) + 1) / 50 - 1
        identity = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        pixels = (grid[0] - identity) * torch.tensor([25.0, 30.0])
        shifts.append(pixels)
        assert pixels.diff(dim=0).abs().max() < 3.0
    assert torch.stack(shifts).std().item() == pytest.approx(3.0 * 0.75, rel=0.35)


@pytest.mark.parametrize("change", [{"contrast": 0.3}, {"gamma": 0.5}, {"noise": 0.2}])
def test_intensities_change_the_image_alone(change: dict[str, float]) -> None:
    image, mask = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)), discs(16, 16)
    changed, same = only(**change)(image, mask, np.random.default_rng(0))
    assert torch.equal(same, mask)
    assert not torch.equal(changed, image)
    assert (changed - image).abs().max() < 0.6
    assert changed.dtype == torch.float32


def test_gamma_keeps_the_range_and_order() -> None:
    image = torch.linspace(-3, 5, 64).reshape(1, 8, 8)
    changed, _ = only(gamma=0.8)(image, image, np.random.default_rng(1))
    assert changed.min().item() == pytest.approx(-3, abs=1e-5)
    assert changed.max().item() == pytest.approx(5, abs=1e-5)
    assert (changed.flatten().diff() > 0).all()


def test_the_generator_decides_and_the_inputs_stay() -> None:
    image, mask = torch.rand(1, 20, 20), discs(20, 20)
    before = image.clone(), mask.clone()
    augment = SegmentationAugment(flip=0.5, elastic=1.0, probability=0.7)
    a, b, c = (augment(image, mask, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert not torch.equal(a[0], c[0])
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])


def test_a_constant_image_stays_finite() -> None:
    image = torch.zeros(1, 8, 8)
    changed, _ = SegmentationAugment(elastic=1.0, probability=1.0)(image, image, np.random.default_rng(0))
    assert torch.equal(changed, image)


def test_everything_off_changes_nothing() -> None:
    image = torch.rand(1, 8, 8)
    changed, mask = SegmentationAugment(**STILL)(image, image, np.random.default_rng(0))
    assert changed is image
    assert mask is image


@pytest.mark.parametrize(
    "wrong", [{"flip": 1.5}, {"probability": -0.1}, {"rotate": -1.0}, {"scale": float("nan")}, {"noise": float("inf")}]
)
def test_augmentations_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"augment.{next(iter(wrong))}="):
        SegmentationAugment(**wrong)
