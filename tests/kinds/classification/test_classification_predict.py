from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fewpairs.data.pictures import find_pictures
from fewpairs.errors import InputError
from fewpairs.kinds.classification.predict import (
    RECORDS,
    SHEET,
    TABLE,
    ClassificationPredictor,
    class_titles,
)
from fewpairs.kinds.classification.task import Classification
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.predictor import OutputFolder
from fewpairs.runs.predict import PredictionError, predict_files

CLASSES = ("dark", "grey", "bright")
VIEW = LabelledView((8, 8), channels=1, mean=(0.0,), std=(1.0,), crop_pct=1.0)


class Brightness(nn.Module):
    """Logits from the mean of a picture in 0..1: dark near 0, grey near 0.5, bright near 1."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.modes: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(len(image))
        self.modes.append(self.training)
        centre = torch.tensor([0.0, 0.5, 1.0], device=image.device)
        return -20 * (image.mean((1, 2, 3))[:, None] - centre).abs()


def classifier(**options: object) -> ClassificationPredictor:
    return ClassificationPredictor(Brightness(), Classification(CLASSES), VIEW, device="cpu", **options)  # type: ignore[arg-type]


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Seven pictures of known brightness in folders, in several modes."""
    folder = tmp_path / "shades"
    (folder / "deep").mkdir(parents=True)
    for number, (value, mode) in enumerate([(10, "L"), (130, "RGB"), (250, "RGBA"), (5, "P"), (120, "CMYK")]):
        name = f"{number}.tif" if mode == "CMYK" else f"{number}.png"
        Image.new("RGB", (20, 12), (value,) * 3).convert(mode).save(folder / name)
    Image.new("L", (9, 9), 255).save(folder / "deep" / "5.bmp")
    Image.fromarray(np.full((9, 9), 128 << 8, np.uint16)).save(folder / "deep" / "6.png")
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


EXPECTED = {"0.png": 0, "1.png": 1, "2.png": 2, "3.png": 0, "4.tif": 1, "5.bmp": 2, "6.png": 1}


def test_a_folder_of_pictures(shades: Path, tmp_path: Path) -> None:
    made, out = classifier(batch_size=3), tmp_path / "out"
    written = predict_files(made, [shades], OutputFolder(out), progress=False)
    assert {item.path.name: CLASSES.index(item.guesses[0].name) for item in written} == EXPECTED
    assert made.model.seen == [3, 3, 1]
    rows = table(out)
    assert [row["path"] for row in rows] == [str(item.path) for item in written]
    assert list(rows[0])[1:] == [f"{name}_{rank}" for rank in (1, 2, 3) for name in ("class", "probability")]
    assert [CLASSES.index(row["class_1"]) for row in rows] == [EXPECTED[Path(row["path"]).name] for row in rows]
    for row in rows:
        shares = [float(row[f"probability_{rank}"]) for rank in (1, 2, 3)]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    stored = json.loads((out / RECORDS).read_text())
    assert (stored["classes"], stored["failed"]) == (list(CLASSES), [])
    assert [item["guesses"][0]["name"] for item in stored["classified"]] == [row["class_1"] for row in rows]
    with Image.open(out / SHEET) as sheet:
        assert sheet.size[0] > 6 * 160


def test_probabilities_are_the_softmax_of_the_view(shades: Path) -> None:
    with Image.open(shades / "1.png") as picture:
        image = VIEW.apply(picture)[None]
    made = classifier(top=2)
    logits = made.model(image)
    torch.testing.assert_close(made(image), logits.softmax(1))
    guesses = made.rank(image)[0]
    assert [guess.name for guess in guesses] == ["grey", "bright"], "130 of 255 is nearer to bright than to dark"
    assert guesses[0].probability == pytest.approx(float(logits.softmax(1)[0, 1]))


def test_of_equal_classes_the_first_is_named() -> None:
    class Same(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.zeros(len(image), 3)

    made = ClassificationPredictor(Same(), Classification(CLASSES), VIEW, device="cpu")
    assert [guess.name for guess in made.rank(torch.zeros(1, 1, 8, 8))[0]] == list(CLASSES)


def test_the_model_is_used_in_evaluation_and_left_as_it_was() -> None:
    made = classifier()
    made.model.train()
    probabilities = made(torch.zeros(2, 1, 8, 8))
    assert made.model.training
    assert made.model.modes == [False]
    assert not probabilities.requires_grad


def test_files_that_fail_are_named_at_the_end(shades: Path, tmp_path: Path) -> None:
    (shades / "2.png").write_bytes(b"")
    (shades / "deep" / "5.bmp").write_bytes((shades / "deep" / "5.bmp").read_bytes()[:80])
    with pytest.raises(PredictionError) as caught:
        predict_files(classifier(batch_size=2), [shades], OutputFolder(tmp_path / "out"), progress=False)
    message = str(caught.value).splitlines()
    assert message[0] == "2 of 7 pictures failed; the classes of the other 5 are written:"
    assert message[1].strip() == f"{shades / '2.png'} is empty (0 bytes)"
    assert "5.bmp is not a readable picture" in message[2]
    assert len(table(tmp_path / "out")) == len(caught.value.written) == 5
    failed = json.loads((tmp_path / "out" / RECORDS).read_text())["failed"]
    assert [item["path"] for item in failed] == [str(failure.inputs[0]) for failure in caught.value.failures]


def test_when_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(PredictionError, match=r"^1 of 1 picture failed:\n  .*a\.png is not a readable picture"):
        predict_files(classifier(), [tmp_path / "a.png"], OutputFolder(tmp_path / "out"), progress=False)
    assert not (tmp_path / "out" / SHEET).exists()


def test_files_that_are_there_are_not_replaced_unasked(shades: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(classifier(), [shades], OutputFolder(out, overlays=False), progress=False)
    assert sorted(path.name for path in out.iterdir()) == [TABLE, RECORDS]
    with pytest.raises(InputError, match=r"predictions\.csv and 1 more exist already; .* replace with --overwrite"):
        predict_files(classifier(), [shades], OutputFolder(out), progress=False)
    predict_files(classifier(), [shades / "1.png"], OutputFolder(out, overwrite=True), progress=False)
    assert len(table(out)) == 1
    (shades / "1.png").rename(shades / SHEET)
    with pytest.raises(InputError, match=r"sheet\.png is one of the pictures and would be overwritten"):
        predict_files(classifier(), [shades], OutputFolder(shades, overwrite=True), progress=False)


def test_a_sheet_shows_some_of_many(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        Image.new("L", (4, 4), number).save(folder / f"{number:02d}.png")
    predict_files(classifier(), [folder], OutputFolder(tmp_path / "out"), progress=False)
    with Image.open(tmp_path / "out" / SHEET) as sheet:
        assert sheet.size == (6 * 172 + 12, 8 * (160 + 3 * 17 + 24) + 12), "48 of them"


def test_inputs_are_found_once_and_in_order(shades: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shades / ".hidden.png").write_bytes(b"")
    (shades / "notes.txt").write_text("x")
    monkeypatch.chdir(shades)
    found = find_pictures(["1.png", shades, shades / "deep"])
    assert [path.name for path in found] == ["1.png", "0.png", "2.png", "3.png", "4.tif", "5.bmp", "6.png"]
    assert found[0] == Path("1.png"), "as it was given"
    assert len({path.resolve() for path in found}) == 7


def test_inputs_that_are_none(shades: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    for given, message in (
        ([], "no pictures given"),
        (["missing.png"], "missing.png does not exist"),
        ([tmp_path / "empty"], r"empty holds no pictures \(\.jpg"),
        ([tmp_path / "a.txt"], r"a\.txt is no picture that can be read"),
    ):
        with pytest.raises(InputError, match=message):
            find_pictures(given)


def test_settings_that_do_not_fit(shades: Path) -> None:
    for options in ({"top": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match=f"{next(iter(options))}=0: give at least 1"):
            classifier(**options)
    with pytest.raises(InputError, match="leaves the number of channels open"):
        ClassificationPredictor(Brightness(), Classification(CLASSES), LabelledView((8, 8)))
    with pytest.raises(InputError, match="2 classes need a model"):
        ClassificationPredictor(Brightness(), Classification(("a", "b")), VIEW, device="cpu")(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="device='gpu9'"):
        ClassificationPredictor(Brightness(), Classification(CLASSES), VIEW, device="gpu9")(torch.zeros(1, 1, 8, 8))


def test_wordnet_numbers_have_words() -> None:
    assert class_titles(("n01440764", "n02119789"))[0].startswith("tench")
    assert class_titles(("n01440764", "n99999999"))[1] == "n99999999"
    assert class_titles(("n01440764", "fish")) == ("n01440764", "fish")
