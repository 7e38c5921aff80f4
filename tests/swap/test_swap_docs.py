"""The page on swaps against the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fewpairs.swap.registry import families

PAGE = (Path(__file__).parents[2] / "docs" / "swap.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind == language]


@pytest.mark.usefixtures("forgotten")
def test_its_examples_run_and_print_what_it_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "swap_page"}
    for number, code in enumerate(blocks("python"), start=1):
        exec(compile(code, f"swap.md, block {number}", "exec", dont_inherit=True), names)
    shown = [block for block in blocks("") if block.startswith("VisionTransformer")]
    assert shown
    assert capsys.readouterr().out.startswith(shown[0])
    assert (tmp_path / "receipt.json").exists()


LIBRARIES = ("(timm)", "(MONAI)", "(segmentation_models_pytorch)", "(open_clip)")


def test_every_family_of_these_libraries_is_on_it() -> None:
    known = [family for family in families() if family.endswith(LIBRARIES)]
    assert len(known) >= 30
    for family in known:
        for name in re.split(r", | and |'s | of ", re.sub(r" \(\w+\)$", "", family)):
            assert name.removesuffix(" with rotary positions") in PAGE, family
