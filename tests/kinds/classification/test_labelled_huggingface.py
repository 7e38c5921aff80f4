from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.check import check_images
from fewpairs.kinds.classification.layouts.open import LabelledOptions, detect_labelled, open_labelled
from fewpairs.kinds.classification.source import LabelledSource

datasets: Any = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def opened(root: Path | str, **options: str) -> LabelledSource:
    return open_labelled("huggingface", root, LabelledOptions(**options))  # type: ignore[arg-type]


def rows(labels: list[Any], mode: str = "RGB") -> dict[str, list[Any]]:
    rng = np.random.default_rng(len(labels))
    pixels = rng.integers(0, 256, (len(labels), 6, 9, 3), np.uint8)
    return {"image": [Image.fromarray(image).convert(mode) for image in pixels], "label": labels}


def split(labels: list[Any], names: list[str] | None = None, mode: str = "RGB") -> Any:
    label = (
        datasets.ClassLabel(names=names) if names else datasets.Value("int64" if type(labels[0]) is int else "string")
    )
    return datasets.Dataset.from_dict(
        rows(labels, mode), datasets.Features({"image": datasets.Image(), "label": label})
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    root = tmp_path / "saved"
    parts = {"train": split([0, 1, 1], ["cat", "dog"]), "test": split([1, 0], ["cat", "dog"])}
    datasets.DatasetDict(parts).save_to_disk(root)
    return root


def test_a_saved_folder(saved: Path) -> None:
    source = opened(saved)
    assert (source.classes, source.channels, list(source.parts)) == (("cat", "dog"), 3, ["train", "test"])
    assert source.labels.tolist() == [0, 1, 1, 1, 0]
    assert [source.id(index) for index in (2, 3)] == ["train/2", "test/0"]
    np.testing.assert_array_equal(np.asarray(source.read(2)), np.asarray(rows([0, 1, 1])["image"][2]))
    assert detect_labelled(saved) == "huggingface"
    assert pickle.loads(pickle.dumps(source)).read(4).size == (9, 6)
    check_images(source, decode=True, progress=False)


def test_splits_and_columns_by_name(tmp_path: Path) -> None:
    names = ["cat", "dog"]
    parts = {"fit": split([0, 1], names), "hold": split([1], names), "validation": split([0], names)}
    both = datasets.DatasetDict(parts).rename_columns({"image": "photo", "label": "kind"})
    both.save_to_disk(tmp_path)
    with pytest.raises(InputError, match="no split for training; name it with train=; known: fit, hold, validation"):
        opened(tmp_path)
    source = opened(tmp_path, train="fit", test="hold", image_column="photo")
    assert list(source.parts) == ["train", "validation", "test"]
    with pytest.raises(InputError, match=r"no split train='fitt'; did you mean 'fit'\?"):
        opened(tmp_path, train="fitt")
    with pytest.raises(InputError, match=r"no column label_column='kin'; did you mean 'kind'\?"):
        opened(tmp_path, train="fit", label_column="kin")


def test_labels_without_names(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": split([10, 9, 10])}).save_to_disk(tmp_path / "numbers")
    source = opened(tmp_path / "numbers")
    assert (source.classes, source.labels.tolist()) == (("9", "10"), [1, 0, 1])
    datasets.DatasetDict({"train": split(["b", "a"]), "test": split(["c"])}).save_to_disk(tmp_path / "texts")
    with pytest.raises(DataError, match="the test split has classes without training images: c"):
        opened(tmp_path / "texts")


def test_a_test_split_without_labels_is_left_out(tmp_path: Path) -> None:
    parts = {"train": split([0, 1], ["a", "b"], mode="L"), "test": split([-1, -1], ["a", "b"])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path)
    source = opened(tmp_path)
    assert (list(source.parts), source.channels) == (["train"], 1)
    assert source.notes == ("the test split has no labels (all are -1) and is left out",)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    table = split([0, 1], ["a", "b"])
    table.remove_columns("image").save_to_disk(tmp_path / "blind")
    with pytest.raises(InputError, match="no column of the type Image; say which holds the image, image_column="):
        opened(tmp_path / "blind")
    table.rename_column("label", "x").add_column("y", [0, 1]).save_to_disk(tmp_path / "one")
    assert opened(tmp_path / "one").classes == ("a", "b")
    two = table.rename_column("label", "x")
    two = two.add_column("z", [1, 1]).cast_column("z", datasets.ClassLabel(names=["p", "q"]))
    two.save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match=r"several columns of the type ClassLabel; .* known: image, x, z"):
        opened(tmp_path / "two")
    table.rename_column("label", "x").cast_column("x", datasets.Value("float32")).save_to_disk(tmp_path / "float")
    with pytest.raises(DataError, match=r"holds 0\.0; labels are whole numbers or names"):
        opened(tmp_path / "float", label_column="x")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    stored = {"image": [{"bytes": b"no picture", "path": None}, {"bytes": b"", "path": "b.png"}], "label": [0, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict(stored, features).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=r"2 of 2 images .*\n  train/0 is not .*\n  train/1 \(b.png\) is empty"):
        check_images(opened(tmp_path), decode=True, progress=False)


def test_a_folder_of_pictures(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            write_picture(tmp_path / "plain" / part / name / "a.png")
    source = opened(tmp_path / "plain")
    assert (source.classes, list(source.parts), len(source)) == (("cat", "dog"), ["train", "test"], 4)


def test_the_hub_out_of_reach() -> None:
    with pytest.raises(
        InputError, match=r"'nobody/nothing' is no folder here, and could not be fetched .* kind=folder"
    ):
        opened("nobody/nothing")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as a Hugging Face data set"):
        opened(tmp_path)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="the package `datasets` is not installed; get it with: pip install datasets"):
        opened("uoft-cs/cifar10")
