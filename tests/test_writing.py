"""Files are written whole, only inside the folder, links are replaced, and remains of killed processes go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fewpairs.errors import InputError
from fewpairs.writing import TEMPORARY, atomic_path, check_inside, remove_leftovers, replace_text


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "out" / "records.json"
    link.parent.mkdir()
    victim.write_text("precious")
    link.symlink_to(victim)
    replace_text(link, "new")
    assert victim.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("a." + "b" * 253)
    with atomic_path(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


@pytest.mark.parametrize("path", ["../x", "sub/../../x", "link/x", "/etc/x", "link/deeper/x", ".."])
def test_paths_that_lead_out_of_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leads out of the folder"):
        check_inside(folder, [folder / "fine.png", folder / path])


def test_paths_inside_are_allowed_also_where_the_folder_itself_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    check_inside(tmp_path / "out", [tmp_path / "out" / "a", tmp_path / "out" / "overlays" / "b"])
    check_inside(tmp_path / "new", [tmp_path / "new" / "a"])


def test_only_our_old_temporary_files_are_removed(tmp_path: Path) -> None:
    now = time.time()
    names = [f"{TEMPORARY}old.png", f"{TEMPORARY}new.png", "writing-of-mine.txt", ".last.safetensors.abc.tmp"]
    for name in names:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (now - 100, now - 100))
    os.utime(tmp_path / names[1], (now + 5, now + 5))
    (tmp_path / f"{TEMPORARY}folder").mkdir()
    (tmp_path / f"{TEMPORARY}link").symlink_to(tmp_path / names[2])
    remove_leftovers(tmp_path, before=now)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[1:], f"{TEMPORARY}folder", f"{TEMPORARY}link"}
