from __future__ import annotations

import subprocess
import sys

import pytest

from fewpairs.data.memory import available_memory, check_memory
from fewpairs.errors import DataError


def test_what_is_needed_and_what_is_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewpairs.data.memory.available_memory", lambda: 2**30)
    check_memory(2**30, "it", "cut it")
    with pytest.raises(DataError, match=r"^it needs 3\.00 GiB of memory, and 1\.00 GiB are available; cut it$"):
        check_memory(3 * 2**30, "it", "cut it")


def test_nothing_is_refused_where_the_memory_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewpairs.data.memory.available_memory", lambda: None)
    check_memory(2**60, "it", "cut it")


def test_a_limit_on_the_address_space_counts() -> None:
    pytest.importorskip("resource")
    code = (
        "import resource; from fewpairs.data.memory import available_memory; "
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); print(available_memory())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0 < int(shown) < 2**31
    assert (available_memory() or 1) > 0
