"""The table of kinds, and their options of `fewpairs predict`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fewpairs.cli.predict import with_flags
from fewpairs.kinds import KINDS, PREDICTIONS, experiment_kind, prediction_flags
from fewpairs.kinds.flags import Flag

COLOUR = Flag("--line-colour", str, "What lines are drawn in.", choices=("red", "blue"))
WIDTHS = Flag("--width", int, "Widths of lines.", least=1, repeated=True)


def test_the_table_names_the_classes() -> None:
    assert all(experiment_kind(name).kind == name for name in KINDS)
    assert set(PREDICTIONS) <= set(KINDS)


def test_a_name_means_one_option() -> None:
    names = [flag.name for flag in prediction_flags()]
    assert len(set(names)) == len(names)
    assert prediction_flags()[next(flag for flag in prediction_flags() if flag.key == "batch_size")] == (
        "masks",
        "classes",
    )


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A command with the options of all kinds, after one of them got two more."""
    predicts, flags = PREDICTIONS["detection"]
    monkeypatch.setitem(PREDICTIONS, "detection", (predicts, (*flags, COLOUR, WIDTHS)))

    def command(run: str, **flags: Any) -> None:
        typer.echo(repr({name: value for name, value in flags.items() if value}))

    return with_flags(command)


def test_a_kind_may_add_an_option_to_its_table_alone(offered: Callable[..., None]) -> None:
    assert {"line_colour", "width", "top"} <= set(inspect.signature(offered).parameters)
    app = typer.Typer()
    app.command()(offered)
    answer = CliRunner().invoke(app, ["x", "--line-colour", "red", "--width", "2", "--width", "3", "--separate"])
    assert answer.exit_code == 0, answer.output
    assert "'width': [2, 3]" in answer.output
    assert "'separate': True" in answer.output
    for wrong in (["--line-colour", "green"], ["--width", "0"], ["--top", "0"]):
        assert CliRunner().invoke(app, ["x", *wrong]).exit_code == 2
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    assert "Options for objects" in shown
    assert "Options for masks and classes" in shown
