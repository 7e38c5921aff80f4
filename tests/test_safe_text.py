"""Text from files is data in the terminal, Markdown, CSV and names of files."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from fewpairs.console import Console
from fewpairs.safe_text import csv_cell, file_name, file_names, markdown, one_line, same_file, visible

ANY = st.text(st.characters(), max_size=300)
NAMES = st.one_of(ANY, st.sampled_from(["", ".", "..", "../../x", "/etc/x", "CON", "nul.txt", "a. .", ".x", "C:\\x"]))


@given(ANY)
def test_no_control_character_stays_visible_text(text: str) -> None:
    for shown in (visible(text), one_line(text), markdown(text)):
        assert visible(shown) == shown
        shown.encode()
        assert not [letter for letter in shown if unicodedata.category(letter) == "Cc" and letter not in "\t\n"]
    assert "\n" not in one_line(text)
    assert "\n" not in markdown(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[31mred", "\\x1b[31mred"), ("a\rb", "a\\x0db"), ("x\u202egnp.exe", "x\\u202egnp.exe"), ("é−µ\n", "é−µ\n")],
)
def test_escape_codes_are_written_out_and_letters_stay(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["[/x]", "[bold]a", ":smile:", "\x1b[2J", "\x1b]8;;http://x\x1b\\link", "\udc80"])
@pytest.mark.parametrize("colours", [None, "truecolor"])
def test_the_console_takes_text_for_text_in_tables_titles_and_lines(text: str, colours: str | None) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=200, color_system=colours, force_terminal=colours is not None)
    table = Table(text, title=text)
    table.add_row(text)
    table.add_row(Text(text, style="bold"))
    console.print(table)
    console.print(text)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert shown.count(visible(text)) == 5
    assert "\x1b" not in shown


@given(ANY)
def test_no_cell_is_a_formula_and_text_can_be_read_back(text: str) -> None:
    cell = csv_cell(text)
    assert cell in (text, f"'{text}")
    number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", cell, re.IGNORECASE)
    assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize(("text", "cell"), [("=1+1", "'=1+1"), (" @x", "' @x"), ("-1.5e3", "-1.5e3"), ("a=b", "a=b")])
def test_cells(text: str, cell: str) -> None:
    assert csv_cell(text) == cell


@given(NAMES, st.sampled_from(["", ".png", ".nii.gz"]))
def test_a_name_is_one_file_inside_any_folder_on_any_system(text: str, ending: str) -> None:
    name = file_name(text, ending)
    assert name.endswith(ending)
    assert 0 < len(os.fsencode(name)) <= 255
    assert (Path("/out") / name).parent == Path("/out")
    assert PureWindowsPath(name).parts == (name,)
    assert not PureWindowsPath(name).is_reserved()
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert not set(name) & set('/\\:*?"<>|')
    assert visible(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("scan-01_a b.c", "scan-01_a b.c.png"),
        ("Größe µ", "Größe µ.png"),
        ("../../x", "_._.._x.png"),
        ("CON", "CON_.png"),
        ("lpt1.old", "lpt1_.old.png"),
        ("a\nb\x1b", "a_b_.png"),
    ],
)
def test_ordinary_names_stay_and_others_are_told_apart_by_eye(text: str, name: str) -> None:
    assert file_name(text, ".png") == name


def test_long_names_are_cut_and_stay_different() -> None:
    first, second = (file_name("é" * 200 + tail, ".nii.gz") for tail in "ab")
    assert first != second
    assert len(first.encode()) <= 255


@given(st.lists(NAMES, max_size=8))
def test_names_stay_different_on_systems_that_ignore_capitals(texts: list[str]) -> None:
    assert len({same_file(name) for name in file_names(texts)}) == len(texts)


def test_numbering() -> None:
    assert file_names(["a", "A", "a/b", "a_b", "A-2"]) == ("a", "A-2", "a_b", "a_b-2", "A-2-2")
