"""The command line: each command parses, calls one function and prints. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys

import typer

from fewpairs import __version__
from fewpairs.cli import bench, compare, cost, data, demo, doctor, evaluate, inspect, kernels, models, predict, train
from fewpairs.cli.output import echo
from fewpairs.errors import FewpairsError, InputError

app = typer.Typer(
    name="fewpairs",
    help="Attention for vision transformers without all the query-key pairs: train, compare, predict, count.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("compare")(compare.compare)
app.command("cost")(cost.cost)
app.command("models")(models.models)
app.command("bench")(bench.bench)
app.command("inspect")(inspect.inspect)
app.command("kernels")(kernels.kernels)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"fewpairs {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Runs the command line with exit status 0, 1 (the work failed) or 2 (the call was wrong), without tracebacks."""
    try:
        app()
    except FewpairsError as error:
        sys.exit(_fail(str(error), 2 if isinstance(error, InputError) else 1))
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        sys.exit(_fail(f"the system refused{where}: {error.strerror or error}", 1))


def _fail(message: str, status: int) -> int:
    echo(f"fewpairs: {message}", err=True)
    return status
