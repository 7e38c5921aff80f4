"""Building of C++ libraries when something is wrong: one sentence, one notice, and the process goes on."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

import pytest
from native_toy import SOURCE, counted, needs_compiler, script, start_afresh, works

from fewpairs.ops.dispatch import KernelRefused
from fewpairs.ops.native import Library, cache, machine

CONTENT = b"what was built"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return start_afresh(tmp_path, monkeypatch)


def refused(source: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Why `source` cannot be had: the same sentence every time, and said once, whichever library meets it."""
    caplog.set_level(logging.WARNING, "fewpairs")
    first, second = Library("toy", source), Library("other", source)
    reason = first.unavailable()
    assert reason is not None
    assert "\n" not in reason
    assert first.unavailable() == reason
    assert second.unavailable() == reason
    with pytest.raises(KernelRefused, match="the C\\+\\+ kernels of toy cannot run"):
        first.function("toy_double")
    notices = [record.getMessage() for record in caplog.records]
    assert notices == [f"fewpairs: the C++ kernels are not used, slower ones replace them: {reason}"]
    return reason


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C++ compiler was found" in refused(SOURCE, caplog)


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such-compiler -m64", "CXX names, 'no-such-compiler', was not found"), ("'g++", "is not a command")],
)
def test_a_compiler_that_is_not_there(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", name)
    assert message in refused(SOURCE, caplog)


@needs_compiler
def test_a_source_that_does_not_compile(tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("int broken( {\n")
    reason = refused(source, caplog)
    assert "g++ failed" in reason
    assert "broken.cpp:1:14: error" in reason
    assert not list(folder.glob("*.so")) + list(folder.glob(".building-*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('echo "out of licences" >&2; exit 3', "failed (out of licences)"),
        ("exit 4", "failed (status 4)"),
        ('case "$*" in *--version*) echo "odd 1.0";; esac', "wrote no file"),
    ],
)
def test_a_compiler_that_fails(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", str(script(tmp_path / "odd", text)))
    assert message in refused(SOURCE, caplog)


@pytest.mark.parametrize("hangs_at", ["--version", " -c "])
def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    hangs_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = f'case "$*" in *"{hangs_at}"*) sleep 60 & echo $! > {tmp_path}/child; wait;; *) echo odd 1.0;; esac'
    monkeypatch.setenv("CXX", str(script(tmp_path / "slow", hanging)))
    monkeypatch.setenv("FEWPAIRS_BUILD_TIMEOUT", "0.5")
    start = time.monotonic()
    assert "slow was stopped after 0.5 s; FEWPAIRS_BUILD_TIMEOUT" in refused(SOURCE, caplog)
    assert time.monotonic() - start < 20
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    for _ in range(100):
        if not child.exists() or child.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the compiler started still runs")


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_a_time_limit_that_is_none(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FEWPAIRS_BUILD_TIMEOUT", text)
    assert f"FEWPAIRS_BUILD_TIMEOUT={text!r} must be a number of seconds" in refused(SOURCE, caplog)


def test_switched_off_in_silence(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("FEWPAIRS_NATIVE", "0")
    assert Library("toy", SOURCE).unavailable() == "switched off by FEWPAIRS_NATIVE=0"
    assert not caplog.records


def test_another_system(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "need Linux, and this is win32" in refused(SOURCE, caplog)


@needs_compiler
def test_a_missing_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "gone.cpp cannot be read: No such file" in refused(tmp_path / "gone.cpp", caplog)


@needs_compiler
def test_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEWPAIRS_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert works(Library("toy", SOURCE))
    assert not list(tmp_path.glob("fewpairs-*"))
    assert "cannot be used (Not a directory), so every process compiles its own" in caplog.text
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert "cannot be loaded" in str(Library("toy", SOURCE).unavailable())


@needs_compiler
def test_a_binary_that_the_system_does_not_load(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    toy = Library("toy", SOURCE)
    path = folder / toy.plan().file
    folder.mkdir()
    path.write_bytes(CONTENT)
    path.with_suffix(".sha256").write_text(cache.checksum(path, CONTENT))
    assert works(toy)
    assert "file too short), so every process compiles its own" in caplog.text
    monkeypatch.setattr(machine, "pool_of_torch", lambda: (Path("/nowhere/libgomp.so"), 1))
    assert "failed" in str(Library("toy", SOURCE).unavailable())


@needs_compiler
def test_a_second_openmp_runtime_is_refused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    true = machine.pool_of_torch()
    assert true is not None
    monkeypatch.setattr(machine, "pool_of_torch", lambda: (true[0], true[1] + 64))
    assert "another OpenMP runtime" in refused(SOURCE, caplog)


@needs_compiler
def test_a_binary_for_a_better_cpu_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    compiler, compilations = counted(tmp_path)
    monkeypatch.setenv("CXX", str(compiler))
    assert works(Library("toy", SOURCE))
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"sse2", "popcnt"}))
    lesser = Library("toy", SOURCE)
    assert lesser.plan().level == "portable"
    assert not [option for option in lesser.plan().options if option.startswith("-m")]
    assert works(lesser)
    assert compilations() == 2
    assert len(list(folder.glob("*.so"))) == 2


@needs_compiler
def test_no_home_falls_to_a_folder_of_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("FEWPAIRS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    with pytest.raises(OSError, match="cache folder is not known"):
        cache.folder()
    assert works(Library("toy", SOURCE))
    assert "every process compiles its own" in caplog.text


@needs_compiler
@pytest.mark.parametrize("share", [0.0005, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_binary_cut_off_with_a_checksum_of_its_own_is_built_anew(share: float, folder: Path, tmp_path: Path) -> None:
    """The system's loader would map what is missing, and end the process with a bus error."""
    assert works(Library("toy", SOURCE))
    path = folder / Library("toy", SOURCE).plan().file
    whole = path.read_bytes()
    cut = whole[: int(len(whole) * share) + 5]
    replacement = tmp_path / "cut"  # the process has mapped the first one
    replacement.write_bytes(cut)
    replacement.chmod(0o700)
    replacement.replace(path)
    path.with_suffix(".sha256").write_text(cache.checksum(path, cut))
    assert not cache.find(path)
    assert works(Library("toy", SOURCE))
    assert path.read_bytes()[:4] == b"\x7fELF"
    assert len(path.read_bytes()) == len(whole)


@needs_compiler
def test_a_folder_that_others_can_write_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    assert works(Library("toy", SOURCE))
    assert not list(folder.iterdir())
    assert (
        "can be written by other users (mode 777), and what it holds would run as you), so every process" in caplog.text
    )


@needs_compiler
def test_two_libraries_of_the_cache_are_two() -> None:
    """They are loaded by descriptors, and the system knows a library by its name."""
    toys = [Library("toy", SOURCE), Library("toy", SOURCE, ("FEWPAIRS_POISON",))]
    assert all(works(toy) for toy in toys)
    assert len({toy._loaded._handle for toy in toys if toy._loaded is not None}) == 2
