"""Self-distillation from files to scores: it learns without labels, resumes to the bit, and hands its encoder on."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from fewpairs.attention import KNN, KV, Variant
from fewpairs.errors import InputError
from fewpairs.kinds.classification.experiment import (
    ClassificationDataConfig,
    ClassificationExperiment,
    ClassificationModelConfig,
)
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.self_distillation.experiment import (
    SelfDistillationExperiment,
    SelfDistillationModelConfig,
    SelfDistillationTaskConfig,
)
from fewpairs.kinds.self_distillation.multicrop import MultiCrop
from fewpairs.models.dino import DinoPair, ProjectionHead, TeacherSchedule
from fewpairs.runs.config import load_experiment, to_yaml
from fewpairs.runs.run import evaluate_run, load_run, train_run
from fewpairs.runs.training import train
from fewpairs.train import FitConfig, Interrupted, OptimizerConfig, RunFolder, ScheduleConfig, fit, read_log
from fewpairs.train import evaluate as score
from fewpairs.train.recorder import RunRecorder

COARSENESS = {"coarse": 2, "medium": 4, "fine": 8, "finest": 16}


def draw(root: Path, training: int, validation: int) -> Path:
    """So many random patterns a class, of 16x16 pixels in cells of four sizes, a class each."""
    rng = np.random.default_rng(5)
    for part, count in (("train", training), ("val", validation)):
        for name, cells in COARSENESS.items():
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pattern = rng.integers(0, 2, (cells, cells)) * 160 + 40
                noisy = np.kron(pattern, np.ones((16 // cells, 16 // cells))) + rng.normal(0, 12, (16, 16))
                picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
                picture.save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 images to train on and 16 to validate on."""
    return draw(tmp_path_factory.mktemp("textures"), 8, 4)


def experiment(
    root: Path, attention: Variant = KNN(topk=0.5), crops: dict[str, Any] | None = None, **fit: Any
) -> SelfDistillationExperiment:
    settings: dict[str, Any] = {"steps": 4, "batch_size": 8, "clip": 3.0, "monitor": "knn_top1", "device": "cpu"}
    settings |= {"evaluate_every": 50, "checkpoint_every": 50, "log_every": 1, **fit}
    return SelfDistillationExperiment(
        name="textures",
        model=SelfDistillationModelConfig(attention=attention, outputs=64, hidden=64, bottleneck=32),
        data=ClassificationDataConfig(root=str(root)),
        view=LabelledView(size=(16, 16), channels=1, crop_pct=1.0),
        crops=MultiCrop(**{"local_size": (8, 8), "local_crops": 2, "blur": 0.0, "solarise": 0.0, **(crops or {})}),
        teacher=TeacherSchedule(momentum=0.96, warmup=settings["steps"] // 2, temperature=0.04, freeze=1),
        task=SelfDistillationTaskConfig(neighbours=5),
        fit=FitConfig(**settings),
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.04, weight_decay_end=0.4),
        schedule=ScheduleConfig(warmup=1),
    )


def run(one: SelfDistillationExperiment | ClassificationExperiment, folder: Path, *, resume: bool = False) -> None:
    """Training alone, without the report."""
    if not resume:
        RunFolder(folder).create(to_yaml(one))
    train(one, RunFolder(folder), resume=resume, progress=False)


@pytest.fixture(scope="module")
def trained(textures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "dino"
    train_run(experiment(textures), folder, resume=False, overwrite=False, progress=False)
    return folder


def test_a_run_leaves_what_others_leave(trained: Path, textures: Path) -> None:
    names = {entry.name for entry in trained.iterdir()}
    assert {"best.safetensors", "last.safetensors", "records-best.jsonl", "report.html", "data.json"} <= names
    lines = read_log(trained / "metrics.jsonl")
    assert len(lines) == 4
    assert all(line["terms"].keys() == {"entropy", "divergence"} for line in lines)
    assert all(line["loss"] == pytest.approx(sum(line["terms"].values())) for line in lines)
    assert [line["scores"].keys() for line in lines if "scores" in line] == [{"knn_top1", "spread"}]
    assert len((trained / "records-best.jsonl").read_text().splitlines()) == 1 + 16
    loaded = load_run(trained)
    assert loaded.experiment == load_experiment(trained / "config.yaml") == experiment(textures)
    assert loaded.classes == tuple(sorted(COARSENESS))


def test_the_stored_scores_are_the_logged_ones(trained: Path) -> None:
    loaded, records = evaluate_run(trained, weights="last", progress=False)
    last = read_log(trained / "metrics.jsonl")[-1]["scores"]
    assert loaded.scoring.scores(records)["knn_top1"] == pytest.approx(last["knn_top1"])


def test_the_report_tells_the_cost_of_the_encoder_alone(textures: Path) -> None:
    built = experiment(textures).build(progress=False)
    assert built.costed is built.model.teacher.encoder
    assert len(built.validation) == 2
    assert {item.part for item in built.validation} == {"bank", "query"}


def test_the_last_layer_is_frozen_and_the_teacher_follows(textures: Path, tmp_path: Path) -> None:
    one = replace(experiment(textures), teacher=TeacherSchedule(momentum=0.5, freeze=3))
    start = {name: value.clone() for name, value in one.build(progress=False).model.state_dict().items()}
    run(one, tmp_path / "run")
    end = {n.removeprefix("model."): v for n, v in load_file(tmp_path / "run" / "last.safetensors").items()}
    assert not torch.equal(start["student.head.direction"], end["student.head.direction"])
    assert int(end["_extra_state"]) == 4
    assert not torch.equal(start["teacher.head.mlp.0.weight"], end["teacher.head.mlp.0.weight"])
    assert not torch.equal(end["teacher.head.mlp.0.weight"], end["student.head.mlp.0.weight"])
    entries = load_file(tmp_path / "run" / "last.safetensors")
    assert int(entries["optimizer.student.head.direction.step"]) == 1
    assert int(entries["optimizer.student.head.mlp.0.weight.step"]) == 4


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bits(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = experiment(textures, steps=4, accumulate=2, batch_size=4)
    run(one, tmp_path / "straight")
    step = RunRecorder.step

    def stopping(recorder: RunRecorder) -> None:
        step(recorder)
        if recorder.position.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(RunRecorder, "step", stopping)
        with pytest.raises(Interrupted):
            run(one, tmp_path / "parts")
    run(one, tmp_path / "parts", resume=True)
    straight, parts = (load_file(tmp_path / name / "last.safetensors") for name in ("straight", "parts"))
    assert straight.keys() == parts.keys()
    for name in straight:
        assert torch.equal(straight[name], parts[name]), name
    assert straight["model.centre"].abs().max() > 0


@pytest.mark.parametrize("attention", [KNN(topk=0.5), KV()])
def test_its_encoder_goes_into_a_classifier(textures: Path, tmp_path: Path, attention: Variant) -> None:
    folder = tmp_path / "dino"
    run(experiment(textures, attention, steps=2), folder)
    weights = load_file(folder / "best.safetensors")
    probe = ClassificationExperiment(
        model=ClassificationModelConfig(
            attention=attention, frozen=True, probe_blocks=2, pretrained=str(folder / "best.safetensors")
        ),
        data=ClassificationDataConfig(root=str(textures)),
        view=LabelledView(size=(16, 16), channels=1, crop_pct=1.0),
        augment=None,
        fit=FitConfig(steps=2, batch_size=8, monitor="top1", device="cpu"),
        optimizer=OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.0),
    )
    run(probe, tmp_path / "probe")
    after = load_file(tmp_path / "probe" / "last.safetensors")
    names = [name.removeprefix("model.encoder.") for name in after if name.startswith("model.encoder.")]
    assert len(names) > 50
    for name in names:
        assert torch.equal(after[f"model.encoder.{name}"], weights[f"model.teacher.encoder.{name}"]), name
    assert "new" not in (tmp_path / "probe" / "pretrained.txt").read_text().splitlines()[1:]


def test_it_starts_from_pretrained_weights(trained: Path, textures: Path) -> None:
    one = experiment(textures)
    again = replace(one, model=replace(one.model, pretrained=str(trained / "best.safetensors")))
    built = again.build(progress=False)
    report = again.start(built)
    assert report is not None
    expected = load_file(trained / "best.safetensors")["model.teacher.encoder.blocks.0.norm1.bias"]
    pair: Any = built.model
    for encoder in (pair.student.encoder, pair.teacher.encoder):
        assert torch.equal(encoder.state_dict()["blocks.0.norm1.bias"], expected)


def test_a_bank_of_some_of_the_images(textures: Path) -> None:
    one = experiment(textures)
    few = replace(one, task=replace(one.task, bank=10)).build(progress=False).validation
    assert sum(len(item.ids) for item in few if item.part == "bank") == 10
    assert sum(len(item.ids) for item in few if item.part == "query") == 16


def test_mistakes(textures: Path) -> None:
    one = experiment(textures)
    with pytest.raises(InputError, match=r"fit\.ema=0\.99: the teacher"):
        experiment(textures, ema=0.99)
    with pytest.raises(InputError, match=r"fit\.repeats=3"):
        experiment(textures, repeats=3)
    with pytest.raises(InputError, match=r"fit\.maximise=False would keep the worst"):
        experiment(textures, maximise=False)
    with pytest.raises(InputError, match=r"task\.bank=0"):
        SelfDistillationTaskConfig(bank=0)
    with pytest.raises(InputError, match=r"crops\.local_size=\[9, 8\]: vit_nano cannot take crops of this size"):
        experiment(textures, crops={"local_size": (9, 8)}).build(progress=False)
    with pytest.raises(InputError, match=r"crops\.local_size=\[8, 8\]: swin_nano"):
        replace(one, model=replace(one.model, name="swin_nano")).build(progress=False)
    with pytest.raises(InputError, match=r"local_scale=\(0\.5, 0\.1\)"):
        load_experiment_with(one, "crops.local_scale=[0.5, 0.1]")


def load_experiment_with(one: SelfDistillationExperiment, override: str) -> None:
    from fewpairs.runs.config import merge, parse_override, to_dict, validate

    validate(merge(to_dict(one), [parse_override(override)]))


def small_pair(steps: int, **schedule: Any) -> DinoPair:
    """Two blocks, 24 wide, which learn within a minute."""
    torch.manual_seed(0)
    student, teacher = (
        VisionTransformer(
            img_size=16, patch_size=4, in_chans=1, num_classes=0, embed_dim=24, depth=2, num_heads=3,
            dynamic_img_size=True,
        )
        for _ in range(2)
    )  # fmt: skip
    head = ProjectionHead(24, 64, hidden=64, bottleneck=32)
    return DinoPair(student, teacher, head, TeacherSchedule(temperature=0.04, **schedule), steps=steps)


def test_a_student_learns_what_a_fixed_teacher_says(textures: Path) -> None:
    built = experiment(textures).build(progress=False)
    batch = built.collate([built.training[0, index] for index in range(16)])
    pair = small_pair(20, momentum=1.0, centre_momentum=1.0).train()
    optimizer = torch.optim.AdamW([p for p in pair.parameters() if p.requires_grad], lr=1e-3)
    divergences, entropies = [], []
    for _ in range(20):
        terms = built.task.loss(pair(batch.image), batch)
        optimizer.zero_grad()
        terms["divergence"].backward()
        optimizer.step()
        pair.after_step()
        divergences.append(terms["divergence"].item())
        entropies.append(terms["entropy"].item())
    assert divergences[-1] < 0.5 * divergences[0]
    assert entropies == pytest.approx(entropies[:1] * 20)


@pytest.mark.slow
def test_it_learns_without_labels(tmp_path: Path) -> None:
    """Features spread out, neighbours agree more than before, and the loss is better than the uniform answer's."""
    steps = 300
    built = experiment(draw(tmp_path / "textures", 48, 20)).build(progress=False)
    pair = small_pair(steps, momentum=0.96)
    before = score(pair, built.task, built.validation, device="cpu", batch_size=64).compute()
    fit(
        pair,
        built.task,
        built.training,
        collate=built.collate,
        config=FitConfig(steps=steps, batch_size=32, clip=3.0, monitor="knn_top1", device="cpu", evaluate_every=steps),
        optimizer=OptimizerConfig(lr=5e-4, weight_decay=0.04),
        schedule=ScheduleConfig(warmup=100),
        run=RunFolder(tmp_path / "run"),
        evaluate_on=built.validation,
        progress=False,
    )
    last = read_log(tmp_path / "run" / "metrics.jsonl")[-1]
    after = last["scores"]
    assert after["spread"] > 1.2 * before["spread"]
    assert after["knn_top1"] > before["knn_top1"]
    assert last["loss"] < math.log(64) - 0.1, "64 outputs: a uniform answer costs log(64)"


@pytest.mark.slow
def test_two_processes_train_as_one(textures: Path, tmp_path: Path) -> None:
    one = experiment(textures, batch_size=8, steps=4)
    one = replace(one, model=replace(one.model, drop_path=0.0))
    run(one, tmp_path / "one")
    (tmp_path / "two.yaml").write_text(to_yaml(replace(one, fit=replace(one.fit, batch_size=4))))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "fewpairs"]
    done = subprocess.run(
        [*launcher, "train", str(tmp_path / "two.yaml"), "--out", str(tmp_path / "two"), "--quiet"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    alone, both = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for name in alone:
        if name.startswith("model."):
            torch.testing.assert_close(both[name], alone[name], rtol=1e-3, atol=1e-4, msg=name)
    assert json.loads((tmp_path / "two" / "data.json").read_text())["train"] == 32
