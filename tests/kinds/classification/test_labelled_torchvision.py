from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.check import check_images
from fewpairs.kinds.classification.layouts.open import LabelledOptions, open_labelled
from fewpairs.kinds.classification.layouts.torchvision_sets import SETS
from fewpairs.kinds.classification.source import LabelledSource


def opened(root: Path, name: str | None, **options: bool) -> LabelledSource:
    return open_labelled("torchvision", root, LabelledOptions(name=name, **options))  # type: ignore[arg-type]


def test_a_set_of_arrays(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    write_idx(raw, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], packed=False)
    write_idx(raw, [3, 1], part="t10k", packed=False)
    source = opened(tmp_path, "FashionMNIST")
    assert source.classes[9] == "Ankle boot"
    assert source.labels.tolist() == [*range(10), 3, 1]
    assert (source.channels, source.read(0).mode, source.id(11)) == (1, "L", "test/1")


def test_a_set_of_folders(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    for name in ("Forest", "River"):
        for number in range(2):
            write_picture(tmp_path / "eurosat" / "2750" / name / f"{name}_{number}.jpg")
    source = opened(tmp_path, "EuroSAT")
    assert source.classes == ("Forest", "River")
    assert (list(source.parts), source.labels.tolist(), source.channels) == (["train"], [0, 0, 1, 1], 3)
    (tmp_path / "eurosat" / "2750" / "River" / "River_1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 4 images .*\n  train/3 is not a readable picture"):
        check_images(opened(tmp_path, "EuroSAT"), decode=True, progress=False)


def test_a_set_with_three_parts(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    for part in ("train", "valid", "test"):
        for name in ("AD", "AE"):
            write_picture(tmp_path / "country211" / part / name / "a.jpg")
    assert list(opened(tmp_path, "Country211").parts) == ["train", "validation", "test"]


@pytest.mark.parametrize("name", sorted(SETS))
def test_files_that_are_not_there_are_told_and_not_fetched(name: str, tmp_path: Path) -> None:
    assert hasattr(torchvision.datasets, name)
    with pytest.raises(InputError, match=f"the files of {name} are not whole .* with download=true"):
        opened(tmp_path, name)


@pytest.mark.parametrize("name", ["CIFAR11", None])
def test_unknown_names(name: str | None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no torchvision data set name=.*CIFAR10"):
        opened(tmp_path, name)


def test_damaged_files(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    raw = write_idx(tmp_path / "FashionMNIST" / "raw", [0, 1], packed=False)
    write_idx(raw, [0, 1], part="t10k", packed=False)
    (raw / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(DataError, match="torchvision cannot read FashionMNIST"):
        opened(tmp_path, "FashionMNIST")


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    with pytest.raises(InputError, match=r"could not download CIFAR10 .* get its files by another way"):
        opened(tmp_path, "CIFAR10", download=True)
    with pytest.raises(InputError, match="MNIST"):
        opened(tmp_path, "MNIST", download=True)
