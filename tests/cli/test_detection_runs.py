"""Detection put together: pictures with objects on disk -> detector -> scores, with the commands that serve it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fewpairs.errors import InputError
from fewpairs.kinds.detection.experiment import DetectionExperiment
from fewpairs.runs.config import load_experiment, to_yaml
from fewpairs.runs.run import evaluate_run, load_run, train_run

SIZE = (40, 48)


def write_nuclei(root: Path, *, train: int = 6, test: int = 3) -> Path:
    """Dark pictures with bright squares, and label maps that number them; the last picture of a part has none."""
    rng = np.random.default_rng(0)
    rows = []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for part, count in (("train", train), ("test", test)):
        for number in range(count):
            name, labels = f"{part}{number}", np.zeros(SIZE, np.uint16)
            for place in range(0 if number == count - 1 else 2):
                top, left, side = rng.integers(2, 20), 2 + 22 * place, rng.integers(8, 16)
                labels[top : top + side, left : left + side] = place + 1
            pixels = np.where(labels > 0, 220, 30)[..., None] + rng.normal(0, 5, (*SIZE, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / "images" / f"{name}.png")
            Image.fromarray(labels).save(root / "masks" / f"{name}.png")
            rows.append((name, part))
    with (root / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "split"), *rows])
    return root


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nuclei(tmp_path_factory.mktemp("nuclei"))


def settings(root: Path, *more: str) -> list[str]:
    return [
        "data.kind=nuclei-masks",
        f"data.root={root}",
        "data.split.train=[train, validation]",
        "data.split.validation=test",
        "model.encoder=linglo_pico",
        "model.width=16",
        "model.hidden=16",
        "model.anchor_sizes=null",
        "view.short=40",
        "view.long=64",
        "augment.jitter=null",
        "augment.sizes=[32, 40]",
        "augment.step=8",
        "fit.steps=4",
        "fit.batch_size=3",
        "fit.evaluate_every=2",
        "fit.checkpoint_every=2",
        "fit.log_every=1",
        "fit.ema=0.5",
        "schedule.warmup=1",
        *more,
    ]


def train(recipe: str, folder: Path, overrides: list[str]) -> Path:
    train_run(load_experiment(recipe, overrides), folder, resume=False, overwrite=False, progress=False)
    return folder


@pytest.fixture(scope="module")
def run(nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("mask_rcnn_linglo_b0_nuclei", tmp_path_factory.mktemp("runs") / "run", settings(nuclei))


def test_settings_survive_yaml(tmp_path: Path) -> None:
    experiment = load_experiment("retinanet_linglo_b0_bccd", ["model.attention=kv", "model.anchor_ratios=[1, 2]"])
    assert isinstance(experiment, DetectionExperiment)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(experiment), encoding="utf-8")
    assert load_experiment(file) == experiment
    file.write_text("kind: detection\nfit: {steps: 7}\n", encoding="utf-8")
    assert load_experiment(file).fit.monitor == "ap"


def test_a_run_has_scores_a_report_and_is_scored_again_alike(run: Path) -> None:
    assert {"config.yaml", "data.json", "records-best.jsonl", "report.html"} <= {path.name for path in run.iterdir()}
    experiment, records = evaluate_run(run, progress=False)
    assert len(records) == 3
    assert all(record.masks is not None for record in records)
    scores = experiment.scoring.scores(records)
    assert {"ap", "ap50", "ap75", "aps", "apm", "apl", "mask_ap", "mask_ap50"} <= set(scores)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(line["scores"]["mask_ap50"] for line in lines if "scores" in line)
    assert best == pytest.approx(scores["mask_ap50"], abs=1e-9)
    assert set(lines[0]["terms"]) == {"class", "box", "mask", "proposal_class", "proposal_box"}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Best, median and worst images" in page
    assert "left: truth, right: found" in page


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bits(nuclei: Path, run: Path, tmp_path: Path) -> None:
    half = train(
        "mask_rcnn_linglo_b0_nuclei", tmp_path / "run", settings(nuclei, "fit.steps=2", "schedule.name=constant")
    )
    config = (half / "config.yaml").read_text().replace("steps: 2", "steps: 4")
    (half / "config.yaml").write_text(config)
    experiment = load_experiment(half / "config.yaml")
    train_run(experiment, half, resume=True, overwrite=False, progress=False)
    whole = train("mask_rcnn_linglo_b0_nuclei", tmp_path / "whole", settings(nuclei, "schedule.name=constant"))
    ends = [load_file(folder / "last.safetensors") for folder in (half, whole)]
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0] if name.startswith(("model.", "ema.")))


def test_prediction_writes_results_label_maps_and_pictures(
    run: Path, nuclei: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    out = tmp_path / "found"
    answer = call(
        "predict", str(run), str(nuclei / "images"), "--out", str(out), "--threshold", "0", "--quiet", "--json"
    )
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)
    assert len(said["written"]) == 9
    assert set(said["written"][0]["objects"]) == {"nucleus"}
    results = json.loads((out / "detections.json").read_text())
    assert {one["image_id"] for one in results} <= {path.name for path in (nuclei / "images").iterdir()}
    assert all(set(one) == {"image_id", "category_id", "bbox", "score", "segmentation"} for one in results)
    assert len(list(out.glob("*-boxes.png"))) == len(list(out.glob("*-objects.png"))) == 9
    with Image.open(out / "train0-objects.png") as labels:
        assert labels.size == (SIZE[1], SIZE[0])

    again = call("predict", str(run), str(nuclei / "images"), "--out", str(out), "--quiet")
    assert again.status == 2
    assert "already; choose another folder, or replace with --overwrite" in again.err
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    some = call(
        "predict",
        str(run),
        str(bad),
        str(nuclei / "images" / "test0.png"),
        "--out",
        str(tmp_path / "b"),
        "--no-overlays",
    )
    assert some.status == 1
    assert "1 of 2 pictures failed; what was found in the other 1 is written" in some.err
    assert not list((tmp_path / "b").glob("*-boxes.png"))


def test_the_attention_of_the_encoder_can_be_looked_into(
    run: Path, nuclei: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    answer = call("inspect", str(run), str(nuclei / "images" / "test0.png"), "--out", str(tmp_path / "page"))
    assert answer.status == 0, answer.err
    assert "no class logits" in answer.out
    assert list((tmp_path / "page").glob("*.html"))


@pytest.mark.parametrize("option", [["--top", "3"], ["--overlap", "0.5"], ["--format", "png"], ["--batch-size", "4"]])
def test_options_of_other_kinds_are_refused(
    option: list[str], run: Path, nuclei: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    answer = call("predict", str(run), str(nuclei / "images"), "--out", str(tmp_path / "x"), *option)
    assert answer.status == 2
    assert f"{option[0]}: no option for {run}, which predicts objects" in answer.err


def test_the_files_of_the_data_are_not_needed_afterwards(run: Path, tmp_path: Path) -> None:
    loaded = load_run(run)
    assert loaded.classes == ("nucleus",)
    assert not loaded.model.training


def test_two_detectors_compared(nuclei: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    more = settings(nuclei, "task.masks=false", "fit.steps=2", "fit.monitor=ap50")
    files = []
    for name in ("mask_rcnn", "retinanet"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(to_yaml(load_experiment("mask_rcnn_linglo_b0_nuclei", [*more, f"model.name={name}"])))
        files.append(str(file))
    answer = call("compare", *files, "--seeds", "1", "--headline", "ap50", "--out", str(tmp_path / "out"), "--quiet")
    assert answer.status == 0, answer.err
    table = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["recipe"] for row in table["rows"]] == ["mask_rcnn", "retinanet"]
    assert "ap50" in table["rows"][1]["differences"]
    assert all(row["macs"] > 0 for row in table["rows"])
    assert table["kind"] == "detection"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["model.name=mask_rcn"], "detector 'mask_rcn' is not known"),
        (["model.name=retinanet", "task.masks=true"], "task.masks is true, but retinanet has boxes alone"),
        (["data.split.validation=validation"], "data.split.validation='validation': this part is trained on"),
        (["data.split.train=[]"], "name different parts, one at least"),
        (["data.split.limit=0"], "data.split.limit=0: give at least 1"),
        (["task.box_weight=-1"], "the weight of box must be 0 or more"),
        (["data.split.validation=tets"], "data.split.validation='tets'"),
        (["data.kind=voc"], "JPEGImages is not a folder"),
        (["model.encoder=vit_tiny_patch16_224"], "has no pyramid"),
        (["model.anchor_sizes=[[8.0]]"], "sizes for 1 maps"),
        (["fit.monitor=dice"], "dice"),
        (["view.long=20"], "view.long=20"),
    ],
)
def test_settings_that_cannot_be_are_one_message(changes: list[str], words: str, nuclei: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words.replace("[", r"\[")):
        train("mask_rcnn_linglo_b0_nuclei", tmp_path / "run", settings(nuclei, *changes))


def test_images_without_objects_may_be_left_out_and_images_limited(nuclei: Path) -> None:
    sizes = {}
    for name, more in {
        "all": [],
        "filled": ["data.empty=false"],
        "some": ["data.split.limit=2", "data.split.validation_limit=1"],
    }.items():
        built = load_experiment("mask_rcnn_linglo_b0_nuclei", settings(nuclei, *more)).build(progress=False)
        sizes[name] = len(built.training), len(built.validation)
    assert sizes == {"all": (6, 3), "filled": (5, 3), "some": (2, 1)}


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(nuclei: Path, tmp_path: Path) -> None:
    shared = settings(
        nuclei, "model.name=retinanet", "model.encoder=pvt_v2_b0", "augment.sizes=null", "task.masks=false"
    )
    command = [
        "-m",
        "fewpairs",
        "train",
        "mask_rcnn_linglo_b0_nuclei",
        *shared,
        "fit.monitor=ap",
        "data.split.limit=4",
        "-q",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, launcher, batch in (("one", [], 4), ("two", torchrun, 2)):
        words = [sys.executable, *launcher, *command, f"fit.batch_size={batch}", "--out", str(tmp_path / name)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for name in one:
        if name.startswith("model."):
            torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4, msg=name)
    found = [(tmp_path / name / "records-best.jsonl").read_text().count("\n") for name in ("one", "two")]
    assert found[0] == found[1] == 4
