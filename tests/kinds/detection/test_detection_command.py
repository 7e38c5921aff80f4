from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from detection_files import make_coco, make_maps, make_voc, voc_file, voc_object

from fewpairs.cli import main


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`call("data", "check", "photos")` runs `fewpairs data check photos` in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["fewpairs", *arguments])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = 0 if end.code is None else int(end.code)
        out, err = capsys.readouterr()
        return Answer(status, out, err)

    return run


def test_check_counts_and_names(call: Call, tmp_path: Path) -> None:
    make_voc(tmp_path)
    voc_file(tmp_path, "a", voc_object("cat", (5, 5, 5, 5)), voc_object("dog", (0, 0, 60, 40)))
    answer = call("data", "check", str(tmp_path), "--decode", "-q")
    assert answer.status == 0, answer.err
    assert "(voc): 5 images, 4 objects of 2 classes, boxes alone" in answer.out
    assert "note: 1 boxes without area, left out: a.xml object 1 (cat) (5,5,5,5)" in answer.out
    assert "parts: train is the layout's own" in answer.out


@pytest.mark.parametrize(("make", "kind"), [(make_coco, "coco"), (make_maps, "nuclei-masks"), (make_voc, "voc")])
def test_check_finds_the_layout_out(call: Call, tmp_path: Path, make: Callable[[Path], Path], kind: str) -> None:
    answer = call("data", "check", str(make(tmp_path)), "--json")
    content = json.loads(answer.out)
    assert answer.status == 0, answer.err
    assert content["kind"] == kind
    assert content["errors"] == []
    assert content["counts"]["train"]["images"] >= 1


def test_check_lists_what_is_wrong(call: Call, tmp_path: Path) -> None:
    make_coco(tmp_path, lambda content: content["annotations"][0].update(category_id=99))
    (tmp_path / "train2017" / "2.png").unlink()
    answer = call("data", "check", str(tmp_path))
    assert answer.status == 2
    assert "has 2 errors; the first: " in answer.err
    assert "error: objects of unknown category ids or classes: instances_train2017.json annotation 1" in answer.out
    assert "Traceback" not in answer.err
    skipped = call("data", "check", str(tmp_path), "on_error=skip")
    assert skipped.status == 0


def test_check_decodes_on_demand(call: Call, tmp_path: Path) -> None:
    make_coco(tmp_path)
    path = tmp_path / "train2017" / "1.png"
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    assert call("data", "check", str(tmp_path)).status == 0
    answer = call("data", "check", str(tmp_path), "--decode", "-q")
    assert answer.status == 2
    assert "1.png is not a readable picture" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["difficult=maybe"], "difficult="),
        (["dificult=keep"], "did you mean 'difficult'"),
        (["difficult"], "must have the form field=value"),
        (["val_fraction=2"], "set data.split.fraction in training"),
    ],
)
def test_wrong_calls_are_one_message(call: Call, tmp_path: Path, arguments: list[str], message: str) -> None:
    make_voc(tmp_path / "voc")
    answer = call("data", "check", str(tmp_path / "voc"), *arguments, "-q")
    assert answer.status == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
