from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labelled_memory import memory_source
from PIL import Image

from fewpairs.data.pictures import Header
from fewpairs.errors import DataError
from fewpairs.kinds.classification import check as module
from fewpairs.kinds.classification.check import DamagedImagesError, check_images
from fewpairs.kinds.classification.layouts.open import open_labelled
from fewpairs.kinds.classification.overview import look_over
from fewpairs.kinds.classification.source import LabelledSource


@pytest.fixture
def damaged(pictures: Path) -> Path:
    """Four damaged images: empty, truncated, no picture, and one whose header and end are right but not its middle."""
    train = pictures / "train"
    (train / "ant" / "train0.png").write_bytes(b"")
    whole = (train / "bee" / "train3.JPEG").read_bytes()
    (train / "bee" / "train3.JPEG").write_bytes(whole[: len(whole) // 2])
    (pictures / "val" / "cat" / "val0.png").write_text("not found")
    path = train / "cat" / "train2.png"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8)
    path.write_bytes(content)
    return pictures


def opened(root: Path) -> LabelledSource:
    return open_labelled("folder", root)


def test_orientations_are_told_also_of_files_that_were_checked_before(
    pictures: Path, write_picture: Callable[..., Path], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write_picture(pictures / "train" / "ant" / "turned.jpg", exif=exif)
    for _ in range(2):
        (note,) = check_images(opened(pictures), cache=tmp_path / "cache", progress=False)
        assert note.startswith("1 images with an EXIF orientation, read as stored")
        assert note.endswith("train/ant/turned.jpg (orientation 6)")


def test_all_are_named_at_once(damaged: Path) -> None:
    with pytest.raises(DamagedImagesError) as caught:
        check_images(opened(damaged), progress=False)
    assert isinstance(caught.value, DataError)
    assert [Path(problem.split()[0]).name for problem in caught.value.problems] == [
        "train0.png",
        "train3.JPEG",
        "val0.png",
    ]
    lines = str(caught.value).splitlines()
    assert lines[0] == f"3 of 21 images of {damaged} cannot be read; fix or delete them:"
    assert lines[1].endswith("train0.png is empty (0 bytes)")


def test_pixels_are_decoded_when_asked(damaged: Path) -> None:
    with pytest.raises(DamagedImagesError) as caught:
        check_images(opened(damaged), decode=True, progress=False)
    assert "train2.png" in str(caught.value)
    assert len(caught.value.problems) == 4


def test_only_the_images_asked_for(damaged: Path) -> None:
    source = opened(damaged)
    with pytest.raises(DamagedImagesError, match="1 of 6 images"):
        check_images(source, source.indices("validation"), progress=False)
    sound = [index for index in range(len(source)) if source.file(index).stat().st_size > 400]  # type: ignore[union-attr]
    check_images(source, np.array(sound[:2]), progress=False)


def test_a_second_look_reads_no_whole_file(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[str, bool]] = []

    def look(path: Path, *, decode: bool) -> Header:
        looked.append((path.name, decode))
        if path.stat().st_size < 20:
            raise DataError(f"{path} is damaged")
        return Header((1, 1), 1, 1)

    monkeypatch.setattr(module, "check_file", look)
    cache = tmp_path / "cache"
    source = opened(pictures)

    def check(**options: bool) -> int:
        looked.clear()
        check_images(source, cache=cache, progress=False, **options)
        return len(looked)

    assert [check(), check()] == [21, 0]
    assert [check(decode=True), check(decode=True), check()] == [21, 0, 0]
    path = pictures / "train" / "ant" / "train2.png"
    os.utime(path, ns=(0, 0))
    assert check() == 1
    path.write_bytes(b"short")
    for _ in range(2):
        with pytest.raises(DamagedImagesError, match="1 of 21"):
            check()
        assert looked == [("train2.png", False)], "damage is never remembered"
    for name in ("whole-files.npy", "whole-pixels.npy"):
        (cache / name).write_bytes(b"scribble")
    path.unlink()
    with pytest.raises(DamagedImagesError, match=r"train2\.png cannot be read \(No such file"):
        check()
    assert len(looked) == 20, "a damaged memory is none"


def test_a_memory_whose_header_claims_more_than_it_holds_is_none(tmp_path: Path) -> None:
    with (tmp_path / "whole-files.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u8", "fortran_order": False, "shape": (2**55,)})
        file.write(bytes(8))
    assert len(module._load(tmp_path, decoded=False)) == 0


def test_a_memory_that_cannot_be_written_does_no_harm(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_images(opened(pictures), cache=tmp_path / "file" / "below", progress=False)


def test_long_lists_are_cut(monkeypatch: pytest.MonkeyPatch, damaged: Path) -> None:
    monkeypatch.setattr(module, "SHOWN", 2)
    with pytest.raises(DamagedImagesError, match=r"(?s)cannot be read.*train3\.JPEG.*\n  and 1 more$") as caught:
        check_images(opened(damaged), progress=False)
    assert len(caught.value.problems) == 3


def test_images_without_files_are_read_with_decode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    source = memory_source({"train": [0, 1, 0]}, 2)

    def broken(index: int) -> None:
        raise DataError(f"train/{index} is damaged")

    monkeypatch.setattr(source.parts["train"], "read", broken)
    check_images(source, progress=False)
    with pytest.raises(DamagedImagesError, match="3 of 3 images of made"):
        check_images(source, decode=True, progress=False)


def test_progress_is_told(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_images(opened(pictures))
    assert "checking 21 images: 1/1" in capsys.readouterr().err


def test_pictures_with_an_orientation_are_noted(pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    path = pictures / "train" / "bee" / "train3.JPEG"
    Image.open(path).save(path, exif=exif)
    note = "1 images with an EXIF orientation, read as stored: the tag is not followed: train/bee/train3.JPEG (orient"
    for decode in (False, True):
        found = look_over(opened(pictures), decode=decode, progress=False)
        assert [text[: len(note)] for text in found.notes if "EXIF" in text] == [note]
        assert found.problems == ()
