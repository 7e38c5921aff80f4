"""The drivers of `make sanitize` find nothing, and would find something if it was there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fewpairs.ops.native import Unavailable, compiler

FOLDER = Path(__file__).parent
OPERATORS = ("knn", "kv", "key_only")


@pytest.fixture(autouse=True)
def _a_compiler() -> None:
    try:
        compiler.command()
    except Unavailable as error:
        pytest.skip(str(error))


def sanitize(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(FOLDER / "run.py"), *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPERATORS)
def test_nothing_is_found(op: str) -> None:
    answer = sanitize("--op", op, "--cases", "60", "--seed", "1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "without a finding" in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("Memory<float> x(5); volatile int i = 5; x[i] = 1;", "heap-buffer-overflow"),
        ("volatile int i = 1 << 30; i = i * 4;", "signed integer overflow"),
        ('Memory<float> x(5); check_written(x, "x", "it");', "x holds NaN, in the case it"),
        (
            "Memory<float> x(4); Random r(1); must_refuse(r, flat(x, {4}), [](fewpairs::Tensor& a) { return "
            'std::vector<fewpairs::Tensor*>{&a}; }, [](const fewpairs::Tensor&) { return 0; }, "it");',
            "of tensor 0 is not refused, in the case it",
        ),
        ('fewpairs::Scratch s; Memory<float> x(1); x[0] = *s.floats(1); check_written(x, "x", "it");', "x holds NaN"),
    ],
)
def test_what_is_there_is_found(line: str, finding: str, tmp_path: Path) -> None:
    (tmp_path / "harness.h").write_text((FOLDER / "harness.h").read_text().replace("../..", str(FOLDER.parents[1])))
    (tmp_path / "run.py").write_text((FOLDER / "run.py").read_text())
    include = f'#include "{FOLDER.parents[1]}/src/fewpairs/ops/csrc/parallel.h"\n#include "harness.h"\n'
    (tmp_path / "bad.cpp").write_text(include + "using namespace sanitize;\nint main() { " + line + " }\n")
    command = [sys.executable, str(tmp_path / "run.py"), "--level", "portable"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert finding in answer.stderr
    assert "findings in bad (portable)" in answer.stderr


def test_every_operator_in_cpp_has_a_driver() -> None:
    sources = FOLDER.parents[1].glob("src/fewpairs/ops/*/csrc/*.cpp")
    assert {path.stem for path in sources} <= {path.stem for path in FOLDER.glob("*.cpp")}
