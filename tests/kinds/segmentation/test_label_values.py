"""Label values of classes: from settings and dataset.json to bit masks, voxels that are ignored, values of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_files import save_picture, save_volume

from fewpairs.cli.data import source_options
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.dataset import SegmentationDataset, SegmentationItems, collate_segmentation
from fewpairs.kinds.segmentation.label_values import LabelValues, ignored_voxels
from fewpairs.kinds.segmentation.layouts.dataset_json import read_labels
from fewpairs.kinds.segmentation.layouts.folder import ImageFolder
from fewpairs.kinds.segmentation.layouts.nifti import msd
from fewpairs.kinds.segmentation.layouts.open import SourceOptions, open_source
from fewpairs.kinds.segmentation.losses import LOSSES, SegmentationLoss
from fewpairs.kinds.segmentation.overview import overview
from fewpairs.kinds.segmentation.preparation import prepare
from fewpairs.kinds.segmentation.record import segmentation_record
from fewpairs.kinds.segmentation.store import Store
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import SegmentationView

FORMS = [
    {"0": "background", "1": "a", "2": "b"},
    {"background": 0, "a": 1, "b": 2},
    {"background": 0, "a": 1.0, "b": "2"},
    {"0.0": "background", "1.0": "a", "2.0": "b"},
    {"0": ["background"], "1": ["a"], "2": "b"},
    {"background": [0], "a": [1], "b": [2]},
]


@pytest.mark.parametrize("labels", FORMS, ids=json.dumps)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
def test_a_table_may_write_its_numbers_in_many_ways(tmp_path: Path, labels: object, mark: bytes) -> None:
    table = tmp_path / "dataset.json"
    table.write_bytes(mark + json.dumps({"labels": labels}).encode())
    assert read_labels(table) == {"a": [1], "b": [2]}


def test_regions_and_repeated_names_have_several_values(tmp_path: Path) -> None:
    table = tmp_path / "dataset.json"
    table.write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}}))
    assert LabelValues.of(read_labels(table)) == LabelValues(("whole", "core"), ((1, 2), (2,)), (3,))
    table.write_text(json.dumps({"labels": {"0": "background", "1": "organ", "2": "organ", "-1": "Ignore"}}))
    assert LabelValues.of(read_labels(table)) == LabelValues(("organ",), ((1, 2),), (-1,))


@pytest.mark.parametrize(
    "labels", [{"a": [[1]]}, {"a": 1.5}, {"a": True}, {"a": None}, {"1": 2}, {"1": ["a", "b"]}, {"a": []}, {"a": "x"}]
)
def test_an_entry_that_is_no_label_is_named(tmp_path: Path, labels: dict[str, object]) -> None:
    table = tmp_path / "dataset.json"
    table.write_text(json.dumps({"labels": labels}))
    with pytest.raises(DataError, match="is neither a number with one name nor a name"):
        read_labels(table)


@given(
    st.dictionaries(
        st.text("abc", min_size=1), st.lists(st.integers(-9, 99).filter(bool), min_size=1, unique=True), min_size=1
    )
)
def test_any_mapping_of_names_to_numbers_gives_the_masks_of_numpy(labels: dict[str, list[int]]) -> None:
    found = LabelValues.of(labels)
    numbers = np.arange(-10, 101).reshape(1, 1, -1)
    masks = unpack(found.mask(numbers, "it", None), len(labels))
    for place, values in enumerate(labels.values()):
        np.testing.assert_array_equal(masks[:, place], np.isin(numbers, values))


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"a": 1, "ignore": 1}, "share a label value"),
        ({"ignore": 1}, "give at least one name"),
        ({"a": 0}, "whole numbers other than 0"),
        ({"a": [1, 1]}, "whole numbers other than 0"),
        ({"a": "1"}, "whole numbers other than 0"),
    ],
)
def test_impossible_values_are_refused(given_: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelValues.of(given_)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Two scans in nnU-Net's layout: label 2 is ignored in half of slice 0 and in all of slice 1; slice 2 is known."""
    rng = np.random.default_rng(0)
    root = tmp_path / "sparse"
    for name in ("one", "two"):
        labels = rng.integers(0, 2, (8, 6, 3)).astype(np.uint8)
        labels[:4, :, 0], labels[:, :, 1] = 2, 2
        save_volume(root / "imagesTr" / f"{name}.nii.gz", rng.normal(size=labels.shape).astype(np.float32))
        save_volume(root / "labelsTr" / f"{name}.nii.gz", labels)
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "ignore": 2}}))
    return root


@pytest.fixture
def sparse_store(sparse: Path, tmp_path: Path) -> Store:
    return prepare(msd(sparse), tmp_path / "cache", progress=False)


def test_the_store_keeps_ignored_voxels_apart_from_classes(sparse: Path, sparse_store: Store) -> None:
    assert sparse_store.classes == ("organ",)
    assert sparse_store.values == ((1,),)
    assert sparse_store.ignores
    scan = sparse_store.scans[0]
    assert sorted(scan.ignored) == [0, 24, 48]
    ignored = ignored_voxels(np.asarray(sparse_store.mask(0)), 1)
    assert tuple(ignored.sum(axis=(1, 2)).tolist()) == scan.ignored
    assert scan.voxels == (int(unpack(np.asarray(sparse_store.mask(0)), 1).sum()),)
    assert scan.empty[scan.ignored.index(48)]
    shown = overview("msd", sparse, SourceOptions(), decode=False, progress=False)
    assert shown.facts["ignored"] == "144 (50.0%) voxels"
    assert shown.content["ignored_voxels"] == 144
    assert list(shown.classes) == ["organ"]


def test_slices_without_a_known_voxel_are_not_trained_on(sparse_store: Store) -> None:
    data = SegmentationDataset(sparse_store, sparse_store.cases, SegmentationView(size=(8, 8), fit="pad"))
    assert len(data) == 4
    masks = [data[0, index].mask for index in range(4)]
    assert sorted(int((mask == -1).sum()) for mask in masks) == [0, 0, 24, 24]
    items = SegmentationItems(sparse_store, sparse_store.cases, SegmentationView(size=(8, 8), fit="pad"))
    assert items[0].ignored is not None
    assert int(items[0].ignored.sum()) == 72
    assert not (items[0].mask[:, 0] & items[0].ignored).any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_loss_of_ignored_pixels_is_that_of_the_pixels_around_them(name: str, exclusive: bool) -> None:
    """Independent value: the same loss of pictures from which the ignored columns are cut off."""
    if ("ce" if not exclusive else "bce") in LOSSES[name]:
        pytest.skip("not for such classes")
    loss = SegmentationLoss(name, exclusive=exclusive)
    logits = torch.randn(3, 3, 6, 8, requires_grad=True)
    target = (torch.rand(3, 3, 6, 8) > 0.6).float()
    if exclusive:
        target = torch.nn.functional.one_hot(torch.randint(0, 3, (3, 6, 8)), 3).movedim(-1, 1).float()
    known = torch.ones(3, 1, 6, 8)
    known[..., 5:] = 0
    found = loss(logits, target, known)
    cut = loss(logits[..., :5], target[..., :5])
    assert found.keys() == cut.keys()
    for term, value in cut.items():
        torch.testing.assert_close(found[term], value)
    gradient = torch.autograd.grad(sum(found.values()), logits)[0]  # type: ignore[arg-type]  # a sum of tensors
    assert gradient[..., 5:].abs().max() == 0
    assert gradient[..., :5].abs().max() > 0


def test_the_task_trains_on_known_pixels_alone(sparse_store: Store) -> None:
    data = SegmentationDataset(sparse_store, sparse_store.cases, SegmentationView(size=(8, 8), fit="pad"))
    batch = collate_segmentation([data[0, index] for index in range(len(data))])
    logits = torch.randn(4, 1, 8, 8)
    task = Segmentation(("organ",), loss="bce", ignores=True)
    known = batch.mask >= 0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], batch.mask[known])
    torch.testing.assert_close(task.loss(logits, batch)["bce"], expected)
    nothing = collate_segmentation([data[0, 0]])
    nothing.mask.fill_(-1)
    assert task.loss(logits[:1], nothing)["bce"] == 0


def test_ignored_voxels_are_in_no_count() -> None:
    """Independent value: the record of the scan from which the ignored columns are cut off, and NumPy's counts."""
    rng = np.random.default_rng(1)
    prediction, truth = rng.random((2, 4, 2, 9, 10)) > 0.5
    ignored = np.zeros((4, 9, 10), bool)
    ignored[..., 7:] = True
    found = segmentation_record(prediction, truth, (2, 1, 1), scan="s", case="c", ignored=ignored)
    cut = segmentation_record(prediction[..., :7], truth[..., :7], (2, 1, 1), scan="s", case="c")
    for name in ("true_positive", "false_positive", "false_negative", "true_negative", "background", "slice_dice"):
        assert getattr(found, name) == getattr(cut, name), name
    assert found.hd95_mm == cut.hd95_mm
    assert found.true_positive == tuple((prediction & truth & ~ignored[:, None]).sum(axis=(0, 2, 3)).tolist())


def test_pictures_have_values_of_their_own(tmp_path: Path) -> None:
    labels = np.zeros((4, 6), np.uint8)
    labels[0], labels[1], labels[2] = 85, 170, 255
    save_picture(tmp_path / "images" / "x.png", np.arange(24, dtype=np.uint8).reshape(4, 6))
    save_picture(tmp_path / "masks" / "x.png", labels)
    options = source_options("segmentation", ["classes=a=85, b=170, ignore=255"])
    assert options.classes == {"a": 85, "b": 170, "ignore": 255}
    source = open_source("folder", tmp_path, options)
    assert source.classes == ("a", "b")
    assert source.values == ((85,), (170,))
    packed = source.read(source.scans()[0])[1]
    np.testing.assert_array_equal(unpack(packed, 2)[0], [labels == 85, labels == 170])
    np.testing.assert_array_equal(ignored_voxels(packed, 2)[0], labels == 255)
    assert source_options("segmentation", ["classes=a,b"]).classes == ("a", "b")
    assert source_options("segmentation", ["classes={whole: [1, 2]}"]).classes == {"whole": (1, 2)}


def test_a_value_without_a_class_names_the_remedy(tmp_path: Path) -> None:
    save_picture(tmp_path / "images" / "x.png", np.zeros((4, 6), np.uint8))
    save_picture(tmp_path / "masks" / "x.png", np.full((4, 6), 85, np.uint8))
    source = ImageFolder(tmp_path / "images", tmp_path / "masks", classes=("a", "b"))
    message = r"label 85 outside the classes \(background=0, a=1, b=2\); name them with their values \(classes=a=85"
    with pytest.raises(DataError, match=message):
        source.read(source.scans()[0])


def test_classes_without_a_voxel_and_scans_without_a_class_are_said(tmp_path: Path) -> None:
    for name, value in (("x", 1), ("y", 0), ("z", 0)):
        save_picture(tmp_path / "images" / f"{name}.png", np.full((4, 6), ord(name), np.uint8))
        save_picture(tmp_path / "masks" / f"{name}.png", np.full((4, 6), value, np.uint8))
    shown = overview("folder", tmp_path, SourceOptions(classes=("a", "b")), decode=False, progress=False)
    assert shown.notes == (
        "no scan holds a voxel of b; is its label value right?",
        "2 of 3 scans hold no class: y, z",
    )
