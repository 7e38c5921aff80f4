"""The one loop of prediction, with a predictor of its own: pictures become text files with their widths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewpairs.data.pictures import read_image
from fewpairs.errors import DataError, InputError
from fewpairs.folder_lock import lock_folder
from fewpairs.kinds.predictor import (
    Failure,
    OutputFolder,
    PictureFile,
    PicturePredictor,
    Prediction,
    plain,
    write_records,
)
from fewpairs.runs.predict import PredictionError, predict_files
from fewpairs.writing import atomic_path


@dataclass(frozen=True)
class Width(Prediction):
    path: Path
    width: int
    private: object = field(default=None, repr=False)

    def summary(self) -> str:
        return f"{self.path.name} {self.width}"


@dataclass(frozen=True)
class Widths(PicturePredictor[Image.Image, int, Width]):
    doing: ClassVar[str] = "measuring"
    kept: ClassVar[str] = "the widths of the other {} are written"

    at_once: int = 1
    batches: list[int] = field(default_factory=list)

    @property
    def read_at_once(self) -> int:
        return self.at_once

    def shared_outputs(self, sources: Sequence[PictureFile], output: OutputFolder) -> list[Path]:
        return [output.folder / "all.json"]

    def outputs(self, source: PictureFile, output: OutputFolder) -> list[Path]:
        return [output.folder / f"{source.path.stem}.txt"]

    def read(self, source: PictureFile) -> Image.Image:
        return read_image(source.path)

    def predict(self, images: Sequence[Image.Image]) -> list[int]:
        self.batches.append(len(images))
        return [image.width for image in images]

    def write(self, source: PictureFile, image: Image.Image, result: int, output: OutputFolder) -> Width:
        if result == 13:
            raise DataError(f"{source.path}: the disk is full")
        with atomic_path(self.outputs(source, output)[0]) as temporary:
            temporary.write_text(str(result))
        return Width(source.path, result, object())

    def finish(self, written: list[Width], failures: list[Failure], output: OutputFolder) -> None:
        write_records(output.folder / "all.json", {"written": written, "failed": failures})


def save(folder: Path, widths: Sequence[int | None]) -> list[Path]:
    """Pictures of these widths in order; damaged ones for None."""
    folder.mkdir()
    paths = [folder / f"{number:02d}.png" for number in range(len(widths))]
    for path, width in zip(paths, widths, strict=True):
        if width is None:
            path.write_bytes(b"no picture")
        else:
            Image.new("L", (width, 2)).save(path)
    return paths


def test_orientations_and_files_that_are_not_predicted_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, exif = tmp_path / "in", Image.Exif()
    exif[0x0112] = 6
    inputs.mkdir()
    Image.new("L", (4, 3)).save(inputs / "a.png")
    Image.new("L", (4, 3)).save(inputs / "b.JPG", exif=exif)
    (inputs / "c.heic").touch()
    written = predict_files(Widths(), [inputs], OutputFolder(tmp_path / "out"), progress=False)
    assert [one.width for one in written] == [4, 4]
    assert capsys.readouterr().err.splitlines() == [
        f"note: left out files in {inputs} that are not predicted: 1 x .heic (c.heic)",
        "note: 1 images with an EXIF orientation, read as stored: the tag is not followed: b.JPG (orientation 6)",
    ]


@settings(max_examples=25, deadline=None)
@given(widths=st.lists(st.none() | st.integers(1, 20), min_size=1, max_size=9), at_once=st.integers(1, 4))
def test_every_picture_is_written_or_a_failure_whatever_the_batches(
    widths: list[int | None], at_once: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("widths")
    paths = save(place / "in", widths)
    predictor, output = Widths(at_once=at_once), OutputFolder(place / "out")
    wanted = {path: width for path, width in zip(paths, widths, strict=True) if width not in (None, 13)}
    try:
        written: Sequence[Prediction] = predict_files(predictor, [place / "in"], output, progress=False)
        failed: list[Path] = []
        message = "0 of"
    except PredictionError as error:
        written, failed = error.written, [failure.inputs[0] for failure in error.failures]
        message = str(error)
    assert message.startswith(f"{len(failed)} of")
    assert (f"; the widths of the other {len(written)} are written:\n" in message) == bool(written and failed)
    assert [item.to_dict() for item in written] == [{"path": path, "width": width} for path, width in wanted.items()]
    assert sorted(failed) == [path for path in paths if path not in wanted]
    assert sum(predictor.batches) == sum(width is not None for width in widths)
    assert max(predictor.batches, default=0) <= at_once
    told = json.loads((place / "out" / "all.json").read_text())
    assert [item["width"] for item in told["written"]] == list(wanted.values())
    assert sorted(item["path"] for item in told["failed"]) == sorted(map(str, failed))
    assert {path.name for path in (place / "out").iterdir()} == {"all.json", *(f"{path.stem}.txt" for path in wanted)}


def test_what_cannot_be_is_refused_before_the_first_picture_is_read(tmp_path: Path) -> None:
    (first, second) = save(tmp_path / "in", [None, None])
    other = Path(tmp_path / "other" / first.name)
    other.parent.mkdir()
    other.write_bytes(first.read_bytes())
    (tmp_path / "file").write_text("x")
    (tmp_path / "there").mkdir()
    for name in ("all.json", f"{second.stem}.txt"):
        (tmp_path / "there" / name).write_text("mine")
    for inputs, output, message in (
        ([first, other], tmp_path / "out", r"other/00\.png and .*in/00\.png would both become .*00\.txt"),
        ([first], tmp_path / "file", "file is a file; name a folder for the results"),
        ([first, second], tmp_path / "there", r"all\.json and 1 more exist already; .* --overwrite"),
        ([tmp_path / "none.png"], tmp_path / "out", r"none\.png does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            predict_files(Widths(), inputs, OutputFolder(output), progress=False)
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_an_output(tmp_path: Path) -> None:
    class Onto(Widths):
        def outputs(self, source: PictureFile, output: OutputFolder) -> list[Path]:
            return [output.folder / source.path.name]

    save(tmp_path / "in", [3])
    with pytest.raises(InputError, match=r"00\.png is one of the pictures and would be overwritten"):
        predict_files(Onto(), [tmp_path / "in"], OutputFolder(tmp_path / "in", overwrite=True), progress=False)


def test_failures_of_pictures_and_of_scans_in_json() -> None:
    picture, scan = Failure((Path("a.png"),), "no"), Failure((Path("a"), Path("b")), "no", "scan")
    assert json.dumps([picture.to_dict(), scan.to_dict()], default=plain) == (
        '[{"path": "a.png", "message": "no"}, {"id": "scan", "inputs": ["a", "b"], "message": "no"}]'
    )


def test_names_that_differ_in_capitals_alone_are_refused(tmp_path: Path) -> None:
    (first,) = save(tmp_path / "in", [3])
    upper, lower = first.with_name("A.png"), first.with_name("a.png")
    for path in (upper, lower):
        path.write_bytes(first.read_bytes())
    with pytest.raises(InputError, match=r"in/a\.png and .*in/A\.png would both become .*a\.txt"):
        predict_files(Widths(), [upper, lower], OutputFolder(tmp_path / "out"), progress=False)


def test_a_folder_into_which_another_process_predicts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = save(tmp_path / "in", [3])
    with lock_folder(tmp_path / "out", "predicting"):
        monkeypatch.setattr("fewpairs.folder_lock._held", set())  # as in another process
        with pytest.raises(InputError, match=r"out is in use: process \d+ on .* has been predicting there"):
            predict_files(Widths(), [first], OutputFolder(tmp_path / "out"), progress=False)
    assert len(predict_files(Widths(), [first], OutputFolder(tmp_path / "out"), progress=False)) == 1
