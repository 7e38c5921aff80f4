from __future__ import annotations

from pathlib import Path

from fewpairs.data.files import counted_suffixes, left_out_notes, other_files


def test_files_that_no_reader_takes_are_counted_and_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.HEIC", "c.heic", "README", ".DS_Store", "d.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder.txt").mkdir()
    others = other_files(tmp_path, (".png", ".nii.gz"))
    assert [path.name for path in others] == ["README", "b.HEIC", "c.heic"]
    assert left_out_notes(others) == ("left out files that no reader takes: 2 x .heic (b.HEIC), 1 x README (README)",)
    assert counted_suffixes(others) == "2 x .heic, 1 x README"
    assert left_out_notes([]) == ()
