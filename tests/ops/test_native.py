"""Building, keeping and loading of C++ libraries, when all is well."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from native_toy import FLOAT, INT, LONG, POINTER, SOURCE, counted, doubled, needs_compiler, start_afresh, works

from fewpairs.ops.native import Library, cache, check, library, machine

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return start_afresh(tmp_path, monkeypatch)


@needs_compiler
def test_built_once_on_first_use_then_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, compilations = counted(tmp_path)
    monkeypatch.setenv("CXX", str(compiler))
    first = Library("toy", SOURCE)
    assert not folder.exists()
    assert first.path is None
    assert works(first)
    assert first.path == folder / first.plan().file
    assert compilations() == 1
    again = Library("toy", SOURCE)
    assert works(again)
    assert again.path == first.path
    assert compilations() == 1
    kept = {path.suffix for path in folder.iterdir()}
    assert kept == {".so", ".sha256", ".lock"}


@needs_compiler
def test_a_binary_belongs_to_all_that_it_was_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "toy.cpp"
    shutil.copy(SOURCE, source)
    files = [Library("toy", source).plan().file]
    source.write_text(source.read_text() + "\n")
    files.append(Library("toy", source).plan().file)
    (tmp_path / "beside.h").write_text("#pragma once\n")
    files.append(Library("toy", source).plan().file)
    files.append(Library("toy", source, ("FEWPAIRS_POISON",)).plan().file)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.99.0")
        files.append(Library("toy", source).plan().file)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "cpu_flags", lambda: frozenset({"sse2"}))
        files.append(Library("toy", source).plan().file)
    with monkeypatch.context() as patch:
        patch.setenv("CXX", "g++ -g")
        files.append(Library("toy", source).plan().file)
    assert len(set(files)) == len(files)
    assert Library("toy", source).plan().file == files[2]


@needs_compiler
def test_shared_headers_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Library("toy", SOURCE).plan().file
    headers = shutil.copytree(library.HEADERS, tmp_path / "headers")
    monkeypatch.setattr(library, "HEADERS", headers)
    assert Library("toy", SOURCE).plan().file == before
    with (headers / "parallel.h").open("a") as file:
        file.write("// changed\n")
    assert Library("toy", SOURCE).plan().file != before


@given(
    flags=st.sets(st.sampled_from([*machine.LEVELS[0].needs, "sse2", "avx512_bf16"])),
    torch_says=st.sampled_from(["AVX512", "AVX512_VNNI", "AVX2", "DEFAULT", "NO AVX", "SVE256"]),
)
def test_no_instruction_that_the_cpu_lacks(flags: set[str], torch_says: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: torch_says)
        level = machine.level()
    assert flags.issuperset(level.needs)
    allowed = {"AVX512": 0, "AVX512_VNNI": 0, "AVX2": 1}.get(torch_says, 2)
    assert level == next(at for at in machine.LEVELS[allowed:] if flags.issuperset(at.needs))


def test_this_cpu_has_what_pytorch_says() -> None:
    assert machine.cpu_flags()
    if torch.backends.cpu.get_cpu_capability() in ("AVX512", "AVX2"):
        assert machine.level().name == torch.backends.cpu.get_cpu_capability()


@pytest.mark.parametrize(
    ("set_to", "expected"),
    [
        ({"FEWPAIRS_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/fewpairs/kernels"),
        ({"FEWPAIRS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/u"}, "/home/u/.cache/fewpairs/kernels"),
    ],
)
def test_where_the_cache_lies(set_to: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEWPAIRS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    assert cache.folder() == Path(expected)


@needs_compiler
@pytest.mark.usefixtures("unchecked")
def test_a_compiled_graph_takes_the_answer_for_a_constant() -> None:
    toy = Library("toy", SOURCE)

    def branch(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if toy.unavailable() is None else x - 1

    assert torch.compile(branch, fullgraph=True, backend="eager")(torch.zeros(2)).tolist() == [1, 1]


@needs_compiler
def test_nan_and_infinity_keep_their_meaning() -> None:
    toy = Library("toy", SOURCE)
    special = toy.function("toy_special", FLOAT, POINTER, POINTER)
    nan, infinite = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    seen = []
    for x in (1.0, float("nan"), float("-inf")):
        check(special(x, nan.data_ptr(), infinite.data_ptr()), "toy")
        seen.append((nan.item(), infinite.item()))
    assert seen == [(0, 0), (1, 0), (0, 1)]
    assert doubled(toy, torch.tensor([torch.inf])).tolist() == [torch.inf]


@needs_compiler
def test_scratch_is_aligned_poisoned_on_request_and_refuses_what_there_is_not() -> None:
    toy = Library("toy", SOURCE, ("FEWPAIRS_POISON",))
    scratch = toy.function("toy_scratch", LONG, LONG, INT, POINTER, POINTER)
    first, aligned = torch.zeros(1), torch.zeros(1, dtype=torch.int32)
    check(scratch(17, 5, 2, first.data_ptr(), aligned.data_ptr()), "toy")
    assert first.isnan().item()
    assert aligned.item() == 1
    check(scratch(0, 1, 1, first.data_ptr(), aligned.data_ptr()), "toy")
    for much in (2**46, 2**61, 2**63 - 1, -1):
        with pytest.raises(MemoryError, match="toy: there is not enough memory"):
            check(scratch(much, 5, 2, first.data_ptr(), aligned.data_ptr()), "toy")


def test_a_status_that_means_nothing_is_an_error() -> None:
    check(0, "knn")
    with pytest.raises(RuntimeError, match="knn: the kernel ended with status 2"):
        check(2, "knn")


@pytest.mark.slow
def test_a_wheel_holds_the_sources(tmp_path: Path) -> None:
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    arguments = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", *arguments], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").glob("fewpairs/ops/**/csrc/*.*")}
    assert "fewpairs/ops/csrc/parallel.h" in sources
    assert sources <= held
