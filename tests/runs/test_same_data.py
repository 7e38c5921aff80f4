"""Runs know their data: other classes are refused, changed images and labels too, for every kind of experiment."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from fewpairs.cli import main
from fewpairs.data.identity import DataIdentity, PartIdentity
from fewpairs.errors import InputError
from fewpairs.runs.config import load_experiment
from fewpairs.runs.run import train_run
from fewpairs.runs.same_data import check_same_data, write_data_note

GOLDEN = Path(__file__).parents[1] / "golden"

CONFIGS = {
    "segmentation": "segmentation-compare",
    "classification": "classification-validated",
    "self-distillation": "self-distillation-run",
    "detection": "detection-run",
    "semantic": "semantic-run",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of small data sets of every kind, as the current one."""
    shutil.copytree(GOLDEN / "inputs", tmp_path / "inputs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def relabel_scan(inputs: Path) -> None:
    path = inputs / "msd" / "labelsTr" / "volume_1.nii.gz"
    volume = nibabel.load(path)
    labels = np.asarray(volume.dataobj)
    nibabel.save(nibabel.Nifti1Image(np.where(labels == 1, 2, labels).astype(np.uint8), volume.affine), path)


def move_picture(inputs: Path) -> None:
    for part, place in (("train", "20.png"), ("val", "20.png")):
        (inputs / "pictures" / part / "dark" / "0.png").rename(inputs / "pictures" / part / "light" / place)


def move_box(inputs: Path) -> None:
    for path in (inputs / "objects" / "annotations").iterdir():
        content = json.loads(path.read_text())
        content["annotations"][0]["bbox"][0] += 1
        path.write_text(json.dumps(content))


def repaint(inputs: Path) -> None:
    for path in (inputs / "scenes" / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            pixels = np.array(mask)
        pixels[0, 0] = 1 - min(pixels[0, 0], 1)
        Image.fromarray(pixels).save(path)


def rename_label(inputs: Path) -> None:
    table = inputs / "msd" / "dataset.json"
    table.write_text(table.read_text().replace("anterior", "zone"))


def rename_folder(inputs: Path) -> None:
    for part in ("train", "val"):
        (inputs / "pictures" / part / "dark").rename(inputs / "pictures" / part / "night")


def rename_category(inputs: Path) -> None:
    for path in (inputs / "objects" / "annotations").iterdir():
        content = json.loads(path.read_text())
        content["categories"][0]["name"] = "something else"
        path.write_text(json.dumps(content))


LABELS: dict[str, Callable[[Path], None]] = {
    "segmentation": relabel_scan,
    "classification": move_picture,
    "self-distillation": move_picture,
    "detection": move_box,
    "semantic": repaint,
}
CLASSES: dict[str, Callable[[Path], None]] = {
    "segmentation": rename_label,
    "classification": rename_folder,
    "self-distillation": rename_folder,
    "detection": rename_category,
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_changed_labels_are_refused_or_get_digits_of_their_own(kind: str, place: Path) -> None:
    config = GOLDEN / "configs" / f"{CONFIGS[kind]}.yaml"
    write_data_note(load_experiment(config).build(progress=False), place)
    assert check_same_data(place, load_experiment(config).build(progress=False), remedy="") is None
    LABELS[kind](place / "inputs")
    changed = load_experiment(config).build(progress=False)
    with pytest.raises(
        InputError, match=r"the data have changed since the run .* began: .*(training|validation).*; do"
    ):
        check_same_data(place, changed, remedy="do this")
    digits = check_same_data(place, changed, remedy="", allowed=True)
    assert digits is not None
    assert len(digits) == 8


@pytest.mark.parametrize("kind", CLASSES)
def test_other_classes_are_refused_with_both_lists(kind: str, place: Path) -> None:
    config = GOLDEN / "configs" / f"{CONFIGS[kind]}.yaml"
    write_data_note(load_experiment(config).build(progress=False), place)
    CLASSES[kind](place / "inputs")
    with pytest.raises(InputError, match=r"(?s)the classes of the data are not those of the run .*run:.*data:"):
        check_same_data(place, load_experiment(config).build(progress=False), remedy="", allowed=True)


def test_classes_in_another_order_are_refused(place: Path) -> None:
    """Label maps name their classes in the settings, which somebody may have edited beside the weights."""
    config = GOLDEN / "configs" / "semantic-run.yaml"
    write_data_note(load_experiment(config).build(progress=False), place)
    mixed = load_experiment(config, ["data.source.classes=[disc, ground, bar]"]).build(progress=False)
    with pytest.raises(InputError, match="in another order"):
        check_same_data(place, mixed, remedy="")


@pytest.mark.parametrize("kind", ["classification", "detection"])
def test_an_evaluation_on_other_classes_leaves_the_records_alone(
    kind: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A renamed folder moves its class in the order: top-1 fell from 1.0 to 0.0, and the records were replaced."""
    run = shutil.copytree(GOLDEN / "runs" / kind, place / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    CLASSES[kind](place / "inputs")
    monkeypatch.setattr(sys, "argv", ["fewpairs", "evaluate", "run", "--quiet", "--changed-data"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "the classes of the data are not those of the run" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_changed_data_are_scored_in_records_of_their_own_and_not_resumed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(GOLDEN / "runs" / "detection", place / "run")
    experiment = load_experiment(run / "config.yaml")
    built = experiment.build(progress=False)
    write_data_note(built, run)
    move_box(place / "inputs")
    before = (run / "records-best.jsonl").read_bytes()

    def evaluate(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", ["fewpairs", "evaluate", "run", "--quiet", *options])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    assert evaluate() == 2
    assert "score them as they are with --changed-data" in capsys.readouterr().err
    assert evaluate("--changed-data") == 0
    others = list(run.glob("records-best-*.jsonl"))
    assert len(others) == 1
    assert others[0].read_bytes() != before == (run / "records-best.jsonl").read_bytes()

    shutil.copy(run / "best.safetensors", run / "last.safetensors")
    with pytest.raises(InputError, match="the data have changed since the run run began"):
        train_run(experiment, Path("run"), resume=True, overwrite=False, progress=False)


def test_an_identity_tells_counts_names_and_labels_apart() -> None:
    part = PartIdentity.of([("a", b"1"), ("b", b"2")])
    whole = DataIdentity(part, part)
    assert DataIdentity.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    for other, said in (
        ([("a", b"1")], "1 training images or scans instead of 2"),
        ([("a", b"1"), ("c", b"2")], "other training images"),
        ([("a", b"2"), ("b", b"1")], "other labels of the training images"),
        ([("a", b""), ("b", b"12")], "other labels of the training images"),
    ):
        assert whole.changes(DataIdentity(PartIdentity.of(other), part)) == [said]
