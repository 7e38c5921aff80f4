"""Python of the documentation runs: here, or in the tests of its own page; what cannot run says why."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if page.name != "README.md"}
PAGES["README.md"] = ROOT / "README.md"

ELSEWHERE = {
    "README.md": "tests/test_docs.py",
    "attention.md": "tests/test_docs.py",
    "swap.md": "tests/swap/test_swap_docs.py",
    "swap-transformers.md": "tests/swap/test_swap_transformers.py",
    "detection-data.md": "tests/kinds/detection/test_detection_docs.py",
    "classification.md": "tests/kinds/classification/test_labelled_docs.py",
    "self-supervision.md": "tests/kinds/self_distillation/test_self_supervision_docs.py",
}
"""Pages whose Python the test of that file runs."""

NOT_RUN = {
    ("inspect.md", 0): "pretrained weights come from the network",
    ("models.md", 2): "the weights come from the network",
    ("comparison.md", 0): "two seeds of two recipes train for hours; tests/runs does the same on made data",
    ("semantic.md", 1): "the run comes from ADE20K; tests/kinds/semantic predicts with a run of their own",
    ("scores.md", 1): "three seeds of two recipes on ImageNet; tests/kinds/classification calls the same functions",
}
"""Examples that no test runs, by page and place, with the reason."""


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGES[page].read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_page(page: str, names: dict[str, Any]) -> None:
    for number, code in enumerate(blocks(page)):
        if (page, number) not in NOT_RUN:
            exec(compile(code, f"{page}, block {number}", "exec", dont_inherit=True), names)


def test_every_page_is_run_somewhere() -> None:
    with_python = {page for page in PAGES if blocks(page)}
    assert with_python == {*ELSEWHERE, *PREPARED, *(page for page, _ in NOT_RUN)}
    for page, place in ELSEWHERE.items():
        assert page in (ROOT / place).read_text(encoding="utf-8") or page == "README.md", place
    for page, number in NOT_RUN:
        assert number < len(blocks(page)), page


def runs(folder: Path, trained: Path, *names: str) -> None:
    for name in names:
        shutil.copytree(trained, folder / "runs" / name)


def prepare_prediction(folder: Path, trained: Path, phantom: Path) -> None:
    runs(folder, trained, "kv")
    (folder / "scans").mkdir()
    for number, slice_ in enumerate(sorted(phantom.rglob("slice_*.png"))[:2]):
        shutil.copy(slice_, folder / "scans" / f"scan{number}.png")


def prepare_scores(folder: Path, trained: Path, _phantom: Path) -> None:
    runs(folder, trained, "qkv", "kv")


def nothing(_folder: Path, _trained: Path, _phantom: Path) -> None:
    """The page needs no files."""


PREPARED: dict[str, Callable[[Path, Path, Path], None]] = {
    "prediction.md": prepare_prediction,
    "scores.md": prepare_scores,
    "transforms.md": nothing,
    "linglo.md": nothing,
    "models.md": nothing,
    "semantic.md": nothing,
    "detection.md": nothing,
}
"""Makes the files that a page speaks of, in the folder where its Python runs."""

LARGE = ("linglo.md", "models.md", "semantic.md", "detection.md")


@pytest.mark.parametrize("page", [pytest.param(one, marks=[pytest.mark.slow] * (one in LARGE)) for one in PREPARED])
def test_python_of_a_page_runs(
    page: str, tmp_path: Path, trained: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PREPARED[page](tmp_path, trained, phantom)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page, "image": torch.randn(1, 1, 40, 24)}
    if page == "prediction.md":
        del names["image"]
    run_page(page, names)
    if page == "prediction.md":
        assert names["masks"].shape == (3, 3, 80, 96)
        assert names["written"]
