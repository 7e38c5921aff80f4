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


def kept(folder: Path, content: bytes = CONTENT, name: str = "toy-0.so") -> Path:
    """A binary with its checksum, as the cache keeps it."""
    path = folder / name
    cache.build_once(path, lambda made: made.write_bytes(content) and None, 5.0)
    assert cache.find(path)
    return path


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_is_refused(mode: int, folder: Path) -> None:
    path = kept(folder)
    folder.chmod(mode)
    assert not cache.find(path)
    with pytest.raises(
        OSError, match=f"can be written by other users \\(mode {mode:o}\\), and what it holds would run"
    ):
        cache.build_once(path, lambda _: pytest.fail("built into it"), 5.0)
    folder.chmod(0o755)
    assert cache.find(path)


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = kept(folder), os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert not cache.find(path)
    with pytest.raises(OSError, match=f"belongs to another user \\(uid {other - 1}, not {other}\\)"):
        cache.build_once(path, lambda _: pytest.fail("built into it"), 5.0)


@pytest.mark.parametrize("suffix", [".so", ".sha256"])
@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_file_that_others_can_write_is_built_anew(suffix: str, mode: int, folder: Path) -> None:
    path = kept(folder)
    path.with_suffix(suffix).chmod(mode)
    assert not cache.find(path)
    kept(folder)
    assert path.with_suffix(suffix).stat().st_mode & 0o077 == 0


def test_what_is_made_is_for_its_user_alone_whatever_the_mask_says(folder: Path) -> None:
    before = os.umask(0)
    try:
        path = kept(folder)
    finally:
        os.umask(before)
    assert [file.stat().st_mode & 0o777 for file in (folder, path, path.with_suffix(".sha256"))] == [
        0o700,
        0o700,
        0o600,
    ]


@pytest.mark.parametrize("suffix", [".so", ".sha256"])
def test_a_link_in_a_binarys_place_is_replaced(suffix: str, folder: Path, tmp_path: Path) -> None:
    path = kept(folder)
    elsewhere = tmp_path / "elsewhere"
    path.with_suffix(suffix).rename(elsewhere)
    path.with_suffix(suffix).symlink_to(elsewhere)
    assert not cache.find(path)
    content = elsewhere.read_bytes()
    kept(folder)
    assert not path.with_suffix(suffix).is_symlink()
    assert elsewhere.read_bytes() == content


def test_a_folder_behind_a_link_is_the_users_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    folder.mkdir(mode=0o700)
    path = kept(tmp_path / "link")
    folder.chmod(0o777)
    assert not cache.find(path)


def test_a_pipe_in_a_binarys_place_does_not_hang(folder: Path) -> None:
    path = kept(folder)
    path.with_suffix(".sha256").unlink()
    os.mkfifo(path.with_suffix(".sha256"))
    assert not cache.find(path)


def test_the_binary_of_another_source_does_not_pass(folder: Path) -> None:
    """Its checksum is right under its own name, which holds the key of its source."""
    mine, other = kept(folder), kept(folder, b"another", "toy-1.so")
    for suffix in (".so", ".sha256"):
        mine.with_suffix(suffix).write_bytes(other.with_suffix(suffix).read_bytes())
    assert not cache.find(mine)
