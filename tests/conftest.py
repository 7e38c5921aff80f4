"""Settings that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

settings.register_profile("fewpairs", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fewpairs")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the shape checks that only tests have, which `torch.compile` cannot trace."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, which `FEWPAIRS_DATA` names."""
    folder = os.environ.get("FEWPAIRS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FEWPAIRS_DATA does not name a folder of real data sets")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _poisoned_scratch() -> Iterator[None]:
    """Memory that nobody wrote reads as NaN, so that a result which depends on it shows."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.utils.deterministic.fill_uninitialized_memory = before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small phantom cases of one scan and four slices each, in the UW-Madison layout."""
    from fewpairs.kinds.segmentation.phantom.phantom import make_phantom

    return make_phantom(tmp_path_factory.mktemp("phantom") / "phantom", cases=6, seed=1, scale=0.12, days=1, slices=4)


@pytest.fixture(scope="session")
def tiny(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that make a small recipe train on the phantom in a second or two."""
    return [
        f"data.root={phantom}",
        f"data.cache={tmp_path_factory.mktemp('cache')}",
        "data.split.folds=3",
        "view.size=[32, 32]",
        "fit.steps=4",
        "fit.batch_size=2",
        "fit.evaluate_every=2",
        "fit.checkpoint_every=2",
        "fit.log_every=1",
        "fit.workers=0",
        "schedule.warmup=1",
    ]


@pytest.fixture(scope="session")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the phantom."""
    from fewpairs.runs.config import load_experiment
    from fewpairs.runs.run import train_run

    folder = tmp_path_factory.mktemp("runs") / "trained"
    torch.manual_seed(0)
    train_run(load_experiment("setr_kv_small", tiny), folder, resume=False, overwrite=False, progress=False)
    return folder
