"""Settings that the tests of swaps share."""

from __future__ import annotations

import pytest

from fewpairs.swap import model_cost


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swaps that do not count multiply-adds, which takes longer than all else: the receipt's tests do."""
    monkeypatch.setattr(model_cost, "input_size", lambda _model: None)
