"""Reports on disk: written whole, read back equal, and a folder that cannot be written is one clear message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fewpairs.errors import DataError, InputError
from fewpairs.report import Comparison, comparison_report, read_comparison, write_comparison, write_run


@pytest.fixture
def brief(comparison: Comparison) -> Comparison:
    """The comparison with few figures, which take most of the time."""
    rows = (replace(row, curves=(), scores={"jaccard": row.scores["jaccard"]}) for row in comparison.rows)
    return replace(comparison, rows=tuple(rows))


def test_a_comparison_comes_back_from_its_folder(brief: Comparison, tmp_path: Path) -> None:
    written = write_comparison(brief, tmp_path / "new" / "report")
    assert written.html.read_text(encoding="utf-8") == comparison_report(brief)
    assert written.markdown.read_text(encoding="utf-8").startswith("# QKV against KV")
    assert [path.read_bytes() for path in written.pictures] == [
        overlay.png for row in brief.rows for overlay in row.overlays
    ]
    back = read_comparison(written.json)
    assert back == brief.with_overlay_files()[0]
    again = write_comparison(back, written.json.parent)
    assert again.json.read_bytes() == written.json.read_bytes()


def test_a_run_report_is_one_file(comparison: Comparison, tmp_path: Path) -> None:
    page = write_run(replace(comparison, rows=comparison.rows[1:]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "kv attention" in page.read_text(encoding="utf-8")


def test_what_cannot_be_written_or_read_is_named(brief: Comparison, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write the report"):
        write_comparison(brief, tmp_path / "file")
    with pytest.raises(DataError, match=r"none\.json: cannot read the comparison"):
        read_comparison(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"file: not a fewpairs comparison"):
        read_comparison(tmp_path / "file")


def test_nothing_is_written_where_a_link_or_a_name_leads(brief: Comparison, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "overlays").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of the folder"):
        write_comparison(brief, tmp_path / "out")
    for name in ("../x", "/etc/x", "CON", "a/b"):
        with pytest.raises(InputError, match="cannot be the name of a file"):
            write_comparison(brief, tmp_path / "out", name=name)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.html").symlink_to(tmp_path / "victim")
    write_run(replace(brief, rows=brief.rows[1:]), tmp_path / "run")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not list((tmp_path / "elsewhere").iterdir())
