from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewpairs.errors import DataError
from fewpairs.kinds.segmentation.layouts.nifti import msd
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.preparation import prepare
from fewpairs.kinds.segmentation.preparation import prepare as prepare_function
from fewpairs.kinds.segmentation.source import ScanFiles
from fewpairs.kinds.segmentation.store import Store


class Counting(UWMadison):
    """Counts the scans that are decoded."""

    reads = 0

    def read(self, scan: ScanFiles):  # type: ignore[no-untyped-def]
        type(self).reads += 1
        return super().read(scan)


@pytest.fixture(autouse=True)
def _from_zero() -> None:
    Counting.reads = 0


def test_it_is_built_once(phantom_copy: Path, tmp_path: Path) -> None:
    first = prepare(Counting(phantom_copy), tmp_path / "cache", progress=False)
    assert Counting.reads == 12
    second = prepare(Counting(phantom_copy), tmp_path / "cache", progress=False)
    assert Counting.reads == 12
    assert second.path == first.path


@pytest.mark.parametrize("change", ["picture", "touched", "table", "option"])
def test_it_is_built_again_when_the_sources_change_and_the_old_one_goes(
    phantom_copy: Path, tmp_path: Path, change: str
) -> None:
    cache = tmp_path / "cache"
    first = prepare(Counting(phantom_copy), cache, progress=False)
    path = sorted(phantom_copy.glob("train/*/*/scans/*.png"))[0]
    source = Counting(phantom_copy)
    if change == "picture":
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, 0] = 4321
        Image.fromarray(pixels).save(path)
    elif change == "touched":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    elif change == "table":
        table = phantom_copy / "train.csv"
        table.write_text(table.read_text() + "case7_day0_slice_0001,stomach,\n")
    else:
        source = Counting(phantom_copy, thickness=4.0)
    second = prepare(source, cache, progress=False)
    assert Counting.reads == 24
    assert second.path != first.path
    assert first.path.exists() == (change == "option"), "only a store of the same data set is replaced"
    if change == "picture":
        changed = next(i for i, scan in enumerate(second.scans) if scan.id == path.parent.parent.name)
        assert second.image(changed)[0, 0, 0, 0] == 4321
    if change == "option":
        assert second.scans[0].spacing[0] == 4.0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "index", "missing"])
def test_a_damaged_store_is_built_again(phantom_copy: Path, tmp_path: Path, damage: str) -> None:
    first = prepare(Counting(phantom_copy), tmp_path / "cache", progress=False)
    wanted = first.image(3).copy()
    images = first.path / "images.bin"
    if damage == "truncated":
        with images.open("r+b") as file:
            file.truncate(2000)
    elif damage == "flipped":
        with images.open("r+b") as file:
            file.seek(first.scans[3].image_offset + 100)
            file.write(b"\xff\xff\xff")
    elif damage == "index":
        (first.path / "index.json").write_text("{}")
    else:
        images.unlink()
    again = prepare(Counting(phantom_copy), tmp_path / "cache", progress=False)
    assert Counting.reads == 24
    np.testing.assert_array_equal(again.image(3), wanted)


def test_a_failed_build_leaves_nothing_behind(phantom_copy: Path, tmp_path: Path) -> None:
    path = sorted(phantom_copy.glob("train/*/*/scans/*.png"))[-1]
    content = path.read_bytes()
    path.write_bytes(content[:200])
    with pytest.raises(DataError, match=path.name):
        prepare(UWMadison(phantom_copy), tmp_path / "cache", progress=False)
    assert [entry.name for entry in (tmp_path / "cache").iterdir() if entry.name != ".lock"] == []
    path.write_bytes(content)
    assert len(prepare(UWMadison(phantom_copy), tmp_path / "cache", progress=False).scans) == 12


def test_what_a_killed_build_left_is_cleared(phantom_copy: Path, tmp_path: Path) -> None:
    left = tmp_path / "cache" / ".building-dead"
    left.mkdir(parents=True)
    (left / "images.bin").write_bytes(b"half")
    prepare(UWMadison(phantom_copy), tmp_path / "cache", progress=False)
    assert not left.exists()


def test_several_at_once_build_one(phantom_copy: Path, tmp_path: Path) -> None:
    stores: list[Store] = []

    def work() -> None:
        stores.append(prepare(Counting(phantom_copy), tmp_path / "cache", progress=False))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.path for store in stores}) == 1
    assert Counting.reads == 12


def test_a_cache_that_cannot_be_made(phantom_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write the prepared data to .*file/cache.*that is writable"):
        prepare(UWMadison(phantom_copy), tmp_path / "file" / "cache", progress=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_no_permission_to_write(phantom_copy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o500)
    with pytest.raises(DataError, match="cannot write the prepared data to"):
        prepare(UWMadison(phantom_copy), cache, progress=False)


def test_a_full_disk(phantom_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fewpairs.kinds.segmentation.preparation._Writer.append", full)
    with pytest.raises(DataError, match=r"No space left on device.*has enough space"):
        prepare_function(UWMadison(phantom_copy), tmp_path / "cache", progress=False)
    assert [entry.name for entry in (tmp_path / "cache").iterdir() if entry.name != ".lock"] == []


def test_wide_numbers_are_stored_as_float32(decathlon: Path, tmp_path: Path) -> None:
    from made_files import save_volume

    save_volume(decathlon / "imagesTr" / "scan_0.nii.gz", np.random.default_rng(0).normal(size=(7, 6, 5)))
    store = prepare(msd(decathlon, classes=("a", "b")), tmp_path / "cache", progress=False)
    assert {scan.dtype for scan in store.scans} == {"<f4"}


def test_two_scans_of_one_name(decathlon: Path, tmp_path: Path) -> None:
    source = msd(decathlon, classes=("a", "b"))
    twice = source.scans() * 2
    source.scans = lambda: twice  # type: ignore[method-assign]
    with pytest.raises(DataError, match="scan_0 is listed twice"):
        prepare(source, tmp_path / "cache", progress=False)


def test_progress_is_plain_lines_off_a_terminal_or_nothing(
    phantom_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(UWMadison(phantom_once), tmp_path / "a", progress=False)
    assert capsys.readouterr() == ("", "")
    prepare(UWMadison(phantom_once), tmp_path / "b", progress=True)
    out, said = capsys.readouterr()
    assert out == ""
    assert said.splitlines()[-1] == "preparing uw: 12/12"
    assert len(said.splitlines()) <= 10
