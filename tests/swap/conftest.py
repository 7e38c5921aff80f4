"""Settings that the tests of swaps share."""

from __future__ import annotations

import pytest

from fewpairs.swap import accounts


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swaps that do not count multiply-adds, which takes longer than all else: the receipt's tests do."""
    monkeypatch.setattr(accounts, "input_size", lambda _model: None)
