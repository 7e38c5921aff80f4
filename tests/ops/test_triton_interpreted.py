"""Triton's kernels under its interpreter, in processes of their own: see `triton_cases`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fewpairs.ops.triton.refusal import INTERPRETED

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(INTERPRETED, reason="this is the process of its own")

OPERATORS = ("knn", "kv", "key_only")


def run_interpreted(files: list[Path], *options: str) -> None:
    """Run tests with the interpreter on.

    Raises:
        AssertionError: one fails, or there is none; the text is their report.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, files), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def files_of(*operators: str) -> list[Path]:
    return [Path(__file__).with_name(f"test_triton_{name}.py") for name in operators]


def test_kernels_agree_with_the_references() -> None:
    run_interpreted(files_of(*OPERATORS), "-m", "not slow and not gpu")


def test_rows_without_a_key() -> None:
    run_interpreted([Path(__file__).with_name("test_empty_rows.py")], "-k", "triton")


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_kernels_agree_with_the_references_on_longer_rows(operator: str) -> None:
    run_interpreted(files_of(operator), "-m", "slow and not gpu")


@pytest.mark.slow
def test_the_contract_of_all_kernels() -> None:
    contract = Path(__file__).parents[1] / "contracts" / "test_kernels.py"
    run_interpreted([contract], "-k", "triton and not 196 and not 197")
