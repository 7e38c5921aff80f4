from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from detection_files import make_coco, make_maps, make_voc, voc_file
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from fewpairs.errors import InputError
from fewpairs.kinds.detection.dataset import DetectionDataset, DetectionItems, collate_detection
from fewpairs.kinds.detection.layouts.open import open_detection
from fewpairs.kinds.detection.view import DetectionAugment, DetectionView, augmented
from fewpairs.types import Objects

AUGMENTS = st.builds(
    DetectionAugment,
    sizes=st.none() | st.just((16, 48)),
    step=st.just(16),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    vertical_flip=st.sampled_from([0.0, 1.0]),
    jitter=st.none() | st.just((0.3, 2.0)),
    crop=st.just((32, 40)),
    visible=st.sampled_from([0.0, 0.5]),
    hue=st.sampled_from([0.0, 0.1]),
)


def scene(corners: list[tuple[int, int, int, int]], size: tuple[int, int] = (40, 60)) -> tuple[torch.Tensor, Objects]:
    """A picture that is 255 inside of its boxes and 0 outside, with a mask for each box."""
    boxes = torch.tensor(
        [[x, y, min(x + w, size[1]), min(y + h, size[0])] for x, y, w, h in corners], dtype=torch.float32
    ).reshape(-1, 4)
    masks = torch.zeros(len(corners), *size, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    pixels = masks.any(dim=0).to(torch.uint8).mul(255).expand(3, -1, -1).contiguous()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    labels = torch.arange(len(corners))
    return pixels, Objects(boxes, labels, masks, torch.zeros(len(corners), dtype=torch.bool), area)


CORNERS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 30), st.integers(4, 60), st.integers(4, 40)), max_size=4
)


@given(CORNERS, AUGMENTS, st.integers(0, 1000))
def test_boxes_stay_valid_and_none_is_lost_but_by_a_crop(
    corners: list[tuple[int, int, int, int]], augment: DetectionAugment, seed: int
) -> None:
    pixels, objects = scene(corners)
    torch.manual_seed(seed)
    shown = augmented(pixels, objects, DetectionView(32, 60), augment)
    height, width = shown.image.shape[1:]
    boxes, found = shown.objects.boxes, shown.objects
    assert shown.image.dtype == torch.float32
    assert 0 <= shown.image.min() <= shown.image.max() <= 1
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([width, height, width, height])).all()
    assert len(found) + shown.cut == len(objects)
    if augment.jitter is None:
        assert shown.cut == 0
    assert found.masks is not None
    assert found.masks.shape == (len(found), height, width)
    filled = found.masks.flatten(1).any(dim=1)
    around = masks_to_boxes(found.masks[filled]) + torch.tensor([0, 0, 1, 1])
    assert ((around - boxes[filled]).abs() <= 2.5).all()  # nearest pixels, at twice the size


def test_a_flip_moves_picture_boxes_and_masks_alike() -> None:
    pixels, objects = scene([(2, 3, 10, 8), (20, 30, 30, 10)])
    view = DetectionView(40, 60)
    shown = augmented(pixels, objects, view, DetectionAugment(flip=1.0, vertical_flip=1.0))
    assert shown.objects.boxes.tolist() == [[48, 29, 58, 37], [10, 0, 40, 10]]
    assert shown.objects.masks is not None
    assert torch.equal(shown.objects.masks, objects.masks.flip(1, 2))  # type: ignore[union-attr]
    assert torch.equal(shown.image, pixels.float().flip(1, 2) / 255)
    assert torch.equal(shown.objects.area, objects.area)


def test_resizing_keeps_the_aspect_and_scales_areas() -> None:
    pixels, objects = scene([(0, 0, 30, 20)])
    shown = augmented(pixels, objects, DetectionView(80, 100), None)
    assert shown.image.shape == (3, 67, 100)
    assert shown.objects.boxes[0].tolist() == pytest.approx([0, 0, 50, 33.5])
    assert float(shown.objects.area[0]) == pytest.approx(50 * 33.5)
    assert DetectionView(80, 1000).scaled((40, 60)) == (80, 120)
    assert DetectionView(80, 1000).scaled((40, 60), 20) == (20, 30)
    assert DetectionView(8, 8).scaled((1, 5000)) == (1, 8)


def test_sizes_are_drawn_from_the_range() -> None:
    pixels, objects = scene([(0, 0, 30, 20)])
    augment = DetectionAugment(sizes=(16, 48), step=16)
    seen = {augmented(pixels, objects, DetectionView(99, 200), augment).image.shape[1] for _ in range(40)}
    assert seen == {16, 32, 48} == set(augment.shorter)
    assert DetectionAugment(sizes=(480, 800)).shorter == tuple(range(480, 801, 32))


def test_a_crop_cuts_objects_away_and_counts_them() -> None:
    pixels, objects = scene([(0, 0, 4, 4), (56, 36, 4, 4), (10, 10, 40, 20)])
    augment = DetectionAugment(flip=0.0, jitter=(3.0, 3.0), crop=(20, 20))
    cuts = {augmented(pixels, objects, DetectionView(), augment).cut for _ in range(20)}
    assert max(cuts) >= 2
    strict = DetectionAugment(flip=0.0, jitter=(3.0, 3.0), crop=(20, 20), visible=1.0)
    assert all(augmented(pixels, objects, DetectionView(), strict).cut >= 2 for _ in range(20))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sizes": (5, 3)}, "give the smallest value first"),
        ({"sizes": (0, 3)}, "two positive numbers"),
        ({"jitter": (1.0,)}, "two positive numbers"),
        ({"step": 0}, "step=0"),
        ({"flip": 1.5}, "flip=1.5: allowed is 0 to 1"),
        ({"hue": 0.7}, "allowed is 0 to 0.5"),
        ({"contrast": -1}, "contrast=-1"),
    ],
)
def test_impossible_augmentation_is_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetectionAugment(**values)


def test_impossible_views_are_refused() -> None:
    with pytest.raises(InputError, match=r"view\.short=20, view\.long=10"):
        DetectionView(20, 10)
    with pytest.raises(InputError, match=r"view\.channels=2"):
        DetectionView(channels=2)  # type: ignore[arg-type]


def test_a_sample_depends_on_epoch_index_and_seed_alone(tmp_path: Path) -> None:
    source = open_detection("coco", make_coco(tmp_path))
    augment = DetectionAugment(sizes=(20, 60), step=1, brightness=0.5, jitter=(0.5, 2.0), crop=(50, 50))

    def sample(seed: int, key: tuple[int, int], warm: bool = False) -> torch.Tensor:
        data = DetectionDataset(source.part("train"), DetectionView(), augment=augment, masks=True, seed=seed)
        if warm:
            torch.rand(7)
            data[5, 1]
        return data[key].image

    before = torch.random.get_rng_state()
    first = sample(0, (0, 0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, sample(0, (0, 0), warm=True))
    others = [sample(1, (0, 0)), sample(0, (1, 0)), sample(0, (0, 1))]
    assert not any(one.shape == first.shape and torch.equal(one, first) for one in others)


def test_a_dataset_can_be_sent_to_another_process(tmp_path: Path) -> None:
    source = open_detection("coco", make_coco(tmp_path))
    data = DetectionDataset(source.part("train"), DetectionView(20, 60), augment=DetectionAugment(), masks=True)
    other = pickle.loads(pickle.dumps(data))
    assert torch.equal(other[0, 1].image, data[0, 1].image)
    assert torch.equal(other[0, 0].objects.masks, data[0, 0].objects.masks)


def test_batches_keep_sizes_and_images_without_objects(tmp_path: Path) -> None:
    source = open_detection("voc", make_voc(tmp_path))
    data = DetectionDataset(source.part("train"), DetectionView(20, 60))
    batch = collate_detection([data[0, index] for index in range(3)])
    assert batch.ids == ("a.png", "b.png", "c.png")
    assert [len(one) for one in batch.objects] == [2, 1, 0]
    assert {tuple(image.shape) for image in batch.images} == {(3, 20, 30)}
    with pytest.raises(IndexError):
        data[0, 3]


def test_items_of_an_evaluation_are_at_native_size(tmp_path: Path) -> None:
    source = open_detection("nuclei-masks", make_maps(tmp_path))
    items = DetectionItems(source.records, DetectionView(channels=1), masks=True)
    assert len(items) == 3
    for item, record in zip(items, source.records, strict=True):
        assert item.image.shape == (1, 1, 40, 60)
        assert item.image.max() <= 1
        assert item.id == record.id
        assert item.objects.masks is not None
    assert DetectionItems(source.records)[-1].image.shape == (1, 3, 40, 60)
    with pytest.raises(IndexError):
        items[3]


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    voc_file(tmp_path, "a")
    voc_file(tmp_path, "b")
    source = open_detection("voc", make_voc(tmp_path))
    with pytest.raises(InputError, match="no masks to train on"):
        DetectionDataset(source.records, DetectionView(), masks=True)
    with pytest.raises(InputError, match="no masks to evaluate on"):
        DetectionItems(source.records, masks=True)
    with pytest.raises(InputError, match="no images to train on"):
        DetectionDataset(source.records.take(source.records.rows < 0), DetectionView())
    with pytest.raises(InputError, match="seed=-1"):
        DetectionDataset(source.records, DetectionView(), seed=-1)
