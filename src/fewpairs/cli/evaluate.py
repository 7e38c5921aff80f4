"""`fewpairs evaluate`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Weights(StrEnum):
    """The checkpoints of a run."""

    best = "best"
    last = "last"


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder that `fewpairs train` made.")],
    weights: Annotated[Weights, typer.Option(help="The best by the monitored score, or the last.")] = Weights.best,
    inference: Annotated[
        list[str] | None,
        typer.Option(help="For label maps: an inference setting to change, such as flip=true; repeatable."),
    ] = None,
    changed_data: Annotated[
        bool,
        typer.Option(
            "--changed-data", help="Score images or labels that have changed since training, in records of their own."
        ),
    ] = False,
    samples: Annotated[int, typer.Option(help="Number of bootstrap resamples.")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Score a run on its validation data, with 95 % intervals over cases (images of a classifier).

    The run folder keeps the records of the scores, unless --inference changes the run's settings. Data whose classes
    are not those of the run are refused; changed images or labels too, unless --changed-data is given.

    Example: `fewpairs evaluate runs/setr_kv_small-seed0`
    """
    from fewpairs.runs.run import evaluate_run

    experiment, records = evaluate_run(
        run, weights=weights.value, progress=not quiet, inference=inference or [], changed_data=changed_data
    )
    scoring = experiment.scoring
    scores = scoring.intervals([records], samples=samples)
    if as_json:
        typer.echo(json.dumps({name: value.to_dict() for name, value in scores.items()}, indent=2))
        return
    from rich.table import Table

    from fewpairs.console import Console
    from fewpairs.terminal import print_table

    table = Table(title=f"{run} ({weights.value} weights, {scoring.count(records)} {scoring.unit})")
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column(f"95 % interval over {scoring.unit}", justify="right")
    for name, value in scores.items():
        shown = "undefined" if value.value is None else f"{value.value:.4f}"
        interval = (value.reason or "") if value.low is None else f"{value.low:.4f} to {value.high:.4f}"
        table.add_row(name, shown, interval)
    print_table(Console(), table)
