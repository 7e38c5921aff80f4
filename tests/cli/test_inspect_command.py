"""`fewpairs inspect` as a user calls it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fewpairs.attention import KNN
from fewpairs.cli.inspect import parse_layers, parse_queries
from fewpairs.errors import CheckpointError, InputError
from fewpairs.inspection.layers import find_cores
from fewpairs.inspection.open_model import open_model
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.models.classifiers import create_classifier
from fewpairs.models.dino import DinoPair, ProjectionHead, TeacherSchedule


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def test_a_named_model(call: Any, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    answer = call("inspect", "vit_nano", str(photo), "--out", str(out), "--queries", "3,15 39,49", "--layers", "0,-1")
    assert answer.status == 0, answer.err
    assert "The weights are random" in answer.out
    assert "blocks.5.attn" in answer.out
    assert len(list((out / "layers").iterdir())) == 2
    content = json.loads((out / "inspection.json").read_text())
    assert content["subject"]["command"].startswith("fewpairs inspect vit_nano ")
    # the middle 40 x 40 pixels of the picture became 28 x 28
    assert content["queries"] == [[pytest.approx(3.5 * 0.7), pytest.approx(5.5 * 0.7)], [pytest.approx(27.65)] * 2]
    assert content["layers"][0]["kept"] == 25


def test_a_model_of_timms(call: Any, photo: Path, tmp_path: Path) -> None:
    options = (
        "--attention",
        "knn9",
        "--layers",
        "0",
        "--no-gradients",
        "--size",
        "32,48",
        "--out",
        str(tmp_path / "o"),
    )
    answer = call("inspect", "vit_tiny_patch16_224", str(photo), *options)
    assert answer.status == 0, answer.err
    content = json.loads((tmp_path / "o" / "inspection.json").read_text())
    assert content["size"] == [32, 48]
    assert content["layers"][0]["grid"] == [2, 3]
    assert content["layers"][0]["kept"] == 7


def test_a_run_folder(call: Any, trained: Path, tmp_path: Path) -> None:
    Image.fromarray(np.arange(900, dtype=np.uint8).reshape(30, 30)).save(tmp_path / "slice.png")
    answer = call("inspect", str(trained), str(tmp_path / "slice.png"), "--out", str(tmp_path / "o"))
    assert answer.status == 0, answer.err
    content = json.loads((tmp_path / "o" / "inspection.json").read_text())
    assert content["subject"]["untrained"] is False
    assert content["layers"][0]["attention"] == "kv"
    refused = call("inspect", str(trained), str(tmp_path / "slice.png"), "--pretrained")
    assert refused.status == 2
    assert "has weights of its own" in refused.err


def test_weights_from_a_file(photo: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    weights = create_classifier("vit_nano").state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    opened = open_model("vit_nano", weights=tmp_path / "w.safetensors")
    assert not opened.untrained
    assert torch.equal(opened.model.state_dict()["head.weight"], weights["head.weight"])


def test_weights_for_other_classes_are_refused_until_they_are_asked_for(tmp_path: Path) -> None:
    weights = create_classifier("vit_nano", classes=3, in_channels=1).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"head.weight is \[3, 64\], and \[1000, 64\] in the model"):
        open_model("vit_nano", channels=1, weights=tmp_path / "w.safetensors")
    opened = open_model("vit_nano", channels=1, classes=3, weights=tmp_path / "w.safetensors")
    assert torch.equal(opened.model.state_dict()["head.weight"], weights["head.weight"])
    assert opened.view.channels == 1


@pytest.mark.parametrize(("attention", "kept"), [(None, KNN(100)), ("knn", KNN(100)), ("knn7", KNN(7))])
def test_knn_by_name_keeps_what_the_architecture_keeps(attention: str | None, kept: KNN) -> None:
    model = open_model("deit_tiny_patch16_224", attention).model
    assert {core.variant for core in find_cores(model).values()} == {kept}


class Finished:
    """A run of one picture size, in the place of `load_run`."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.classes = model.eval(), ("cat", "dog")
        self.experiment = SimpleNamespace(view=LabelledView(size=(28, 28)))


@pytest.mark.parametrize(
    ("options", "kept"), [([], [25] * 6), (["-a", "knn7"], [7] * 6), (["-a", "softmax"], [None] * 6)]
)
def test_a_run_of_a_classifier(
    options: list[str], kept: list[int | None], call: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Finished(create_classifier("vit_nano", attention="knn", classes=2, in_channels=1))
    monkeypatch.setattr("fewpairs.runs.run.load_run", lambda _folder: run)
    answer = call("inspect", str(tmp_path), str(photo), *options, "--layers", "0", "--out", str(tmp_path / "o"))
    assert answer.status == 0, answer.err
    content = json.loads((tmp_path / "o" / "inspection.json").read_text())
    assert [layer["kept"] for layer in content["layers"]] == kept
    assert content["target"]["name"] in run.classes


def test_a_run_of_self_distillation_shows_its_teacher(
    call: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = (create_classifier("vit_nano", attention="knn", classes=0, in_channels=1) for _ in range(2))
    pair = DinoPair(student, teacher, ProjectionHead(64, 8, hidden=8, bottleneck=4), TeacherSchedule(), steps=9)
    monkeypatch.setattr("fewpairs.runs.run.load_run", lambda _folder: Finished(pair))
    answer = call("inspect", str(tmp_path), str(photo), "--layers", "0", "--out", str(tmp_path / "o"))
    assert answer.status == 0, answer.err
    content = json.loads((tmp_path / "o" / "inspection.json").read_text())
    assert len(content["layers"]) == 6
    assert content["target"] is None


def test_weights_from_a_file_for_a_model_of_timms(tmp_path: Path) -> None:
    import timm

    model = timm.create_model("test_vit", num_classes=1000)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    opened = open_model("test_vit", "knn", weights=tmp_path / "w.safetensors")
    assert torch.equal(opened.model.state_dict()["head.weight"], model.state_dict()["head.weight"])
    save_file({"head.weight": torch.zeros(2, 2), "x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"belongs to another model: x is not in the model; .*; and \d+ more"):
        open_model("test_vit", "knn", weights=tmp_path / "other.safetensors")


def test_the_seed_decides_the_weights() -> None:
    one, same, other = (open_model("vit_nano", seed=seed).model.state_dict()["head.weight"] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_attention_as_yaml(call: Any, photo: Path, tmp_path: Path) -> None:
    options = ("--no-gradients", "--layers", "0", "--out", str(tmp_path / "o"))
    answer = call("inspect", "cvt_nano", str(photo), "--attention", "[{name: knn, topk: 0.25}, knn3]", *options)
    assert answer.status == 0, answer.err
    content = json.loads((tmp_path / "o" / "inspection.json").read_text())
    for layer in content["layers"]:
        first = layer["name"].startswith("stages.0.")
        assert layer["kept"] == (math.floor(0.25 * layer["keys"] + 0.5) if first else 3), layer["name"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vit_nanno"], "model 'vit_nanno' is neither one of fewpairs nor of timm; did you mean 'vit_nano' or"),
        (["resnet18"], "ResNet has no attention layer that can be swapped"),
        (["vit_nano", "--queries", "40,0"], "query 40,0 (row, column) lies outside photo.jpg of 40 x 60 pixels"),
        (["vit_nano", "--queries", "0,0"], "outside the part of photo.jpg that the model sees"),
        (["vit_nano", "--queries", "4"], "--queries '4' must be a row and a column"),
        (["vit_nano", "--layers", "6"], "layer 6 does not exist"),
        (["vit_nano", "--layers", "stage*"], "no attention layer's name fits 'stage*'"),
        (["vit_nano", "--target", "1000"], "target=1000 is no class"),
        (["vit_nano", "--attention", "knm"], "did you mean 'knn'"),
        (["vit_nano", "--attention", "knn0"], "topk=0"),
        (["vit_nano", "--attention", "[knn"], "must be a name, such as knn or knn100, or YAML"),
        (["vit_nano", "--size", "a"], "--size 'a' must be height and width"),
        (["vit_nano", "--pretrained"], "there are no weights to download"),
        (["vit_nano", "--pretrained", "--weights", "x.pth"], "two sources of weights"),
        (["vit_nano", "--weights", "nowhere.pth"], "nowhere.pth: there is no such file"),
        (["vit_nano", "--device", "gpu"], "device='gpu' is unknown to PyTorch"),
    ],
)
def test_a_wrong_call_is_one_message(
    arguments: list[str], message: str, call: Any, photo: Path, tmp_path: Path
) -> None:
    model, *options = arguments
    answer = call("inspect", model, str(photo), *options, "--out", str(tmp_path / "out"))
    assert answer.status == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_an_unreadable_image_is_one_message(content: bytes, call: Any, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    answer = call("inspect", "vit_nano", str(tmp_path / "x.png"))
    assert answer.status == 2
    assert "x.png" in answer.err
    missing = call("inspect", "vit_nano", str(tmp_path / "y.png"))
    assert missing.status == 2
    assert "y.png" in missing.err


def test_queries_and_layers_are_parsed() -> None:
    assert parse_queries(["1,2 3.5,4", "5,6"]) == [(1, 2), (3.5, 4), (5, 6)]
    assert parse_queries(None) is None
    assert parse_layers(["0,-1", "blocks.1* 3"]) == [0, -1, "blocks.1*", 3]
    with pytest.raises(InputError, match="'1,2,3' must be a row and a column"):
        parse_queries(["1,2,3"])
