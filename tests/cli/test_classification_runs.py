"""A classification put together: labelled pictures on disk -> classifier -> scores, with the commands that serve it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.experiment import ClassificationExperiment
from fewpairs.runs.config import load_experiment, to_yaml
from fewpairs.runs.run import evaluate_run, load_run, train_run

CLASSES = ("dark", "light", "striped")


def write_pictures(root: Path, *, train: int = 8, validation: int = 4) -> Path:
    """A folder for each class of 12 x 12 grey pictures that anyone can tell apart."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("val", validation)):
        for name in CLASSES:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                base = np.full((12, 12), 200 if name == "light" else 40)
                if name == "striped":
                    base[::2] = 220
                pixels = np.clip(base + rng.normal(0, 12, base.shape), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def small(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        "data.kind=folder",
        f"data.root={pictures}",
        f"data.cache={tmp_path_factory.mktemp('cache')}",
        "data.split.validation=validation",
        "view.size=[12, 12]",
        "fit.steps=6",
        "fit.batch_size=8",
        "fit.evaluate_every=3",
        "fit.checkpoint_every=3",
        "fit.log_every=1",
        "schedule.warmup=1",
    ]


@pytest.fixture(scope="module")
def run(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    experiment = load_experiment("vit_pico_knn50_fashion", small)
    train_run(experiment, folder, resume=False, overwrite=False, progress=False)
    return folder


def test_settings_survive_yaml(small: list[str], tmp_path: Path) -> None:
    experiment = load_experiment("vit_pico_knn25_fashion", small)
    assert isinstance(experiment, ClassificationExperiment)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(experiment), encoding="utf-8")
    assert load_experiment(file) == experiment
    file.write_text("kind: classification\nfit: {steps: 7}\n", encoding="utf-8")
    assert load_experiment(file).fit.monitor == "top1"


def test_a_kind_that_does_not_exist(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("kind: clasification\n", encoding="utf-8")
    with pytest.raises(InputError, match="did you mean 'classification'"):
        load_experiment(file)


def test_a_stage_may_have_an_attention_of_its_own(small: list[str]) -> None:
    spec = '[{"name": "knn", "topk": 3}, "softmax"]'
    built = load_experiment("cvt_pico_fashion", [*small, f"model.attention={spec}"]).build(progress=False)
    from fewpairs.attention import KNN, Core, Softmax

    found = [module.variant for module in built.model.modules() if isinstance(module, Core)]
    assert found[0] == KNN(topk=3)
    assert found[-1] == Softmax()


def test_training_learns_and_keeps_what_prediction_needs(run: Path) -> None:
    loaded = load_run(run)
    assert loaded.classes == CLASSES
    experiment, records = evaluate_run(run, progress=False)
    scores = experiment.scoring.scores(records)
    assert len(records) == 12
    assert scores["top1"] > 0.6
    assert (run / "report.html").is_file()


def test_evaluate_prints_intervals_over_images(call: Callable[..., Any], run: Path) -> None:
    answer = call("evaluate", str(run), "--json", "--quiet", "--samples", "200")
    assert answer.status == 0, answer.err
    top1 = json.loads(answer.out)["top1"]
    assert 0 <= top1["low"] <= top1["value"] <= top1["high"] <= 1
    shown = call("evaluate", str(run), "--quiet", "--samples", "200")
    assert "12 images" in " ".join(shown.out.split())


def test_a_linear_probe_trains_its_layer_alone(small: list[str], run: Path, tmp_path: Path) -> None:
    overrides = [*small, "model.frozen=true", f"model.pretrained={run / 'best.safetensors'}", "augment=null"]
    experiment = load_experiment("vit_pico_knn50_fashion", overrides)
    train_run(experiment, tmp_path / "probe", resume=False, overwrite=False, progress=False)
    before, after = load_file(run / "best.safetensors"), load_file(tmp_path / "probe" / "best.safetensors")
    kept = [name for name in after if name.startswith("model.encoder.")]
    assert kept
    for name in kept:
        assert after[name].equal(before[name.replace("model.encoder.", "model.")]), name
    assert "dropped head.weight: part of the classifier" in (tmp_path / "probe" / "pretrained.txt").read_text("utf-8")


def test_all_damaged_pictures_are_named_before_training(small: list[str], tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "damaged")
    (root / "train" / "dark" / "0.png").write_bytes(b"")
    (root / "val" / "light" / "1.png").write_text("no picture")
    experiment = load_experiment("vit_pico_fashion", [*small, f"data.root={root}", "data.check=header"])
    with pytest.raises(DataError, match=r"(?s)dark/0\.png.*light/1\.png"):
        experiment.build(progress=False)


def test_compare_two_attentions(call: Callable[..., Any], small: list[str], tmp_path: Path) -> None:
    words = ["vit_pico_fashion", "vit_pico_knn50_fashion", *small, "--seeds", "2", "--out", str(tmp_path), "--quiet"]
    answer = call("compare", *words)
    assert answer.status == 0, answer.err
    found = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert found["headline"] == "top1"
    assert set(found["rows"][1]["differences"]) == {"top1", "balanced_accuracy", "nll"}
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "Dice" not in page
    assert "patient" not in page


def test_predict_writes_classes_of_new_pictures(
    call: Callable[..., Any], run: Path, pictures: Path, tmp_path: Path
) -> None:
    words = ["predict", str(run), str(pictures / "val"), "--out", str(tmp_path / "out"), "--quiet"]
    answer = call(*words, "--json", "--top", "2")
    assert answer.status == 0, answer.err
    written = json.loads(answer.out)["written"]
    assert len(written) == 12
    assert all(len(item["guesses"]) == 2 for item in written)
    assert (tmp_path / "out" / "predictions.csv").is_file()
    assert (tmp_path / "out" / "sheet.png").is_file()
    refused = call(*words, "--overwrite", "--axis", "1")
    assert refused.status == 2
    assert "--axis: no option for" in refused.err


def test_the_surest_mistakes_are_shown(small: list[str], tmp_path: Path) -> None:
    from fewpairs.kinds.classification.record import ClassificationRecord

    experiment = load_experiment("vit_pico_fashion", small)
    built = experiment.build(progress=False)
    item = built.validation[0]
    records = [
        ClassificationRecord(name, int(label), 2, (int(label) + 1) % 3, 0.9, 2.0, CLASSES)
        for name, label in zip(item.ids, item.label, strict=True)
    ]
    (sheet,) = experiment.pictures(tmp_path, records, weights="last", headline="top1", built=built)
    assert sheet.rank == "mistakes"
    assert sheet.caption == "mistakes: the 12 surest of 12 among 12 images"
    assert sheet.read()[:4] == b"\x89PNG"
