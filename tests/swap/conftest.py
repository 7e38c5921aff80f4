"""Settings that the tests of swaps share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fewpairs.swap import model_cost, registry


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swaps that do not count multiply-adds, which takes longer than all else: the receipt's tests do."""
    monkeypatch.setattr(model_cost, "input_size", lambda _model: None)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Adapters that a test registers are forgotten after it."""
    kept = dict(registry._BY_TYPE)
    yield
    registry._BY_TYPE.clear()
    registry._BY_TYPE.update(kept)
