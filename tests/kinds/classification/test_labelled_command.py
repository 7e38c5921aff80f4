from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fewpairs.cli.data import app
from fewpairs.errors import DataError, InputError


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["check", *map(str, arguments), "-q"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fails(*arguments: object) -> tuple[str, BaseException | None]:
    result = CliRunner().invoke(app, ["check", *map(str, arguments), "-q"])
    return result.output, result.exception


def test_counts_of_a_folder(pictures: Path) -> None:
    shown = call(pictures)
    assert "(folder): 21 images of 3 classes, colour" in shown
    assert [line.split() for line in shown.splitlines() if line.strip().startswith(("ant", "together"))] == [
        ["ant", "6", "2"],
        ["together", "15", "6"],
    ]
    counts = json.loads(call(pictures, "--json", "--decode"))
    assert counts["counts"]["validation"] == {"ant": 2, "bee": 2, "cat": 2}
    assert (counts["kind"], counts["channels"], counts["errors"]) == ("folder", 3, [])


def test_all_damage_is_listed_and_fails_at_the_end(pictures: Path) -> None:
    for name in ("train0.png", "train2.png"):
        (pictures / "train" / "cat" / name).write_bytes(b"")
    (pictures / "train" / "cat" / "notes.txt").write_text("x")
    output, error = fails(pictures)
    assert output.count("is empty (0 bytes)") == 2
    assert "note: left out" in output
    assert isinstance(error, DataError)
    assert "2 of 21 images" in str(error)
    listed = json.loads(fails(pictures, "--json")[0])
    assert len(listed["errors"]) == 2


def test_long_lists_of_classes_are_cut(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    for number in range(45):
        write_picture(tmp_path / f"c{number:02d}" / "a.png", mode="L")
    shown = call(tmp_path)
    assert "and 5 more" in shown
    assert "45 images of 45 classes, grey" in shown
    assert len(json.loads(call(tmp_path, "--json"))["classes"]) == 45


def test_options_of_the_layout(tmp_path: Path, write_idx: Callable[..., Path], pictures: Path) -> None:
    write_idx(tmp_path, [0, 1], prefix="a-")
    write_idx(tmp_path, [0, 1, 2], prefix="b-")
    assert json.loads(call(tmp_path, "name=b", "classes=x,y,z", "--json"))["classes"] == ["x", "y", "z"]
    (pictures / "val").rename(pictures / "held")
    assert "note: left out folders that are no part: held" in call(pictures)
    assert json.loads(call(pictures, "validation=held", "--json"))["images"] == 21


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nmae=x"], "no option 'nmae'; did you mean 'name'"),
        (["name"], "'name' must have the form field=value"),
        (["name=x"], "name: no option of the layout 'folder'"),
        (["--kind", "torchvision", "name=CIFAR10"], "the files of CIFAR10 are not whole"),
        (
            ["--kind", "torchvision", "name=CIFAR10", "download=maybe"],
            "download=maybe: Input should be a valid boolean",
        ),
        (["--kind", "mnist"], "unknown layout kind='mnist'"),
    ],
)
def test_wrong_calls(pictures: Path, arguments: list[str], message: str) -> None:
    error = fails(pictures, *arguments)[1]
    assert isinstance(error, InputError)
    assert message in str(error)


def test_folders_without_a_layout(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        error = fails(root)[1]
        assert isinstance(error, InputError)
        assert "give --kind (coco, voc, nuclei-masks, folder, imagenet, idx, torchvision, huggingface" in str(error)


def test_help_has_an_example() -> None:
    assert "Example: fewpairs data check" in CliRunner().invoke(app, ["check", "--help"]).output
