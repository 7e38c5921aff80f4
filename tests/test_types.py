from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.types import DetectionBatch, Detections, Geometry, Grid, Objects

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def test_a_grid_counts_its_prefix() -> None:
    assert Grid(3, 4).tokens == 12
    assert Grid(3, 4, prefix=5).tokens == 17


@given(SIZES, SIZES)
def test_pad_keeps_every_pixel_and_goes_back(native: tuple[int, int], extra: tuple[int, int]) -> None:
    geometry = Geometry(native, (native[0] + extra[0], native[1] + extra[1]), "pad")
    image = torch.arange(2 * native[0] * native[1], dtype=torch.float32).reshape(1, 2, *native)
    padded = geometry.apply(image, value=-1.0)
    assert padded.shape[-2:] == geometry.model
    assert (padded == -1).sum() == padded.numel() - image.numel()
    assert torch.equal(geometry.invert(padded), image)


@given(SIZES, SIZES)
def test_resize_has_the_sizes_asked_for_and_keeps_a_constant(native: tuple[int, int], model: tuple[int, int]) -> None:
    geometry = Geometry(native, model)
    image = torch.full((1, 1, *native), 3.0)
    resized = geometry.apply(image)
    assert resized.shape[-2:] == model
    back = geometry.invert(resized)
    assert back.shape[-2:] == native
    torch.testing.assert_close(back, image)


def test_masks_stay_binary() -> None:
    mask = (torch.rand(1, 1, 13, 17) > 0.5).float()
    resized = Geometry((13, 17), (32, 20)).apply(mask, mode="nearest")
    assert set(resized.unique().tolist()) <= {0.0, 1.0}


def test_pad_cannot_shrink() -> None:
    with pytest.raises(ValueError, match="enlarge the model size or use fit='resize'"):
        Geometry((10, 20), (10, 19), "pad")


def some_objects() -> Objects:
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    return Objects(
        torch.tensor([[0.0, 0, 2, 2], [1, 1, 8, 6]]),
        torch.tensor([0, 1]),
        masks,
        torch.tensor([False, True]),
        torch.tensor([4.0, 35]),
    )


def test_objects_can_be_taken_moved_and_counted() -> None:
    objects = some_objects()
    assert len(objects) == 2
    kept = objects.take(~objects.crowd).to("cpu")
    assert kept.labels.tolist() == [0]
    assert kept.masks is not None
    assert kept.masks.shape == (1, 6, 8)
    assert len(Objects.none()) == 0
    assert Objects.none().masks is None
    assert Objects.none((3, 4)).masks is not None


def test_objects_and_detections_of_unequal_lengths_are_refused() -> None:
    objects = some_objects()
    with pytest.raises(ValueError, match="2 boxes but 1 labels"):
        Objects(objects.boxes, objects.labels[:1], None, objects.crowd, objects.area)
    with pytest.raises(ValueError, match=r"boxes are \[o 4\]"):
        Objects(torch.zeros(2), objects.labels, None, objects.crowd, objects.area)
    with pytest.raises(ValueError, match="2 boxes but 3 scores"):
        Detections(objects.boxes, torch.zeros(3), objects.labels)
    with pytest.raises(ValueError, match=r"masks are \[o H W\]"):
        Detections(objects.boxes, torch.zeros(2), objects.labels, torch.zeros(2, 3))


def test_pictures_are_their_own_model_input() -> None:
    pictures = DetectionBatch((torch.zeros(3, 6, 8),), (some_objects(),), ("a.png",)).to("cpu")
    assert pictures.image is pictures
    assert len(pictures) == 1
    with pytest.raises(ValueError, match="1 images, 0 truths"):
        DetectionBatch((torch.zeros(3, 6, 8),), (), ("a.png",))
