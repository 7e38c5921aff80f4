"""The folder of built libraries: damaged, interrupted, and used by several processes at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from fewpairs.ops.native import Unavailable, cache

CONTENT = b"what was built"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def build(path: Path) -> None:
    path.write_bytes(CONTENT)


@pytest.mark.parametrize("fault", ["cut", "flipped", "no_sum", "wrong_sum", "binary_sum", "no_file"])
def test_a_damaged_cache_is_built_anew(fault: str, folder: Path) -> None:
    path = folder / "toy-0.so"
    checksum = path.with_suffix(".sha256")
    cache.build_once(path, build, 5.0)
    assert cache.find(path)
    {
        "cut": lambda: path.write_bytes(CONTENT[:-1]),
        "flipped": lambda: path.write_bytes(b"W" + CONTENT[1:]),
        "no_sum": checksum.unlink,
        "wrong_sum": lambda: checksum.write_text("0" * 64),
        "binary_sum": lambda: checksum.write_bytes(b"\xff\xfe"),
        "no_file": path.unlink,
    }[fault]()
    assert not cache.find(path)
    cache.build_once(path, build, 5.0)
    assert path.read_bytes() == CONTENT
    cache.build_once(path, lambda _: pytest.fail("built though it was there"), 5.0)


def test_a_build_that_breaks_off_leaves_nothing(folder: Path) -> None:
    def interrupted(path: Path) -> None:
        build(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build_once(folder / "toy-0.so", interrupted, 5.0)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    cache.build_once(folder / "toy-0.so", build, 5.0)


def test_processes_that_build_at_once_build_once(folder: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"

    def slowly(path: Path) -> None:
        with built.open("a") as file:
            file.write("x")
        time.sleep(0.3)
        build(path)

    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                cache.build_once(folder / "toy-0.so", slowly, 30.0)
                status = 0 if cache.find(folder / "toy-0.so") else 2
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert built.read_text() == "x"


def test_a_lock_that_nobody_gives_back(folder: Path) -> None:
    folder.mkdir()
    with (
        FileLock(folder / "toy-0.lock"),
        pytest.raises(Unavailable, match=r"has held .*toy-0.lock for more than 0.1 s"),
    ):
        cache.build_once(folder / "toy-0.so", build, 0.1)
