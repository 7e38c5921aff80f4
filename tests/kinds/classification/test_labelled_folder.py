from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.layouts.open import LabelledOptions, detect_labelled, open_labelled
from fewpairs.kinds.classification.source import LabelledSource


def opened(root: Path, **options: str) -> LabelledSource:
    return open_labelled("folder", root, LabelledOptions(**options))  # type: ignore[arg-type]


def test_parts_classes_and_images(pictures: Path) -> None:
    source = opened(pictures)
    assert source.classes == ("ant", "bee", "cat")
    assert source.counts("train") == {"ant": 6, "bee": 5, "cat": 4}
    assert source.counts("validation") == {"ant": 2, "bee": 2, "cat": 2}
    assert (len(source), source.channels, source.notes) == (21, 3, ())
    ids = [source.id(index) for index in range(len(source))]
    assert ids[:6] == [f"train/ant/{name}" for name in ("more/train1.JPEG", *(f"train{n}.{s}" for n, s in NAMES))]
    assert len(set(ids)) == len(ids)
    for index in source.indices("validation"):
        assert source.id(index).split("/")[:2] == ["val", source.classes[source.label(index)]]
        assert source.file(index) == pictures / source.id(index)
        with Image.open(pictures / source.id(index)) as image:
            np.testing.assert_array_equal(np.asarray(source.read(index)), np.asarray(image))


NAMES = [(0, "png"), (2, "png"), (3, "JPEG"), (4, "png"), (5, "JPEG")]


@pytest.mark.parametrize(("names", "parts"), [("valid test", "validation test"), ("validation", "validation")])
def test_other_names_of_the_parts(pictures: Path, names: str, parts: str) -> None:
    for name in names.split():
        if not (pictures / "val").is_dir():
            (pictures / name / "bee").mkdir(parents=True)
            os.link(pictures / "train/bee/train0.png", pictures / name / "bee" / "x.png")
        else:
            (pictures / "val").rename(pictures / name)
    assert list(opened(pictures).parts) == ["train", *parts.split()]


@pytest.mark.parametrize(
    ("train", "held", "part"),
    [
        ("Training", "Testing", "test"),
        ("Train", "Val", "validation"),
        ("training_set", "test_set", "test"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("images/train", "images/valid", "validation"),
        ("archive/data/TRAIN", "archive/data/dev", "validation"),
    ],
)
def test_folders_that_say_their_part_in_other_words(pictures: Path, train: str, held: str, part: str) -> None:
    root = pictures.parent / "other"
    for old, new in (("train", train), ("val", held)):
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (pictures / old).rename(root / new)
    assert detect_labelled(root) == "folder"
    source = opened(root)
    assert source.classes == ("ant", "bee", "cat")
    assert {name: len(source.indices(name)) for name in source.parts} == {"train": 15, part: 6}
    assert (source.notes, source.id(15).rpartition("/")[0]) == ((), f"{held}/ant/more" if part else "")


def test_folders_of_images_named_after_parts_are_no_classes(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    for name in ("train", "Test", "valid"):
        write_picture(tmp_path / "flat" / name / "a.jpg")
    with pytest.raises(DataError, match=r"the folders Test, train, valid|train, valid, Test hold images in no class"):
        opened(tmp_path / "flat")
    for name in ("cat", "dog", "test"):
        write_picture(tmp_path / "beside" / name / "a.jpg")
    with pytest.raises(DataError, match=r"the folder test holds images in no class folder .* say train=\."):
        opened(tmp_path / "beside")
    assert opened(tmp_path / "beside", train=".").classes == ("cat", "dog", "test")


def test_two_folders_of_one_part_are_refused(pictures: Path) -> None:
    (pictures / "Training" / "ant").mkdir(parents=True)
    with pytest.raises(InputError, match="several folders for train: Training, train; name one with train="):
        opened(pictures)
    assert len(opened(pictures, train="train").indices("train")) == 15


def test_folders_of_no_part_are_named(pictures: Path, write_picture: Callable[..., Path]) -> None:
    write_picture(pictures / "seg_pred" / "a.jpg")
    assert opened(pictures).notes == ("left out folders that are no part: seg_pred",)


def test_one_folder_without_parts(pictures: Path) -> None:
    source = opened(pictures / "train")
    assert list(source.parts) == ["train"]
    assert source.id(0) == "ant/more/train1.JPEG"
    with pytest.raises(InputError, match="no part 'validation'; known: train"):
        source.indices("validation")


def test_named_folders(pictures: Path) -> None:
    (pictures / "train").rename(pictures / "fit")
    with pytest.raises(DataError, match=r"has val but no training folder .* name it with train="):
        opened(pictures)
    assert opened(pictures, train="fit").counts("train")["ant"] == 6
    (pictures / "fit").rename(pictures / "train")
    (pictures / "val").rename(pictures / "held")
    assert list(opened(pictures, validation="held").parts) == ["train", "validation"]
    with pytest.raises(InputError, match="validation='gone'"):
        opened(pictures, validation="gone")


def test_class_folders_beside_the_validation_folder(pictures: Path) -> None:
    for name in ("ant", "bee", "cat"):
        (pictures / "train" / name).rename(pictures / name)
    (pictures / "train").rmdir()
    source = opened(pictures, train=".", validation="val")
    assert source.classes == ("ant", "bee", "cat")
    assert len(source.indices("train")) == 15


def test_a_class_may_be_called_train(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    for name in ("bus", "test", "train"):
        write_picture(tmp_path / name / "a.png")
    source = opened(tmp_path)
    assert source.classes == ("bus", "test", "train")
    assert source.notes == ()
    assert detect_labelled(tmp_path) == "folder"


def test_grey_files_have_one_channel(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        for number in range(3):
            write_picture(tmp_path / name / f"{number}.png", mode="L")
    assert opened(tmp_path).channels == 1
    (tmp_path / "a" / "0.png").write_bytes(b"")
    assert opened(tmp_path).channels == 1
    write_picture(tmp_path / "b" / "colour.png")
    source = opened(tmp_path)
    assert source.channels == 3
    assert source.read(1).mode == "L", "read as stored; the view converts"


def test_what_is_left_out_is_told(pictures: Path) -> None:
    (pictures / "train" / "ant" / "notes.txt").write_text("x")
    (pictures / "train" / "ant" / ".hidden.png").write_bytes(b"")
    (pictures / "train" / "ant" / "photo.HEIC").write_bytes(b"")
    (pictures / "train" / ".cache").mkdir()
    (pictures / "train" / "__MACOSX").mkdir()
    (pictures / "test").mkdir()
    (pictures / "test" / "1.jpg").write_bytes(b"")
    source = opened(pictures)
    assert source.counts("train")["ant"] == 6
    assert source.notes[0] == f"{pictures / 'test'} has no class folders and is left out"
    assert sorted(source.notes[1].split(": ")[1].split(", ")) == ["1 x .heic (photo.HEIC)", "1 x .txt (notes.txt)"]


def test_all_empty_class_folders_at_once(pictures: Path) -> None:
    (pictures / "train" / "dog").mkdir()
    (pictures / "train" / "elk" / "deep").mkdir(parents=True)
    (pictures / "train" / "elk" / "deep" / "1.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"train/dog, .*train/elk \(it has 1 x \.heic\); images end in \.jpg"):
        opened(pictures)


def test_classes_that_training_lacks(pictures: Path) -> None:
    for name in ("dog", "elk"):
        (pictures / "val" / name).mkdir()
    with pytest.raises(DataError, match=r"without training images: dog, elk; training has ant, bee, cat"):
        opened(pictures)


def test_images_in_no_class_folder(pictures: Path) -> None:
    (pictures / "train" / "ant" / "train0.png").rename(pictures / "train" / "lost.png")
    with pytest.raises(DataError, match=r"1 images that are in no class folder: lost\.png"):
        opened(pictures)


def test_a_single_class(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    write_picture(tmp_path / "cat" / "a.png")
    with pytest.raises(DataError, match=r"has 1 class \(cat\); classification needs at least two"):
        opened(tmp_path)


def test_no_class_folders_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no class folders; expected"):
        opened(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        opened(tmp_path / "missing")


def test_links_are_followed_and_circles_left(pictures: Path) -> None:
    os.symlink(pictures / "train" / "ant", pictures / "train" / "ant" / "more" / "circle")
    os.symlink(pictures / "val" / "cat", pictures / "train" / "dog")
    source = opened(pictures)
    assert source.counts("train") == {"ant": 6, "bee": 5, "cat": 4, "dog": 2}


def test_names_that_are_no_unicode(pictures: Path) -> None:
    os.rename(
        os.fsencode(pictures / "val/cat/val0.png"),
        os.fsencode(pictures / "val/cat") + b"/\xff.png",
    )
    source = opened(pictures)
    assert source.read(len(source) - 1).size == (16, 12)


def test_a_source_travels(pictures: Path) -> None:
    source = opened(pictures)
    there = pickle.loads(pickle.dumps(source))
    assert [there.id(index) for index in range(21)] == [source.id(index) for index in range(21)]
    np.testing.assert_array_equal(np.asarray(there.read(4)), np.asarray(source.read(4)))
    for index in (-1, 21):
        with pytest.raises(IndexError):
            source.read(index)


def test_options_of_other_layouts_and_unknown_layouts(pictures: Path) -> None:
    with pytest.raises(InputError, match="name: no option of the layout 'folder', which has test, train, validation"):
        opened(pictures, name="CIFAR10")
    with pytest.raises(InputError, match=r"kind='folders'; did you mean 'folder'\?"):
        open_labelled("folders", pictures)


@pytest.mark.data
def test_trashnet(real_data: Path) -> None:
    source = opened(real_data / "trashnet-photos")
    assert source.classes == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert set(source.counts("train").values()) == {30}
    assert set(source.counts("test").values()) == {10}
    assert (source.channels, source.read(0).size, list(source.parts)) == (3, (384, 512), ["train", "test"])
