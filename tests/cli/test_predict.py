"""`fewpairs predict`: a run folder and image files in; masks, and plain words about what went wrong, out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from fewpairs.kinds.segmentation.experiment import (
    SegmentationDataConfig,
    SegmentationExperiment,
    SegmentationModelConfig,
)
from fewpairs.kinds.segmentation.intensity import intensity_statistics
from fewpairs.kinds.segmentation.layouts.open import SourceOptions
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.runs.config import to_yaml
from fewpairs.train.checkpoint import write_checkpoint

CLASSES = ("anterior", "posterior")


@pytest.fixture(scope="module")
def experiment() -> SegmentationExperiment:
    return SegmentationExperiment(
        model=SegmentationModelConfig(name="setr_naive_small"),
        data=SegmentationDataConfig(kind="nifti", source=SourceOptions(classes=CLASSES, axis=0)),
        view=SegmentationView(size=(16, 16), fit="pad", normalise="percentile"),
    )


@pytest.fixture(scope="module")
def folder(experiment: SegmentationExperiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with weights as they are before training."""
    folder = tmp_path_factory.mktemp("run")
    segmenter, _ = experiment.restore({"classes": CLASSES, "channels": 1})
    (folder / "config.yaml").write_text(to_yaml(experiment), encoding="utf-8")
    (folder / "data.json").write_text(json.dumps({"classes": CLASSES, "channels": 1}), encoding="utf-8")
    weights = {f"model.{name}": tensor for name, tensor in segmenter.state_dict().items()}
    write_checkpoint(folder / "best.safetensors", weights, {})
    return folder


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).normal(100, 20, (3, 20, 12)).astype(np.float32)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 1.0, 1.0, 1.0])), path)
    return path


def test_masks_are_those_of_the_trained_model(
    call: Callable[..., Any], folder: Path, volume: Path, experiment: SegmentationExperiment, tmp_path: Path
) -> None:
    from fewpairs.kinds.segmentation.volumes import Volume
    from fewpairs.runs.run import load_run

    answer = call(
        "predict", str(folder), str(volume), "--out", str(tmp_path / "out"), "--json", "--quiet", "--device", "cpu"
    )
    assert answer.status == 0, answer.err
    (written,) = json.loads(answer.out)["written"]
    assert written["outputs"] == [str(tmp_path / "out" / "scan.nii.gz")]
    loaded = load_run(folder)
    image = Volume.open(volume, axis=0).read()
    masks = loaded.predictor(device="cpu")(image)
    assert written["voxels"] == {name: int(masks[:, j].sum()) for j, name in enumerate(CLASSES)}
    labels = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    assert np.array_equal(labels.affine, nibabel.load(volume).affine)
    stored = Volume.open(tmp_path / "out" / "scan.nii.gz", axis=0).read()[:, 0]
    assert np.array_equal(stored, np.where(masks[:, 1], 2, np.where(masks[:, 0], 1, 0)))
    assert (tmp_path / "out" / "overlays" / "scan.png").is_file()


def test_the_words_say_what_was_found_and_where(call: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (10, 14), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    out = tmp_path / "out"
    answer = call("predict", str(folder), str(tmp_path), "--out", str(out), "--no-overlays", "--separate")
    assert answer.status == 0, answer.err
    assert f"{out / 'a.png'} and 2 more  a: anterior " in answer.out
    assert "predicting: 2/2" in answer.err
    assert not (out / "overlays").exists()
    assert "--separate" not in answer.out
    again = call("predict", str(folder), str(tmp_path / "a.png"), "--out", str(out), "--no-overlays", "-q")
    assert again.status == 2
    assert "exists already" in again.err
    assert "--overwrite" in again.err


def test_failures_are_listed_at_the_end_with_status_1(
    call: Callable[..., Any], folder: Path, volume: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(volume.read_bytes()[:100])
    answer = call("predict", str(folder), str(bad), str(volume), "--out", str(tmp_path / "out"), "--json", "-q")
    assert answer.status == 1
    assert answer.err.startswith("fewpairs: 1 of 2 scans failed; the masks of the other 1 are written:\n")
    assert str(bad) in answer.err
    assert "Traceback" not in answer.err
    content = json.loads(answer.out)
    assert [item["id"] for item in content["written"]] == ["scan"]
    assert [item["id"] for item in content["failed"]] == ["bad"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{folder}/none.png"], "none.png does not exist"),
        (["{folder}", "{volume}"], "holds no run"),
        (["{run}", "{volume}", "--overlap", "1"], "overlap=1.0"),
        (["{run}", "{volume}", "--device", "warp"], "device='warp'"),
        (["{run}", "{volume}", "--format", "png"], "can be written as nifti"),
        (["{run}", "{volume}", "--weights", "last"], "last.safetensors"),
    ],
)
def test_a_wrong_call_is_one_message_with_status_2(
    call: Callable[..., Any], folder: Path, volume: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = [text.format(run=folder, folder=tmp_path, volume=volume) for text in arguments]
    answer = call("predict", *given, "--out", str(tmp_path / "out"), "-q")
    assert answer.status == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


def test_an_option_of_another_kind_is_refused(call: Callable[..., Any], folder: Path, volume: Path) -> None:
    from fewpairs.errors import InputError
    from fewpairs.runs.run import load_run

    words = ["predict", str(folder), str(volume), "--out", "none", "--top", "3", "--threshold", "0"]
    answer = call(*words)
    assert answer.status == 2
    assert f"--top, --threshold: no option for {folder}, which predicts masks; leave it out" in answer.err
    with pytest.raises(InputError, match=r"--roi-size: no option for .*, which predicts masks"):
        load_run(folder).predictor(roi_size=(8, 8))


def test_a_run_that_predicts_nothing_is_refused(folder: Path) -> None:
    from dataclasses import replace

    from fewpairs.errors import InputError
    from fewpairs.kinds.self_distillation.experiment import SelfDistillationExperiment
    from fewpairs.runs.run import load_run

    loaded = replace(load_run(folder), experiment=SelfDistillationExperiment())
    with pytest.raises(InputError, match=r"kind self-distillation, which predicts no masks, classes or objects$"):
        loaded.predictor()


def test_prediction_equals_evaluation(folder: Path, experiment: SegmentationExperiment) -> None:
    from fewpairs.runs.run import load_run

    loaded = load_run(folder)
    image = np.random.default_rng(1).normal(size=(5, 1, 11, 16)).astype(np.float32)
    inputs, geometry = experiment.view.apply(image, intensity_statistics(image))
    with torch.no_grad():
        evaluated = loaded.task.masks(loaded.model(inputs[:4]), geometry).numpy()
    masks = loaded.predictor(batch_size=4, device="cpu")(image)
    assert np.array_equal(masks[:4], evaluated)
