"""A small C++ library, and compilers that misbehave, for the tests of `fewpairs.ops.native`."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewpairs.ops.native import Library, check, library

SOURCE = Path(__file__).parent / "csrc" / "toy.cpp"
POINTER, LONG, INT, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler here")


def start_afresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache below `folder`, no wishes of the user's, and nothing said yet."""
    for name in ("CXX", "FEWPAIRS_NATIVE", "FEWPAIRS_BUILD_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FEWPAIRS_CACHE", str(folder / "cache"))
    monkeypatch.setattr(library, "_said", set())
    return folder / "cache"


def doubled(toy: Library, x: Tensor, threads: int = 1) -> Tensor:
    """2 x, by the library."""
    y = torch.full_like(x, torch.nan)
    function = toy.function("toy_double", POINTER, POINTER, LONG, INT)
    check(function(x.data_ptr(), y.data_ptr(), x.numel(), threads), "toy")
    return y


def works(toy: Library) -> bool:
    """Whether the library is there and computes what it should."""
    x = torch.arange(100.0)
    return toy.unavailable() is None and torch.equal(doubled(toy, x, threads=2), 2 * x)


def script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def counted(folder: Path) -> tuple[Path, Callable[[], int]]:
    """A compiler that is g++ and counts how often it compiles, and the count."""
    calls = folder / "calls"
    calls.write_text("")
    compiler = script(folder / "counted", f'case "$*" in *" -c "*) echo x >> {calls};; esac\nexec g++ "$@"')
    return compiler, lambda: len(calls.read_text().split())
