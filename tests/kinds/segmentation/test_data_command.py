from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fewpairs
from fewpairs.errors import DataError, InputError


@pytest.fixture(scope="module")
def command() -> ModuleType:
    """The sub-command's module by itself, without its siblings."""
    path = Path(fewpairs.__file__).parent / "cli" / "data.py"
    spec = importlib.util.spec_from_file_location("fewpairs_data_command", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def call(command: ModuleType, *arguments: object) -> str:
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_phantom_then_check(command: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "uw"
    call(command, "phantom", root, "--cases", 3, "--scale", 0.12, "--days", 1, "--slices", 5, "--quiet")
    shown = call(command, "check", root, "--quiet")
    assert "3 scans of 3 cases" in shown
    assert "stomach" in shown
    counts = json.loads(call(command, "check", root, "--json", "--quiet"))
    assert (counts["kind"], counts["slices"], counts["errors"]) == ("uw-madison", 15, [])


def test_classes_by_name_and_by_label(command: ModuleType, decathlon: Path) -> None:
    for classes in ("a,b", "[a, b]", "{b: 2, rest: 1}"):
        assert json.loads(call(command, "check", decathlon, f"classes={classes}", "--json", "-q"))["scans"] == 4
    whole = json.loads(call(command, "check", decathlon, "classes={whole: [1, 2]}", "--json", "-q"))
    assert list(whole["voxels"]) == ["whole"]


def test_damage_is_listed_and_fails_at_the_end(command: ModuleType, decathlon: Path) -> None:
    path = decathlon / "imagesTr" / "scan_1.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    result = CliRunner().invoke(command.app, ["check", str(decathlon), "classes=a,b", "-q"])
    assert isinstance(result.exception, DataError)
    assert "error: scan_1" in result.output
    assert "3 scans of 3 cases" in result.output
    assert "1 scans of" in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["classes={a: x}"],
        ["colours={a: [1, 2]}"],
        ["other_labels=skip", "classes=a"],
        ["clases=a"],
        ["classes"],
        ["--for", "segmenting"],
        ["--for", "detection", "--kind", "msd"],
        ["--for", "semantic"],
        ["--kind", "dicom"],
        ["classes=a,a"],
    ],
)
def test_wrong_calls(command: ModuleType, decathlon: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(command.app, ["check", str(decathlon), *arguments])
    assert isinstance(result.exception, InputError)


def test_every_command_has_an_example(command: ModuleType) -> None:
    for name in ("check", "phantom", "prepare"):
        assert "Example: fewpairs data" in call(command, name, "--help")


def test_prepare_takes_the_same_fields(command: ModuleType, decathlon: Path, tmp_path: Path) -> None:
    shown = call(command, "prepare", decathlon, "classes=a,b", "axis=1", "--cache", tmp_path / "cache", "-q")
    assert "4 scans of 4 cases" in shown


def test_the_layout_folder_is_that_of_the_kind_asked_for(command: ModuleType, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.ones((3, 4), np.uint8)).save(tmp_path / folder / "a.png")
    words = ["--json", "-q", "classes=a"]
    for more in ([], ["--kind", "folder"]):
        found = json.loads(call(command, "check", tmp_path, "--for", "segmentation", *more, *words))
        assert (found["kind"], found["slices"]) == ("folder", 1)
    pictures = json.loads(call(command, "check", tmp_path, "--kind", "folder", "--json", "-q"))
    assert pictures["classes"] == ["images", "masks"]
    with pytest.raises(InputError, match=r"holds images beside masks, which are no classes; give --for segmentation"):
        call(command, "check", tmp_path, "-q")


def test_the_layouts_are_those_of_each_kind(command: ModuleType) -> None:
    for kind, layouts in command.LAYOUTS.items():
        module = importlib.import_module(f"fewpairs.kinds.{kind}.layouts.open")
        assert set(layouts) == set(module.LAYOUTS)
