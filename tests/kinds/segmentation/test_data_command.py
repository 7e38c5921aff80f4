from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
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


def test_phantom_then_inspect(command: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "uw"
    call(command, "phantom", root, "--cases", 3, "--scale", 0.12, "--days", 1, "--slices", 5, "--quiet")
    shown = call(command, "inspect", root, "--quiet")
    assert "3 of 3 cases" in shown
    assert "stomach" in shown
    counts = json.loads(call(command, "inspect", root, "--json", "--quiet"))
    assert (counts["kind"], counts["slices"], counts["errors"]) == ("uw-madison", 15, [])


def test_classes_by_name_and_by_label(command: ModuleType, decathlon: Path) -> None:
    for classes in ("a,b", "a=1,b=2", "b=2, rest=1"):
        assert json.loads(call(command, "inspect", decathlon, "--classes", classes, "--json", "-q"))["scans"] == 4
    whole = json.loads(call(command, "inspect", decathlon, "--classes", "whole=1+2", "--json", "-q"))
    assert list(whole["voxels"]) == ["whole"]


def test_damage_is_listed_and_fails_at_the_end(command: ModuleType, decathlon: Path) -> None:
    path = decathlon / "imagesTr" / "scan_1.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    result = CliRunner().invoke(command.app, ["inspect", str(decathlon), "--classes", "a,b", "-q"])
    assert isinstance(result.exception, DataError)
    assert "error: scan_1" in result.output
    assert "3 of 3 cases" in result.output
    assert "1 scans of" in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--classes", "a=x"],
        ["--colour", "a=1,2"],
        ["--other-labels", "skip", "--classes", "a"],
        ["--kind", "dicom"],
        ["--classes", "a,a"],
    ],
)
def test_wrong_calls(command: ModuleType, decathlon: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(command.app, ["inspect", str(decathlon), *arguments])
    assert isinstance(result.exception, InputError)


def test_every_command_has_an_example(command: ModuleType) -> None:
    for name in ("inspect", "phantom", "prepare"):
        assert "Example: fewpairs data" in call(command, name, "--help")
