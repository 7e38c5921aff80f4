"""The reading order of the core: its files are there, and short enough to be read in an afternoon."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 2500


def test_the_reading_order_is_at_most_2500_lines_of_files_that_exist() -> None:
    page = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    files = re.findall(r"\]\(\.\./(src/fewpairs/[^)]+\.py)\)", page)
    assert len(files) == len(set(files)) > 12
    total = sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files)
    assert total <= LIMIT, f"{total} lines"


def test_it_leads_through_every_part_of_the_core() -> None:
    page = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    for part in ("types.py", "ops/dispatch.py", "reference.py", "attention/", "encoders/", "decoders/", "task.py",
                 "train/engine.py", "experiment.py"):  # fmt: skip
        assert f"src/fewpairs/{part}" in page or part in page, part
