"""Numbers in written masks are those of the data set, and `labels.json` beside them names them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.kinds.label_numbers import LabelsFile, written_numbers
from fewpairs.kinds.predictor import OutputFolder
from fewpairs.runs.config import load_experiment
from fewpairs.runs.predict import predict_files

TINY = ["fit.steps=2", "schedule.warmup=1", "fit.batch_size=2", "view.size=[16, 16]", "augment=null"]


@given(st.lists(st.lists(st.integers(-3, 70000), min_size=1, max_size=2), min_size=1, max_size=4))
def test_own_numbers_only_where_every_class_has_one_of_its_own(values: list[list[int]]) -> None:
    found = written_numbers(values, len(values), first=1)
    own = [numbers[0] for numbers in values]
    usable = all(len(numbers) == 1 for numbers in values) and len(set(own)) == len(own)
    usable &= all(1 <= number <= 65535 for number in own)
    assert found == (tuple(own) if usable else tuple(range(1, len(values) + 1)))
    assert written_numbers(None, 3, first=0) == (0, 1, 2)


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def scans(root: Path, labels: dict[str, object], values: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(0)
    for place in range(3):
        classes = rng.integers(0, len(values) + 1, (12, 10, 2))
        save(root / "imagesTr" / f"p{place}.nii.gz", classes.astype(np.float32))
        save(root / "labelsTr" / f"p{place}.nii.gz", np.array([0, *values], np.uint16)[classes])
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


@pytest.mark.parametrize(
    ("labels", "values", "numbers", "kept"),
    [
        ({"0": "background", "10": "ten", "2": "two"}, (2, 10), {"ten": 10, "two": 2}, None),
        ({"background": 0, "two": 2, "many": 300}, (2, 300), {"two": 2, "many": 300}, None),
        (
            {"background": 0, "whole": [1, 2], "core": [2]},
            (1, 2),
            {"whole": 1, "core": 2},
            {"whole": [1, 2], "core": [2]},
        ),
    ],
)
def test_a_run_on_scans_writes_the_values_of_its_data(
    tmp_path: Path, labels: dict[str, object], values: tuple[int, ...], numbers: dict[str, int], kept: object
) -> None:
    root = scans(tmp_path / "data", labels, values)
    experiment = load_experiment(
        "setr_kv_small",
        [*TINY, "data.kind=msd", f"data.root={root}", "data.split.folds=3", f"data.cache={tmp_path / 'c'}"],
    )
    built = experiment.build(progress=False)
    note = json.loads(json.dumps(built.note))
    predictor = experiment.predictor(note, built.model, built.task, device="cpu")
    output = OutputFolder(tmp_path / "out", overlays=False)
    (written,) = predict_files(predictor, [root / "imagesTr" / "p0.nii.gz"], output, progress=False)
    told = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert told == {"labels": {"background": 0, **numbers}} | ({"data_set_values": kept} if kept else {})
    stored = nibabel.load(written.outputs[0])
    assert stored.get_data_dtype() == (np.uint16 if max(numbers.values()) > 255 else np.uint8)
    masks = predictor(predictor.read(predictor.find([root / "imagesTr" / "p0.nii.gz"])[0]).image)
    found = np.asarray(stored.dataobj)
    for place, (name, number) in enumerate(numbers.items()):
        later = masks[:, place + 1 :].any(axis=1)
        assert int((found == number).sum()) == int((masks[:, place] & ~later).sum()), name

    again = predict_files(predictor, [root / "imagesTr" / "p1.nii.gz"], output, progress=False)
    assert len(again) == 1  # the same labels.json is no obstacle
    (tmp_path / "out" / "labels.json").write_text("{}")
    with pytest.raises(InputError, match=r"labels\.json exists already"):
        predict_files(predictor, [root / "imagesTr" / "p2.nii.gz"], output, progress=False)


def test_a_run_on_label_maps_writes_the_numbers_of_its_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(4):
        for folder, pixels in (("images", rng.integers(0, 255, (20, 24, 3))), ("masks", rng.integers(0, 4, (20, 24)))):
            path = tmp_path / "data" / folder / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    options = ["data.kind=label-maps", f"data.root={tmp_path / 'data'}", "data.source.classes=[sea, land, sky]"]
    more = ["data.source.zero_is_ignored=true", "view.size=[32, 32]", "view.short=32", "view.long=48", "augment=null"]
    experiment = load_experiment(
        "fpn_pvt_v2_b0_nuclei",
        [*options, *more, "data.source.nonzero=false", "data.source.split_file=null", "fit.batch_size=2"],
    )
    built = experiment.build(progress=False)
    predictor = experiment.predictor(json.loads(json.dumps(built.note)), built.model, built.task, device="cpu")
    output = OutputFolder(tmp_path / "out", overlays=False)
    image = tmp_path / "data" / "images" / "0.png"
    (written,) = predict_files(predictor, [image], output, progress=False)
    told = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert told == {"labels": {"sea": 1, "land": 2, "sky": 3}, "no_class": 255}
    with Image.open(image) as picture:
        expected = predictor(picture.convert("RGB")) + 1
    with Image.open(written.output) as stored:
        assert stored.mode == "P"
        np.testing.assert_array_equal(np.asarray(stored), expected)
        shown = np.asarray(stored.convert("RGB"))
    colours = {name: tuple(colour) for name, colour in zip(built.task.classes, built.note["colours"], strict=True)}
    for name, number in told["labels"].items():
        assert {tuple(one) for one in shown[expected == number].tolist()} <= {colours[name]}


def test_a_file_that_cannot_be_read_counts_as_another(tmp_path: Path) -> None:
    labels = LabelsFile(tmp_path / "labels.json", {"labels": {"a": 1}})
    assert labels.replaced == []
    labels.write()
    assert labels.replaced == []
    labels.path.write_bytes(b"\xff")
    assert labels.replaced == [labels.path]
