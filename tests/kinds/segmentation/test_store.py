from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.preparation import prepare
from fewpairs.kinds.segmentation.store import INDEX, Store


def test_it_holds_what_the_files_hold(store: Store, phantom_once: Path) -> None:
    source = UWMadison(phantom_once)
    scans = source.scans()
    assert [scan.id for scan in store.scans] == [scan.id for scan in scans]
    assert store.slices == 6 * 2 * 8
    for index, scan in enumerate(scans):
        image, mask = source.read(scan)
        stored = store.scans[index]
        np.testing.assert_array_equal(store.image(index), image)
        np.testing.assert_array_equal(store.mask(index), mask)
        assert store.image(index).dtype == image.dtype
        assert stored.spacing == scan.spacing
        assert stored.slice_ids == scan.slice_ids
        assert stored.empty == tuple(not labelled.any() for labelled in mask)
        assert stored.voxels == tuple(int(((mask >> j) & 1).sum()) for j in range(3))


def test_pixels_cannot_be_changed(store: Store) -> None:
    with pytest.raises(ValueError, match="read-only"):
        store.image(0)[0] = 0


def test_a_pickle_holds_no_pixels_and_reads_the_same(store: Store) -> None:
    before = store.image(1).copy()
    packed = pickle.dumps(store)
    assert len(packed) < 20_000 < before.nbytes * len(store.scans)
    again = pickle.loads(packed)
    np.testing.assert_array_equal(again.image(1), before)
    assert again.scans == store.scans


def test_cases(store: Store) -> None:
    case = store.cases[2]
    assert [store.scans[index].case for index in store.of_cases([case])] == [case, case]
    with pytest.raises(InputError, match="no case 'case0'"):
        store.of_cases(["case0"])
    with pytest.raises(InputError, match="no cases"):
        store.of_cases([])


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared store"):
        Store(tmp_path)


@pytest.mark.parametrize("name", ["images.bin", "masks.bin"])
def test_truncation_is_seen_when_it_is_opened(phantom_once: Path, tmp_path: Path, name: str) -> None:
    made = prepare(UWMadison(phantom_once), tmp_path, progress=False)
    with (made.path / name).open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=f"{name} has 1000 bytes instead of"):
        Store(made.path)
    (made.path / name).unlink()
    with pytest.raises(DataError, match=f"{name} has None bytes"):
        Store(made.path)


def test_damaged_pixels_are_found_by_verify(phantom_once: Path, tmp_path: Path) -> None:
    made = prepare(UWMadison(phantom_once), tmp_path, progress=False)
    made.verify()
    with (made.path / "masks.bin").open("r+b") as file:
        file.seek(made.scans[5].mask_offset + 3)
        file.write(b"\x55")
    with pytest.raises(DataError, match=made.scans[5].id):
        Store(made.path).verify()


@pytest.mark.parametrize("change", ["half", "field", "format"])
def test_a_damaged_index(phantom_once: Path, tmp_path: Path, change: str) -> None:
    made = prepare(UWMadison(phantom_once), tmp_path, progress=False)
    path = made.path / INDEX
    index = json.loads(path.read_text())
    if change == "half":
        path.write_text(path.read_text()[:500])
    else:
        index["format" if change == "format" else "channels"] = 99
        path.write_text(json.dumps(index))
    with pytest.raises(DataError, match="damaged"):
        Store(made.path)


@pytest.mark.parametrize("name", ["images.bin", "masks.bin"])
@pytest.mark.parametrize("how", ["truncated", "removed"])
def test_a_store_that_is_cut_off_while_it_is_used_is_an_error_and_no_bus_error(
    phantom_once: Path, tmp_path: Path, name: str, how: str
) -> None:
    store = prepare(UWMadison(phantom_once), tmp_path, progress=False)
    store.image(0), store.mask(0)
    if how == "removed":
        (store.path / name).unlink()
    else:
        with (store.path / name).open("r+b") as file:
            file.truncate(10)
    with pytest.raises(DataError, match=rf"{name} has .* bytes instead of .*; the next start builds it again"):
        store.image(len(store.scans) - 1).max(), store.mask(len(store.scans) - 1).max()
