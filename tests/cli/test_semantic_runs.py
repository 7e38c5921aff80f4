"""Semantic segmentation put together: photographs with label maps -> scores, with the commands that serve it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.semantic.experiment import SemanticExperiment
from fewpairs.recipes import RECIPES
from fewpairs.runs.config import load_experiment, to_yaml, validate
from fewpairs.runs.run import evaluate_run, load_run, train_run, with_settings

CLASSES = ("ground", "disc", "bar")


def scene(number: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A picture `[H W 3]` and labels `[H W]`: a red disc and a blue bar on dull ground."""
    generator = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.uint8)
    row, column = generator.integers(8, size[0] - 8), generator.integers(8, size[1] - 8)
    labels[(rows - row) ** 2 + (columns - column) ** 2 < 81] = 1
    place = int(generator.integers(0, size[1] - 8))
    labels[:, place : place + 7] = 2
    colours = np.array([(60, 70, 60), (220, 60, 50), (40, 90, 230)], np.uint8)
    noise = generator.integers(-12, 13, (*size, 3))
    return (colours[labels].astype(int) + noise).clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for part, start, count in (("train", 0, 6), ("val", 100, 3)):
        for number in range(start, start + count):
            image, labels = scene(number, (40, 44 + number % 3))
            for folder, pixels in (("images", image), ("masks", labels)):
                path = root / folder / part / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def small(scenes: Path) -> list[str]:
    return [
        "model.encoder=linglo_nano",
        "data.kind=label-maps",
        f"data.root={scenes}",
        "data.source={classes: [ground, disc, bar], nonzero: false, split_file: null}",
        "view.size=[32, 32]",
        "fit.steps=6",
        "fit.batch_size=4",
        "fit.evaluate_every=3",
        "fit.checkpoint_every=3",
        "fit.log_every=1",
        "schedule.warmup=1",
    ]


@pytest.fixture(scope="module")
def run(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "scenes"
    experiment = load_experiment("fpn_pvt_v2_b0_nuclei", [*small, "task.auxiliary=true"])
    train_run(experiment, folder, resume=False, overwrite=False, progress=False)
    return folder


def test_a_run_leaves_weights_records_and_a_report(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for words in ("Mean IoU", "Pixel accuracy", "disc", "Best, median and worst images", "pixels"):
        assert words.lower() in page.lower(), words
    assert page.count("data:image/png") == 3
    note = json.loads((run / "data.json").read_text())
    assert (note["classes"], note["train"], note["validation"]) == (list(CLASSES), 6, 3)
    scores = [json.loads(line).get("scores") for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"miou", "macc", "aacc", "iou/disc"} <= {name for found in scores if found for name in found}


def test_batch_size_does_not_change_a_score(run: Path) -> None:
    experiment, records = evaluate_run(run, progress=False)
    one = experiment.scoring.scores(records)
    text = (run / "config.yaml").read_text()
    try:
        (run / "config.yaml").write_text(text.replace("batch_size: 4", "batch_size: 1"))
        again, others = evaluate_run(run, progress=False)
    finally:
        (run / "config.yaml").write_text(text)
    assert records == others
    assert again.scoring.scores(others) == one
    assert [record.id for record in records] == ["val/100", "val/101", "val/102"]


def test_evaluate_prints_scores_and_takes_other_inference(run: Path, call: Callable[..., Any]) -> None:
    before = (run / "records-best.jsonl").read_bytes()
    plain = json.loads(call("evaluate", str(run), "--json", "-q").out)
    windows = ["mode=slide", "window=[24, 24]", "flip=true", "ratios=[0.75, 1]"]
    options = [word for setting in windows for word in ("--inference", setting)]
    swept = json.loads(call("evaluate", str(run), "--json", "-q", *options).out)
    assert plain.keys() == swept.keys()
    assert plain["miou"]["over"] == "images"
    assert plain["aacc"]["value"] != swept["aacc"]["value"]
    assert (run / "records-best.jsonl").read_bytes() == before
    wrong = call("evaluate", str(run), "-q", "--inference", "flop=true")
    assert wrong.status == 2
    assert "inference.flop" in wrong.err
    with pytest.raises(InputError, match="has no inference settings"):
        with_settings(load_experiment("setr_kv_small"), "inference", ["flip=true"])


def test_predict_writes_label_maps_overlays_and_records(
    run: Path, scenes: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    inputs = tmp_path / "in"
    shutil.copytree(scenes / "images" / "val", inputs)
    Image.fromarray(scene(7, (30, 70))[0]).convert("L").save(inputs / "grey.png")
    (inputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    out = tmp_path / "out"
    answer = call("predict", str(run), str(inputs), "--out", str(out), "-q")
    assert answer.status == 1
    assert "1 of 5 pictures failed; the label maps of the other 4 are written" in answer.err
    assert "broken.png" in answer.err
    with Image.open(out / "grey.png") as found:
        assert (found.mode, found.size) == ("P", (70, 30))
        assert set(np.unique(np.asarray(found))) <= {0, 1, 2}
    assert (out / "overlays" / "grey.png").is_file()
    told = json.loads((out / "predictions.json").read_text())
    assert told["classes"] == list(CLASSES)
    assert len(told["segmented"]) == 4
    assert sum(told["segmented"][0]["pixels"].values()) == 40 * 45
    again = call("predict", str(run), str(inputs / "100.png"), "--out", str(out), "-q")
    assert again.status == 2
    assert "--overwrite" in again.err
    options = ["--no-overlays", "--json", "--inference", "flip=true", "--overwrite"]
    answer = call("predict", str(run), str(inputs / "100.png"), "--out", str(out), "-q", *options)
    assert json.loads(answer.out)["written"][0]["overlay"] is None


def test_predict_refuses_what_it_cannot_do(run: Path, scenes: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    stray = call("predict", str(run), str(scenes), "--out", str(tmp_path), "--top", "3")
    assert stray.status == 2
    assert "predicts label maps" in stray.err
    twice = call("predict", str(run), str(scenes / "images"), str(scenes / "masks"), "--out", str(tmp_path / "x"))
    assert twice.status == 2
    assert "would both become" in twice.err
    nothing = call("predict", str(run), str(tmp_path / "none"), "--out", str(tmp_path / "x"))
    assert "does not exist" in nothing.err


def test_predicted_labels_are_those_that_are_scored(run: Path, scenes: Path) -> None:
    loaded = load_run(run)
    settings = loaded.experiment
    assert isinstance(settings, SemanticExperiment)
    predictor = loaded.predictor(device="cpu")
    metric = loaded.task.metric()
    built = settings.build(progress=False)
    for place, item in enumerate(built.validation):
        with Image.open(scenes / "images" / "val" / f"{100 + place}.png") as picture:
            labels = predictor(picture.convert("RGB"))
        metric.update(torch.from_numpy(labels)[None], item)
    assert metric.records == evaluate_run(run, progress=False)[1]


@pytest.mark.slow
def test_training_resumes_to_the_same_bits(small: list[str], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from fewpairs.train import Interrupted, RunFolder, fit

    experiment = load_experiment("fpn_pvt_v2_b0_nuclei", [*small, "fit.steps=4", "fit.checkpoint_every=2"])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_run(experiment, whole, resume=False, overwrite=False, progress=False)
    built = experiment.build(progress=False)

    class Stops(type(built.training)):  # type: ignore[misc]
        def __getitem__(self, key: tuple[int, int]) -> Any:
            if key[0] >= 2:
                raise Interrupted("enough")
            return super().__getitem__(key)

    built.training.__class__ = Stops
    parts_run = RunFolder(parts)
    parts_run.create(to_yaml(experiment))
    with pytest.raises(Interrupted):
        fit(
            built.model,
            experiment.training_task(built),
            built.training,
            collate=built.collate,
            config=experiment.fit,
            optimizer=experiment.optimizer,
            schedule=experiment.schedule,
            run=parts_run,
            evaluate_on=built.validation,
            progress=False,
        )
    train_run(experiment, parts, resume=True, overwrite=False, progress=False)
    one, two = load_file(whole / "last.safetensors"), load_file(parts / "last.safetensors")
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_compare_judges_two_encoders(small: list[str], tmp_path: Path, call: Callable[..., Any]) -> None:
    answer = call(
        "compare",
        "fpn_linglo_b0_nuclei",
        "fpn_pvt_v2_b0_nuclei",
        *small,
        "fit.steps=2",
        "fit.evaluate_every=2",
        "--seeds",
        "1",
        "--out",
        str(tmp_path / "comparison"),
        "-q",
    )
    assert answer.status == 0, answer.err
    report = json.loads(next((tmp_path / "comparison").glob("*.json")).read_text())
    assert [row["attention"] for row in report["rows"]] == ["own", "own"]
    assert set(report["rows"][1]["differences"]) == {"miou", "macc", "aacc"}


def test_every_recipe_of_the_kind_survives_yaml() -> None:
    found = [recipe() for recipe in RECIPES.values()]
    semantic = [experiment for experiment in found if isinstance(experiment, SemanticExperiment)]
    assert len(semantic) == 13
    for experiment in semantic:
        import yaml

        assert validate(yaml.safe_load(to_yaml(experiment))) == experiment


def test_the_papers_recipe_is_the_papers() -> None:
    experiment = RECIPES["fpn_linglo_b0_ade20k"]()
    assert isinstance(experiment, SemanticExperiment)
    assert (experiment.fit.steps, experiment.fit.batch_size, experiment.view.size) == (80_000, 16, (512, 512))
    assert (experiment.optimizer.name, experiment.optimizer.lr, experiment.optimizer.weight_decay) == (
        "adamw",
        1e-4,
        1e-4,
    )
    assert (experiment.schedule.name, experiment.schedule.power) == ("poly", 0.9)


def test_mistakes_in_files_are_one_message(
    scenes: Path, small: list[str], tmp_path: Path, call: Callable[..., Any]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    Image.fromarray(np.full((40, 44), 9, np.uint8)).save(root / "masks" / "train" / "0.png")
    changed = [word for word in small if not word.startswith("data.root")] + [f"data.root={root}"]
    answer = call("train", "fpn_pvt_v2_b0_nuclei", *changed, "--out", str(tmp_path / "run"), "-q")
    assert answer.status == 2
    assert "0.png holds the label 9, but the 3 classes have the labels 0 to 2" in answer.err
    assert "Traceback" not in answer.err
    with pytest.raises(DataError, match=r"0\.png holds the label 9"):
        load_experiment("fpn_pvt_v2_b0_nuclei", [*changed, "data.check=decode"]).build(progress=False)
    for override, message in (
        ("model.encoder=vit_tiny_patch16_224", "has no pyramid"),
        ("model.encoder=pvt_v3", "is not known"),
        ("fit.monitor=mioi", "did you mean 'miou'"),
        ("inference.mode=slid", "inference.mode='slid'"),
        ("augment.crop_share=2", "augment.crop_share"),
        ("data.kind=folder", "data.kind"),
    ):
        answer = call("train", "fpn_pvt_v2_b0_nuclei", *small, override, "--out", str(tmp_path / "other"), "-q")
        assert answer.status == 2, override
        assert message in answer.err, (override, answer.err)


def test_an_image_smaller_than_the_stride_and_without_scored_pixels(tmp_path: Path, small: list[str]) -> None:
    for part in ("train", "val"):
        for number, value in enumerate((0, 255)):
            image, labels = scene(number, (20, 21))
            labels[0, 0] = 1  # every class occurs
            labels = labels if value == 0 else np.full_like(labels, 255)
            for folder, pixels in (("images", image[:5, :9]), ("masks", labels[:5, :9])):
                path = tmp_path / "tiny" / folder / part / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    changed = [word for word in small if not word.startswith("data.root")] + [
        f"data.root={tmp_path / 'tiny'}",
        "view.size=[9, 9]",
        "fit.batch_size=1",
        "fit.steps=4",
    ]
    folder = tmp_path / "run"
    train_run(load_experiment("fpn_pvt_v2_b0_nuclei", changed), folder, resume=False, overwrite=False, progress=False)
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(losses))


def test_training_says_what_was_read_and_what_is_odd(
    scenes: Path, small: list[str], tmp_path: Path, call: Callable[..., Any]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = root / "images" / "train" / "0.png"
    Image.open(picture).save(picture.with_suffix(".jpg"), exif=exif)
    picture.unlink()
    (root / "masks" / "val" / "notes.txt").touch()
    changed = [word for word in small if not word.startswith("data.root")] + [f"data.root={root}", "fit.steps=2"]
    answer = call("train", "fpn_pvt_v2_b0_nuclei", *changed, "--out", str(tmp_path / "run"), "-q")
    assert answer.status == 0, answer.err
    notes = [line for line in answer.err.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: {root} is read as semantic in the layout label-maps: train 6, validation 3",
        "note: left out files that no reader takes: 1 x .txt (notes.txt)",
        "note: 1 images with an EXIF orientation, read as stored: the tag is not followed: train/0 (orientation 3)",
    ]
    shown = call("data", "check", str(root), "--kind", "label-maps", "classes=ground,disc,bar", "-q").out.splitlines()
    assert "read as semantic in the layout label-maps: train 6, validation 3" in shown
    assert set(notes[1:]) <= set(shown)


def test_masks_of_0_and_255_stop_training_and_the_check(
    small: list[str], scenes: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    for path in (root / "masks").glob("*/*.png"):
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).save(path)
    rest = [word for word in small if not word.startswith(("data.root", "data.source"))] + [f"data.root={root}"]
    train = ["train", "fpn_pvt_v2_b0_nuclei", *rest, "--out", str(tmp_path / "run"), "-q"]
    source = "data.source={classes: [back, thing], nonzero: false, split_file: null}"
    for words in ([*train, source], ["data", "check", str(root), "--kind", "label-maps", "classes=back,thing", "-q"]):
        answer = call(*words)
        assert answer.status == 2
        assert 'say data.source.classes="{back: 0, thing: 255}" or data.source.nonzero=true' in answer.err
        assert "Traceback" not in answer.err
    mended = "data.source={classes: {back: 0, thing: 255}, nonzero: false, split_file: null}"
    assert call(*train, mended, "fit.steps=2").status == 0
    pairs = [
        json.loads(line)["pairs"] for line in (tmp_path / "run" / "records-best.jsonl").read_text().splitlines()[1:]
    ]
    assert {pair[0] for one in pairs for pair in one} == {0, 1}


def test_data_check_counts_images_and_pixels(scenes: Path, call: Callable[..., Any], tmp_path: Path) -> None:
    words = ["data", "check", str(scenes), "--kind", "label-maps", "classes=ground,disc,bar", "-q"]
    told = call(*words)
    assert told.status == 0
    assert "9 images with label maps of 3 classes" in told.out
    found = json.loads(call(*words, "--decode", "--json").out)
    assert found["images"] == {"train": 6, "validation": 3}
    assert sum(found["pixels"]["validation"].values()) == sum(40 * (44 + n % 3) for n in (100, 101, 102))
    assert "%" in call(*words, "--decode").out
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "masks" / "val" / "101.png")
    words[2] = str(root)
    wrong = call(*words)
    assert wrong.status == 2
    assert "101.png has 40 rows" in wrong.err
    assert "did you mean 'classes'" in call("data", "check", str(root), "class=a", "--kind", "label-maps").err


def test_the_medical_kind_takes_any_encoder_too(tiny: list[str], tmp_path: Path) -> None:
    settings = [*tiny, "model.name=semantic_fpn_narrow", "model.encoder=linglo_nano", "model.attention=null"]
    experiment = load_experiment("setr_kv_small", [*settings, "fit.steps=2"])
    assert experiment.model.attention is None
    train_run(experiment, tmp_path / "run", resume=False, overwrite=False, progress=False)
    assert type(load_run(tmp_path / "run").model.encoder).__name__ == "Pyramid"


def test_inspect_looks_into_a_run(run: Path, scenes: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    picture = scenes / "images" / "val" / "100.png"
    answer = call("inspect", str(run), str(picture), "--out", str(tmp_path / "page"), "--layers", "0", "--no-gradients")
    assert answer.status == 0, answer.err
    assert any((tmp_path / "page").iterdir())
