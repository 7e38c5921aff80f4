"""Settings that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

settings.register_profile("latchkey", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("latchkey")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, which `LATCHKEY_DATA` names."""
    folder = os.environ.get("LATCHKEY_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LATCHKEY_DATA does not name a folder of real data sets")
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
