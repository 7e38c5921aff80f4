from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_memory import memory_source
from torch.utils.data import DataLoader

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.augment import LabelledAugment, Mixing, deit_augment, small_augment
from fewpairs.kinds.classification.dataset import (
    ClassificationDataset,
    ClassificationItems,
    LabelledCollate,
    LabelledSample,
)
from fewpairs.kinds.classification.layouts.open import open_labelled
from fewpairs.kinds.classification.view import LabelledView

VIEW = LabelledView((16, 16), crop_pct=1.0)
LABELS = [0, 1, 2] * 8
KEYS = [[(epoch, index) for index in indices] for epoch in (0, 7) for indices in ([3, 1, 4, 0], [5, 9, 2, 6])]


def made(augment: LabelledAugment | None = None, seed: int = 0, **options: Any) -> ClassificationDataset:
    source = memory_source({"train": LABELS}, 3, **options)
    return ClassificationDataset(source, source.indices("train"), VIEW, augment=augment, seed=seed)


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_items_are_the_images_asked_for() -> None:
    source = memory_source({"train": LABELS, "test": [1, 0]}, 3, size=(16, 16))
    dataset = ClassificationDataset(source, np.array([24, 2, 5]), VIEW)
    assert (len(dataset), dataset.classes, dataset.channels) == (3, ("class0", "class1", "class2"), 3)
    for place, number in enumerate((24, 2, 5)):
        sample = dataset[4, place]
        assert (sample.id, sample.label, sample.key) == (source.id(number), source.label(number), (4, place))
        assert torch.equal(sample.image, VIEW.apply(source.read(number)))
    for index in (-1, 3):
        with pytest.raises(IndexError):
            dataset[0, index]


@pytest.mark.parametrize("augment", [deit_augment(), small_augment()])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*worker processes in total:UserWarning")
def test_the_same_keys_give_the_same_bits_with_any_number_of_workers(augment: LabelledAugment, workers: int) -> None:
    dataset, collate = made(augment, seed=3), LabelledCollate(augment, 3, seed=3)
    expected = [collate([dataset[key] for key in keys]) for keys in KEYS]
    loader = DataLoader(dataset, batch_sampler=KEYS, collate_fn=collate, num_workers=workers)
    for batch, wanted in zip(loader, expected, strict=True):
        assert torch.equal(batch.image, wanted.image)
        assert torch.equal(batch.label, wanted.label)
        assert batch.ids == wanted.ids


def test_global_generators_are_left_alone() -> None:
    augment = deit_augment()
    dataset, collate = made(augment), LabelledCollate(augment, 3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[union-attr]
    collate([dataset[0, index] for index in range(4)])
    ClassificationItems(dataset.source, dataset.indices, VIEW)[0]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), states[2])


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_samples_do_not_depend_on_global_state(seed: int, epoch: int) -> None:
    dataset = made(small_augment(), seed=seed)
    drawn()
    first = dataset[epoch, 2]
    drawn()
    assert torch.equal(dataset[epoch, 2].image, first.image)


def test_seed_epoch_and_index_each_matter() -> None:
    dataset = made(deit_augment())
    image = dataset[0, 0].image
    assert not torch.equal(image, dataset[1, 0].image)
    assert not torch.equal(image, made(deit_augment(), seed=1)[0, 0].image)
    assert torch.equal(image, made(deit_augment())[0, 0].image)
    repeats = [dataset[3 * 10**6 + repeat, 0].image for repeat in range(3)]
    assert not torch.equal(repeats[0], repeats[1]), "repeated augmentation counts in the first number"


def test_grey_images_and_models_of_three_channels() -> None:
    grey = made(deit_augment(), mode="L")
    assert (grey.channels, grey[0, 0].image.shape) == (1, (1, 16, 16))
    wide = ClassificationDataset(grey.source, grey.indices, LabelledView((16, 16), channels=3), augment=deit_augment())
    assert (wide.channels, wide[0, 0].image.shape) == (3, (3, 16, 16))
    plain = ClassificationDataset(
        grey.source, grey.indices, LabelledView((16, 16), channels=3, mean=(0,) * 3, std=(1,) * 3)
    )
    assert torch.equal(plain[0, 0].image[0], plain[0, 0].image[2])


def samples(count: int, epoch: int = 0) -> list[LabelledSample]:
    """Constant images whose value is their label, so that a mixed image shows what was mixed."""
    return [LabelledSample(torch.full((1, 20, 20), float(i)), i, f"i{i}", (epoch, i)) for i in range(count)]


def test_without_mixing_labels_are_numbers() -> None:
    batch = LabelledCollate(small_augment(), 5)(samples(5))
    assert (batch.label.dtype, batch.label.tolist()) == (torch.int64, [0, 1, 2, 3, 4])
    assert batch.ids == ("i0", "i1", "i2", "i3", "i4")
    assert LabelledCollate(None, 5)(samples(3)).image[:, 0, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize(
    "kind", [{"cutmix": 0.0}, {"mixup": 0.0}, {"mixup": 0.0, "cutmix_minmax": (0.2, 0.8)}, {}], ids=str
)
def test_labels_are_mixed_as_the_pixels_are(mode: str, kind: dict[str, Any]) -> None:
    collate = LabelledCollate(LabelledAugment(mixing=Mixing(mode=mode, **kind)), 8)  # type: ignore[arg-type]
    own = []
    for epoch in range(12):
        batch = collate(samples(8, epoch))
        assert batch.label.dtype == torch.float32
        torch.testing.assert_close(batch.label.sum(1), torch.ones(8))
        for i in range(8):
            assert set(batch.label[i].nonzero().flatten().tolist()) <= {i, 7 - i}, "partners from the other end"
        mean = batch.image.mean((1, 2, 3))
        torch.testing.assert_close(mean, batch.label @ torch.arange(8.0))
        own += batch.label.diagonal().tolist()
    assert float(np.std(own)) > 0.05, "weights differ"


def test_mixing_depends_on_the_keys_of_the_batch() -> None:
    collate = LabelledCollate(LabelledAugment(mixing=Mixing()), 8, seed=1)
    first = collate(samples(8))
    assert torch.equal(collate(samples(8)).image, first.image)
    assert not torch.equal(collate(samples(8, epoch=1)).label, first.label)
    assert not torch.equal(LabelledCollate(LabelledAugment(mixing=Mixing()), 8, seed=2)(samples(8)).label, first.label)


def test_odd_batches_cannot_be_mixed() -> None:
    with pytest.raises(InputError, match="a batch of 3 images cannot be mixed in pairs; choose an even batch_size"):
        LabelledCollate(LabelledAugment(mixing=Mixing()), 8)(samples(3))


def test_inputs_of_a_batch_are_left_alone() -> None:
    given_samples = samples(4)
    LabelledCollate(LabelledAugment(mixing=Mixing()), 4)(given_samples)
    assert [float(sample.image.mean()) for sample in given_samples] == [0, 1, 2, 3]


def test_chunks_hold_all_images_in_order() -> None:
    source = memory_source({"train": LABELS, "test": [1, 0, 2, 1, 1]}, 3)
    chunks = ClassificationItems(source, source.indices("test"), VIEW, chunk=2)
    assert [len(chunk.ids) for chunk in chunks] == [2, 2, 1]
    assert torch.cat([chunk.label for chunk in chunks]).tolist() == [1, 0, 2, 1, 1]
    assert [name for chunk in chunks for name in chunk.ids] == [f"test/{number}" for number in range(5)]
    assert torch.equal(chunks[-1].image[0], VIEW.apply(source.read(28)))
    assert chunks[0].image.shape == (2, 3, 16, 16)
    for index in (3, -4):
        with pytest.raises(IndexError):
            chunks[index]
    with pytest.raises(InputError, match="chunk=0"):
        ClassificationItems(source, source.indices("test"), VIEW, chunk=0)


def test_no_images_and_wrong_seeds() -> None:
    source = memory_source({"train": LABELS}, 3)
    none = np.empty(0, np.int64)
    with pytest.raises(InputError, match="no images to train on"):
        ClassificationDataset(source, none, VIEW)
    with pytest.raises(InputError, match="no images to evaluate on"):
        ClassificationItems(source, none, VIEW)
    with pytest.raises(InputError, match="seed=-1"):
        ClassificationDataset(source, source.indices("train"), VIEW, seed=-1)


def test_a_copy_in_another_process_reads_the_same(pictures: Path) -> None:
    source = open_labelled("folder", pictures)
    dataset = ClassificationDataset(source, source.indices("train"), VIEW, augment=deit_augment(), seed=2)
    expected = dataset[5, 3]
    sent = pickle.dumps((dataset, ClassificationItems(source, source.indices("validation"), VIEW)))
    assert len(sent) < 10_000
    there, chunks = pickle.loads(sent)
    assert torch.equal(there[5, 3].image, expected.image)
    assert (there[5, 3].id, there[5, 3].label) == (expected.id, expected.label)
    assert chunks[0].label.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_file_damaged_since_is_named(pictures: Path, write_picture: Callable[..., Path]) -> None:
    source = open_labelled("folder", pictures)
    dataset = ClassificationDataset(source, source.indices("train"), VIEW, augment=deit_augment())
    path = pictures / source.id(4)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=f"{path.name} is not a readable picture"):
        dataset[0, 4]


@pytest.mark.data
def test_real_photos_through_the_whole_recipe(real_data: Path) -> None:
    source = open_labelled("folder", real_data / "trashnet-photos")
    dataset = ClassificationDataset(source, source.indices("train"), LabelledView((96, 96)), augment=deit_augment())
    batch = LabelledCollate(deit_augment(), 6)([dataset[0, index] for index in range(0, 180, 45)])
    assert batch.image.shape == (4, 3, 96, 96)
    assert batch.image.isfinite().all()
    assert batch.label.shape == (4, 6)
