from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.augment import SegmentationAugment
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.dataset import SegmentationDataset, SegmentationItems, collate_segmentation
from fewpairs.kinds.segmentation.store import Store
from fewpairs.kinds.segmentation.view import SegmentationView

VIEW = SegmentationView((24, 20))


def test_items_are_the_slices_of_the_cases_in_order(store: Store) -> None:
    cases = store.cases[1:3]
    native = store.scans[store.of_cases(cases)[0]].size
    dataset = SegmentationDataset(store, cases, SegmentationView(native, normalise="max"))
    assert len(dataset) == 2 * 2 * 8
    ids = [dataset[0, index].id for index in range(len(dataset))]
    assert ids == [name for scan in store.of_cases(cases) for name in store.scans[scan].slice_ids]
    number = store.of_cases(cases)[0]
    pixels, masks = store.image(number).astype(np.float32), unpack(np.asarray(store.mask(number)), 3)
    for s in range(8):
        sample = dataset[0, s]
        np.testing.assert_allclose(sample.image[0], pixels[s, 0] / pixels[s, 0].max(), rtol=1e-6)
        np.testing.assert_array_equal(sample.mask, masks[s])
        assert sample.image.dtype == sample.mask.dtype == torch.float32


def test_chance_comes_from_seed_epoch_and_index_alone(store: Store) -> None:
    def make(seed: int = 0) -> SegmentationDataset:
        return SegmentationDataset(
            store, store.cases, VIEW, augment=SegmentationAugment(elastic=1.0, probability=0.9), seed=seed
        )

    first, second = make(), make()
    backwards = {index: second[3, index] for index in reversed(range(20))}
    for index in range(20):
        sample = first[3, index]
        assert torch.equal(sample.image, backwards[index].image)
        assert torch.equal(sample.mask, backwards[index].mask)
    assert not torch.equal(first[3, 1].image, first[4, 1].image)
    assert not torch.equal(first[3, 1].image, make(seed=1)[3, 1].image)


def test_masks_stay_binary_and_classes_in_order(store: Store) -> None:
    dataset = SegmentationDataset(store, store.cases, VIEW, augment=SegmentationAugment(elastic=1.0))
    total = torch.zeros(3)
    for index in range(len(dataset)):
        mask = dataset[0, index].mask
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        total += mask.sum((1, 2))
    voxels = np.sum([np.array(scan.voxels) / np.prod(scan.size) for scan in store.scans], axis=0) * 24 * 20
    np.testing.assert_allclose(total.numpy(), voxels, rtol=0.25)


def test_empty_slices_are_drawn_anew_each_epoch(store: Store) -> None:
    empty = {name for scan in store.scans for name, flag in zip(scan.slice_ids, scan.empty, strict=True) if flag}
    full = store.slices - len(empty)
    dataset = SegmentationDataset(store, store.cases, VIEW, empty_fraction=0.25)
    assert len(dataset) == full + round(0.25 * len(empty))
    seen: set[str] = set()
    for epoch in range(30):
        ids = [dataset[epoch, index].id for index in range(len(dataset))]
        assert len(set(ids)) == len(ids)
        assert len(set(ids) - empty) == full
        seen |= set(ids) & empty
    assert seen == empty
    assert len(SegmentationDataset(store, store.cases, VIEW, empty_fraction=0)) == full
    with pytest.raises(InputError, match="empty_fraction=2"):
        SegmentationDataset(store, store.cases, VIEW, empty_fraction=2)


def test_stacks_are_channels_and_change_together(store: Store) -> None:
    dataset = SegmentationDataset(
        store, store.cases, SegmentationView((24, 20), stack=3), augment=SegmentationAugment(rotate=30, probability=1.0)
    )
    assert dataset.channels == 3
    assert dataset[0, 5].image.shape == (3, 24, 20)


def test_a_copy_in_another_process_reads_the_same(store: Store) -> None:
    dataset = SegmentationDataset(store, store.cases, VIEW, augment=SegmentationAugment(), seed=4)
    here = collate_segmentation([dataset[1, index] for index in range(6)])
    sent = pickle.dumps(dataset)
    assert len(sent) < 60_000, "neither pixels nor open files travel"
    there = pickle.loads(sent)
    batch = collate_segmentation([there[1, index] for index in range(6)])
    assert torch.equal(batch.image, here.image)
    assert torch.equal(batch.mask, here.mask)
    assert batch.ids == here.ids
    assert batch.image.shape == (6, 1, 24, 20)
    assert batch.mask.shape == (6, 3, 24, 20)


def test_an_index_beyond_the_end(store: Store) -> None:
    dataset = SegmentationDataset(store, store.cases[:1], VIEW)
    with pytest.raises(IndexError):
        dataset[0, len(dataset)]


def test_unknown_cases_and_slices_that_do_not_fit(store: Store) -> None:
    for kind in (SegmentationDataset, SegmentationItems):
        with pytest.raises(InputError, match="no case 'nobody'"):
            kind(store, ["nobody"], VIEW)
        with pytest.raises(InputError, match="cannot shrink"):
            kind(store, store.cases, SegmentationView((24, 20), fit="pad"))


def test_scans_have_their_truth_at_native_size(store: Store) -> None:
    dataset = SegmentationItems(store, store.cases[2:], SegmentationView((24, 20), stack=3))
    assert len(dataset) == 8
    assert [scan.id for scan in dataset] == [store.scans[index].id for index in store.of_cases(store.cases[2:])]
    scan, stored = dataset[-1], store.scans[-1]
    assert (scan.id, scan.case, scan.spacing, scan.slice_ids) == (
        stored.id,
        stored.case,
        stored.spacing,
        stored.slice_ids,
    )
    assert scan.image.shape == (8, 3, 24, 20)
    assert scan.mask.shape == (8, 3, *stored.size)
    assert scan.mask.dtype == torch.bool
    assert tuple(scan.mask.sum((0, 2, 3)).tolist()) == stored.voxels
    assert scan.geometry.native == stored.size
    assert scan.geometry.invert(torch.zeros(8, 3, 24, 20)).shape == scan.mask.shape


def test_training_and_evaluation_see_the_same_pixels(store: Store) -> None:
    view = SegmentationView((24, 20), normalise="percentile", stack=3, step=2)
    slices, scans = SegmentationDataset(store, store.cases, view), SegmentationItems(store, store.cases, view)
    for s in range(8):
        torch.testing.assert_close(slices[0, s].image, scans[0].image[s])
