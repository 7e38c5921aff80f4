"""An experiment put together, from files to scores."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fewpairs.data.split import Split
from fewpairs.errors import CheckpointError, InputError
from fewpairs.kinds.segmentation.open_store import cache_folder, open_store
from fewpairs.kinds.segmentation.split import split_fraction, split_scans
from fewpairs.runs.config import load_experiment, to_yaml
from fewpairs.runs.training import evaluate, train
from fewpairs.train import RunFolder
from fewpairs.train.run_folder import weights_file


def test_build_joins_data_model_and_task(tiny: list[str]) -> None:
    experiment = load_experiment("setr_kv_small", [*tiny, "view.stack=3", "task.exclusive=true", "task.loss=null"])
    built = experiment.build(progress=False)
    assert built.model.in_channels == 3
    assert built.model.out_channels == len(built.task.classes) + 1
    sample = built.training[0, 0]
    assert built.model(sample.image[None]).shape == (1, 4, 32, 32)
    assert not set(built.note["train"]) & set(built.note["validation"])


def test_the_seed_decides_the_first_weights(tiny: list[str]) -> None:
    experiment = load_experiment("setr_kv_small", tiny)

    def weights(seed: int) -> torch.Tensor:
        parameters = experiment.with_seed(seed).build(progress=False).model.parameters()
        return torch.cat([p.detach().flatten() for p in parameters])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_cases_may_be_named_or_limited(tiny: list[str]) -> None:
    experiment = load_experiment("setr_kv_small", tiny)
    store, _ = open_store(experiment.data, progress=False)
    names = list(dict.fromkeys(scan.case for scan in store.scans))
    chosen = split_scans(store.scans, Split(cases=(names[1],)))
    assert chosen.validation == (names[1],)
    assert set(chosen.train) == set(names) - {names[1]}
    few = split_scans(store.scans, Split(limit=4, folds=2))
    assert {*few.train, *few.validation} == set(names[:4])
    assert split_scans(store.scans, Split(fraction=0.5, seed=1)) == split_fraction(store.scans, validation=0.5, seed=1)
    with pytest.raises(InputError, match="allowed are 2 to 6"):
        split_scans(store.scans, Split(limit=7))
    with pytest.raises(InputError, match="case999"):
        split_scans(store.scans, Split(cases=("case999",)))
    with pytest.raises(InputError, match="scans have no parts"):
        split_scans(store.scans, Split(validation="test"))
    with pytest.raises(InputError, match="a fraction of the cases has no folds"):
        split_scans(store.scans, Split(fraction=0.5, fold=1))


def test_the_cache_lies_apart_for_each_root_and_reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load_experiment("setr_kv_small").data
    folders = {
        cache_folder(data),
        cache_folder(replace(data, root="elsewhere")),
        cache_folder(replace(data, source=replace(data.source, axis=1))),
    }
    assert len(folders) == 3
    assert all(tmp_path in folder.parents for folder in folders)
    assert cache_folder(replace(data, cache="here")) == Path("here")


def test_weights_of_another_model_are_refused(tiny: list[str], trained: Path) -> None:
    other = load_experiment("setr_qkv_small", tiny)
    with pytest.raises(CheckpointError, match=r"attention\.project\.linear"):
        evaluate(other, trained, weights="best", progress=False)


def test_pretrained_weights_are_loaded_once_and_reported(tiny: list[str], trained: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(trained / "best.safetensors", weights)
    run = RunFolder(tmp_path / "run")
    experiment = load_experiment("setr_kv_small", [*tiny, f"model.pretrained={weights}", "optimizer.lr=1e-9"])
    run.create(to_yaml(experiment))
    train(experiment, run, progress=False)
    assert "tensors as they are" in (run.path / "pretrained.txt").read_text()
    start, end = (load_file(path) for path in (weights, run.best))
    for name, tensor in start.items():
        torch.testing.assert_close(end[name], tensor, rtol=1e-3, atol=1e-4)
    weights.unlink()
    assert evaluate(experiment, run.path, weights="best", progress=False).compute()["jaccard"] >= 0


def test_settings_reach_data_and_task(tiny: list[str]) -> None:
    plain = load_experiment("setr_kv_small", tiny).build(progress=False)
    overrides = [*tiny, "data.empty_fraction=0", "task.empty_rule=credit"]
    changed = load_experiment("setr_kv_small", overrides).build(progress=False)
    assert len(changed.training) < len(plain.training)
    assert changed.task.rule == "credit"


def test_a_run_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train first"):
        weights_file(tmp_path, "best")


def test_scores_do_not_depend_on_the_batch_size(tiny: list[str], trained: Path) -> None:
    experiment = load_experiment("setr_kv_small", tiny)
    one = evaluate(experiment, trained, weights="last", progress=False)
    other = evaluate(
        replace(experiment, fit=replace(experiment.fit, batch_size=3)), trained, weights="last", progress=False
    )
    assert one.compute() == pytest.approx(other.compute(), nan_ok=True)
