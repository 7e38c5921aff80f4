from __future__ import annotations

import errno
import os
import pickle
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import nn
from train_toy import ToyModel, same_bits, toy_model

from fewpairs.errors import CheckpointError, TrainingError
from fewpairs.train import RunFolder, checkpoint, load_weights, read_history, read_metadata
from fewpairs.train.checkpoint import read_checkpoint, write_checkpoint


def weights(model: nn.Module, prefix: str = "model.") -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in model.state_dict().items()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    write_checkpoint(path, weights(toy_model(seed=1)), {"step": 7, "weights": "ema"})
    return path


def test_round_trip_keeps_bits_shapes_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {
        "model.a": torch.randn(3, 4).t(),
        "model.b": torch.tensor(2.5),
        "rng.0.torch": torch.get_rng_state(),
        "model.h": torch.randn(5).bfloat16(),
        "model.none": torch.zeros(0, 3),
    }
    write_checkpoint(path, tensors, {"step": 3, "lr": 0.1 + 0.2})
    read, metadata = read_checkpoint(path)
    assert same_bits(read, tensors)
    assert metadata == read_metadata(path) == {"format": 1, "step": 3, "lr": 0.1 + 0.2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_weights_come_back_with_what_is_known_of_them(saved: Path) -> None:
    model = toy_model(seed=2)
    assert load_weights(saved, model)["weights"] == "ema"
    assert same_bits(dict(model.state_dict()), dict(toy_model(seed=1).state_dict()))


def test_last_prefers_the_average_and_lets_choose(tmp_path: Path) -> None:
    path, raw, average = tmp_path / "last.safetensors", toy_model(seed=1), toy_model(seed=2)
    write_checkpoint(path, weights(raw) | weights(average, "ema."), {})
    for choice, expected in ((None, average), ("ema", average), ("model", raw)):
        model = toy_model(seed=3)
        load_weights(path, model, weights=choice)  # type: ignore[arg-type]
        assert same_bits(dict(model.state_dict()), dict(expected.state_dict()))


def test_last_gives_the_weights_that_the_run_scores(tmp_path: Path) -> None:
    path, raw, average = tmp_path / "last.safetensors", toy_model(seed=1), toy_model(seed=2)
    for scored, expected in (("model", raw), ("ema", average)):
        write_checkpoint(path, weights(raw) | weights(average, "ema."), {"scored": scored})
        model = toy_model(seed=3)
        load_weights(path, model)
        assert same_bits(dict(model.state_dict()), dict(expected.state_dict()))


def test_asking_for_an_average_that_was_not_kept(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no 'ema' weights; it holds: model"):
        load_weights(saved, toy_model(), weights="ema")


def test_tied_weights_are_stored_under_both_names(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    path, one, other = tmp_path / "x.safetensors", tied(), tied()
    write_checkpoint(path, weights(one), {})
    load_weights(path, other)
    assert same_bits(dict(one.state_dict()), dict(other.state_dict()))
    assert other[1].weight is other[0].weight


def test_views_of_one_tensor_are_stored_apart(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    write_checkpoint(tmp_path / "x.safetensors", {"model.a": whole[:6], "model.b": whole[4:]}, {})
    read, _ = read_checkpoint(tmp_path / "x.safetensors")
    assert same_bits(read, {"model.a": whole[:6], "model.b": whole[4:]})


def test_checkpoints_of_the_first_name_are_read(saved: Path, tmp_path: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        tensors, entries = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    old = tmp_path / "old.safetensors"
    save_file(tensors, old, metadata={"format": "pt", "latchkey": entries["fewpairs"]})
    assert read_metadata(old) == read_metadata(saved)
    assert load_weights(old, toy_model()) == load_weights(saved, toy_model())


def test_another_model_lists_names_counts_and_shapes(saved: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        load_weights(saved, ToyModel(width=4))
    assert "of another shape: embed.weight (8x1x3x3 in the file, 4x1x3x3 in the model)" in str(error.value)
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_weights(saved, model)
    assert "8 missing from the file: 0.weight, 0.bias, 1.weight, 1.bias, ...;" in str(error.value)
    assert "6 unknown to the model: embed.bias" in str(error.value)
    assert same_bits(dict(model.state_dict()), before)


@given(keep=st.floats(0, 0.999))
def test_a_truncated_file_is_refused_at_any_length(tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "best.safetensors"
    write_checkpoint(path, weights(toy_model()), {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CheckpointError, match="is truncated or not a safetensors file"):
        load_weights(path, toy_model())


class Payload:
    """Would leave a file behind, if it were ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["best.safetensors", "best.pt"])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickled_code_is_refused_and_never_run(tmp_path: Path, name: str, writer: str) -> None:
    path, trace = tmp_path / name, tmp_path / "trace"
    if writer == "torch":
        torch.save({"weight": Payload(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Payload(trace)}))
    with pytest.raises(CheckpointError, match=r"could run code"):
        load_weights(path, toy_model())
    assert not trace.exists()


def test_plain_state_dicts_are_read(tmp_path: Path) -> None:
    source = toy_model(seed=1)
    torch.save(source.state_dict(), tmp_path / "a.pt")
    torch.save({"state_dict": source.state_dict()}, tmp_path / "b.pth")
    save_file(dict(source.state_dict()), tmp_path / "c.safetensors")
    for name in ("a.pt", "b.pth", "c.safetensors"):
        model = toy_model(seed=2)
        assert load_weights(tmp_path / name, model) == {}
        assert same_bits(dict(model.state_dict()), dict(source.state_dict()))


def test_foreign_files_say_why(tmp_path: Path) -> None:
    foreign = tmp_path / "scan.safetensors"
    foreign.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        load_weights(foreign, toy_model())
    with pytest.raises(CheckpointError, match="No such file"):
        load_weights(tmp_path / "none.safetensors", toy_model())
    with pytest.raises(CheckpointError, match="No such file"):
        load_weights(tmp_path / "none.pt", toy_model())
    with pytest.raises(CheckpointError, match="Is a directory"):
        load_weights(tmp_path, toy_model())
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match="not a checkpoint of fewpairs"):
        read_metadata(foreign)
    save_file({"x": torch.zeros(1)}, foreign, metadata={"fewpairs": '{"format": 99}'})
    with pytest.raises(CheckpointError, match="format 99; this fewpairs reads format 1"):
        load_weights(foreign, toy_model())
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_weights(tmp_path / "list.pt", toy_model())


def left_over(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_disk_that_fills_up_while_writing_keeps_the_previous(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fills_up(tensors: dict[str, torch.Tensor], filename: Path, metadata: dict[str, str]) -> None:
        filename.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "save_file", fills_up)
    with pytest.raises(TrainingError, match=r"No space left on device; the previous best\.safetensors is intact"):
        write_checkpoint(saved, weights(toy_model(seed=9)), {})
    assert saved.read_bytes() == before
    assert left_over(saved.parent) == ["best.safetensors"]


def test_an_interruption_while_writing_keeps_the_previous(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def interrupted(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(saved, weights(toy_model(seed=9)), {})
    assert saved.read_bytes() == before
    assert left_over(saved.parent) == ["best.safetensors"]


def test_the_systems_own_refusal_of_a_large_file(saved: Path) -> None:
    before, limits = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"File too large.*the previous best\.safetensors is intact"):
            write_checkpoint(saved, {"model.large": torch.zeros(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert left_over(saved.parent) == ["best.safetensors"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    path = tiny_disk / "last.safetensors"
    write_checkpoint(path, weights(toy_model(seed=1)), {})
    with pytest.raises(TrainingError, match=r"No space left on device.*the previous last\.safetensors is intact"):
        write_checkpoint(path, {"model.large": torch.zeros(100_000)}, {})
    assert same_bits(load_file(path), weights(toy_model(seed=1)))
    assert left_over(tiny_disk) == ["last.safetensors"]


def test_a_missing_folder_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"could not write checkpoint .*no x\.safetensors was there before"):
        write_checkpoint(tmp_path / "none" / "x.safetensors", {}, {})


def test_metadata_of_great_depth_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(save({"model.a": torch.zeros(1)}, metadata={"fewpairs": '{"format": 1, "a": ' + "[" * 100_000}))
    with pytest.raises(CheckpointError, match=r"the metadata of .* is damaged"):
        read_metadata(path)


POSITIONS = [None, [], {}, {"step": "x"}, {"step": None}, {"step": 1, "other": 2}, {"step": True}]


@pytest.mark.parametrize("position", POSITIONS)
def test_a_position_that_is_none_is_one_message(tmp_path: Path, position: object) -> None:
    run = RunFolder(tmp_path)
    write_checkpoint(run.last, {"model.a": torch.zeros(1)}, {"kind": "last", "position": position})
    with pytest.raises(CheckpointError, match="does not say how far its training was"):
        read_history(run)
