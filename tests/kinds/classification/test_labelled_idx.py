from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from labelled_files import idx_bytes
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.layouts.idx import IdxArray
from fewpairs.kinds.classification.layouts.open import LabelledOptions, detect_labelled, open_labelled
from fewpairs.kinds.classification.source import LabelledSource

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=6)


def opened(root: Path, *, cache: Path | None = None, **options: object) -> LabelledSource:
    return open_labelled("idx", root, LabelledOptions(**options), cache=cache)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


@given(values=arrays.arrays(np.uint8, SHAPES), packed=st.booleans())
def test_values_come_back(values: np.ndarray, packed: bool, folder: Path) -> None:
    path = folder / ("x-ubyte.gz" if packed else "x-ubyte")
    path.write_bytes(gzip.compress(idx_bytes(values)) if packed else idx_bytes(values))
    read = IdxArray(path, values.ndim).values
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)


@given(st.data(), arrays.arrays(np.uint8, SHAPES))
def test_any_missing_or_added_byte_is_an_error(folder: Path, data: st.DataObject, values: np.ndarray) -> None:
    content = idx_bytes(values)
    cut = data.draw(st.integers(0, len(content) - 1))
    for damaged in (content[:cut], content + bytes(cut % 9 + 1)):
        for name, stored in (("x-ubyte", damaged), ("x-ubyte.gz", gzip.compress(damaged))):
            (folder / name).write_bytes(stored)
            with pytest.raises(DataError, match=f"{name} "):
                IdxArray(folder / name, values.ndim)


@given(st.data(), arrays.arrays(np.uint8, SHAPES))
def test_a_truncated_packed_file_is_an_error(folder: Path, data: st.DataObject, values: np.ndarray) -> None:
    content = gzip.compress(idx_bytes(values))
    path = folder / "y-ubyte.gz"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match=r"y-ubyte\.gz "):
        IdxArray(path, values.ndim)


@given(st.binary(min_size=0, max_size=40), st.sampled_from([1, 3]))
def test_any_bytes_are_an_array_of_that_size_or_an_error(folder: Path, content: bytes, dimensions: int) -> None:
    path = folder / "z-ubyte"
    path.write_bytes(content)
    try:
        values = IdxArray(path, dimensions).values
    except DataError:
        return
    assert content == idx_bytes(np.asarray(values))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no whole IDX file: it begins with nothing and has 0 bytes"),
        (b"PK\x03\x04", "it begins with 50 4b 03 04"),
        (struct.pack(">BBBBI", 0, 0, 0x0D, 1, 2) + bytes(8), "IDX type 0x0d"),
        (struct.pack(">BBBBI", 0, 0, 0x09, 1, 2) + bytes(2), "IDX type 0x09"),
        (struct.pack(">BBBBII", 0, 0, 8, 2, 2, 2) + bytes(4), "has 2 dimensions; labels have 1"),
        (b"\0\0\x08\x01\0", "is no whole IDX file"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 0), "has 8 bytes; it is empty"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes(2), "begins with 00 00 08 01 and has 10 bytes; .* truncated"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes(4), "goes on after its end"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 2**32 - 1), "truncated.*its header claims 4294967303"),
        (struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**31, 4), f"header claims {2**64 + 16}"),  # 0 in 64 bits
    ],
)
def test_messages(content: bytes, message: str, tmp_path: Path) -> None:
    for name, stored in (("x-ubyte", content), ("x-ubyte.gz", gzip.compress(content))):
        if content or name == "x-ubyte":
            (tmp_path / name).write_bytes(stored)
            with pytest.raises(DataError, match=message):
                IdxArray(tmp_path / name, 1)


@given(values=arrays.arrays(np.uint8, SHAPES))
def test_values_are_those_of_torchvision(values: np.ndarray, folder: Path) -> None:
    path = folder / "t-ubyte"
    path.write_bytes(idx_bytes(values))
    wanted = read_sn3_pascalvincent_tensor(str(path))
    np.testing.assert_array_equal(IdxArray(path, values.ndim).values, wanted)


def test_a_packed_file_is_unpacked_as_far_as_its_header_claims(tmp_path: Path) -> None:
    path = tmp_path / "x-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 92) + bytes(2**24)))
    with pytest.raises(DataError, match=r"has more than 100 bytes; .*its header claims 100"):
        IdxArray(path, 1, tmp_path / "cache")
    assert [file for file in (tmp_path / "cache").iterdir() if file.stat().st_size] == []


@pytest.mark.parametrize("packed", [False, True])
def test_parts_and_images(tmp_path: Path, write_idx: Callable[..., Path], packed: bool) -> None:
    write_idx(tmp_path, [0, 2, 1, 1, 2], packed=packed)
    source = opened(write_idx(tmp_path, [2, 0], part="t10k", packed=packed))
    assert (source.classes, source.channels, list(source.parts)) == (("0", "1", "2"), 1, ["train", "test"])
    assert source.labels.tolist() == [0, 2, 1, 1, 2, 2, 0]
    assert [source.id(index) for index in (0, 5)] == ["train/0", "test/0"]
    image = source.read(6)
    assert (image.mode, image.size) == ("L", (5, 7))
    np.testing.assert_array_equal(np.asarray(image), source.parts["test"].images.values[1])  # type: ignore[attr-defined]
    assert detect_labelled(tmp_path) == "idx"


def test_names_of_the_classes(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    write_idx(tmp_path, [1, 2, 1])
    assert opened(tmp_path).classes == ("1", "2"), "labels that do not occur are no classes"
    assert opened(tmp_path).labels.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="images of the labels 2, but classes for 0, 1 alone"):
        opened(tmp_path, classes=("shirt", "bag"))
    with pytest.raises(DataError, match="no training image of shirt"):
        opened(tmp_path, classes=("shirt", "bag", "coat"))
    write_idx(tmp_path, [0, 2, 1])
    assert opened(tmp_path, classes=("shirt", "bag", "coat")).classes == ("shirt", "bag", "coat")


def test_one_of_several_sets(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    write_idx(tmp_path, [0, 1], prefix="emnist-letters-")
    write_idx(tmp_path, [0, 1, 2], prefix="emnist-digits-")
    with pytest.raises(InputError, match="several data sets: emnist-digits, emnist-letters; choose one with name="):
        opened(tmp_path)
    assert len(opened(tmp_path, name="emnist-digits")) == 3
    with pytest.raises(InputError, match="no IDX files that begin with 'emnist'"):
        opened(tmp_path, name="emnist")
    assert detect_labelled(tmp_path) == "idx"


def test_the_unpacked_file_is_preferred(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    write_idx(tmp_path, [0, 1, 1])
    write_idx(tmp_path, [0, 1], packed=False)
    assert len(opened(tmp_path)) == 2


def test_missing_and_contradicting_files(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="holds no IDX files"):
        opened(tmp_path)
    write_idx(tmp_path, [0, 1, 1], packed=False)
    (tmp_path / LABELS).write_bytes(idx_bytes(np.array([0, 1])))
    with pytest.raises(DataError, match=r"holds 3 images, but .*labels-idx1-ubyte 2 labels"):
        opened(tmp_path)
    (tmp_path / LABELS).unlink()
    with pytest.raises(InputError, match="has no train-labels-idx file"):
        opened(tmp_path)


def test_pixels_do_not_travel(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    cache = tmp_path / "cache"
    write_idx(tmp_path / "packed", [0, 1] * 500)
    write_idx(tmp_path / "plain", [0, 1] * 500, packed=False)
    for root, folder in ((tmp_path / "packed", None), (tmp_path / "packed", cache), (tmp_path / "plain", None)):
        source = opened(root, cache=folder)
        sent = pickle.dumps(source)
        assert len(sent) < 20_000, "labels travel, 35,000 pixels do not"
        np.testing.assert_array_equal(np.asarray(pickle.loads(sent).read(999)), np.asarray(source.read(999)))


def test_unpacked_files_are_kept_and_mapped(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    source = opened(write_idx(root, [0, 1, 1]), cache=cache)
    assert isinstance(source.parts["train"].images.values, np.memmap)  # type: ignore[attr-defined]
    kept = sorted(cache.iterdir())
    assert len(kept) == 2
    dates = [path.stat().st_mtime_ns for path in kept]
    opened(root, cache=cache)
    assert [path.stat().st_mtime_ns for path in sorted(cache.iterdir())] == dates, "not written again"
    changed = opened(write_idx(root, [0, 1, 0, 1]), cache=cache)
    assert len(changed) == 4


@pytest.mark.data
def test_fashion_mnist(real_data: Path) -> None:
    source = opened(real_data / "fashion-mnist")
    assert set(source.counts("train").values()) == {6000}
    assert set(source.counts("test").values()) == {1000}
    assert source.read(0).size == (28, 28)
    assert source.labels[:5].tolist() == [9, 0, 0, 3, 0], "ankle boot, T-shirt, T-shirt, dress, T-shirt"
