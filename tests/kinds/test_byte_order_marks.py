"""Tables and lists that begin with a byte-order mark, as Windows writes them, are read as those without."""

from __future__ import annotations

import shutil
from pathlib import Path

from fewpairs.kinds.detection.layouts.open import open_detection
from fewpairs.kinds.semantic.names import read_names

GOLDEN = Path(__file__).parents[1] / "golden" / "inputs"


def test_class_names_and_coco_files_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfsea\nland\n")
    assert read_names(tmp_path / "names.txt") == ("sea", "land")
    root = shutil.copytree(GOLDEN / "objects", tmp_path / "objects")
    plain = open_detection("coco", root)
    for path in (root / "annotations").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    marked = open_detection("coco", root)
    assert marked.classes == plain.classes
    assert marked.table.boxes.tolist() == plain.table.boxes.tolist()
