"""`fewpairs compare`."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewpairs.cli.evaluate import Weights
from fewpairs.cli.output import echo

if TYPE_CHECKING:
    from fewpairs.kinds.kind import Experiment


def compare(
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPE... [a.b=c]...", help="Recipes or YAML files, the reference first.")
    ],
    seeds: Annotated[
        int, typer.Option(min=1, help="Training runs of each recipe: seeds 0, 1, ... Words on a method take 6.")
    ] = 3,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path("runs/compare"),
    margin: Annotated[float, typer.Option(min=0, help="Largest loss that still counts as no worse.")] = 0.02,
    headline: Annotated[
        str | None,
        typer.Option(
            help="Score of the verdicts; by default dice for scans, top1 for classes, miou for label maps, "
            "ap or mask_ap for objects."
        ),
    ] = None,
    weights: Annotated[Weights, typer.Option(help="Which weights are scored.")] = Weights.last,
    name: Annotated[str, typer.Option(help="Name of the report's files.")] = "comparison",
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train every recipe with every seed on the same data, and compare the results in one table.

    The table has parameters, multiply-adds, time per step, peak memory, the scores with intervals over cases (images of
    classifiers), and the paired difference against the first recipe, as Markdown, JSON and one HTML page.
    After an interruption the same command continues where it stopped.

    Example: `fewpairs compare setr_qkv_small setr_kv_small data.kind=msd data.root=Task04_Hippocampus --seeds 3`
    """
    from fewpairs.console import Console
    from fewpairs.errors import InputError
    from fewpairs.report import print_comparison, write_comparison
    from fewpairs.report.files import check_report_name
    from fewpairs.runs.compare import ComparisonPlan
    from fewpairs.runs.compare import compare as run

    sources = [text for text in recipes if "=" not in text]
    overrides = [text for text in recipes if "=" in text]
    if len(set(sources)) != len(sources):
        raise InputError(f"a recipe is named twice: {' '.join(sources)}")
    stems = [Path(source).stem for source in sources]
    if len(set(stems)) != len(stems):
        raise InputError(
            f"two configuration files have the same name, so the report could not distinguish them: {' '.join(sources)}"
        )
    check_report_name(name)
    plan = ComparisonPlan(
        experiments=dict(zip(stems, _load(sources, overrides), strict=True)),
        seeds=tuple(range(seeds)),
        margin=margin,
        headline=headline,
        weights=weights.value,
    )
    command = shlex.join(["fewpairs", *sys.argv[1:]])
    found = run(
        plan,
        out,
        title=title or f"{', '.join(plan.experiments)}",
        command=command,
        progress=not quiet,
        say=echo,
    )
    written = write_comparison(found, out, name=name)
    print_comparison(found, Console())
    echo(f"report: {written.html}")


def _load(sources: list[str], overrides: list[str]) -> list[Experiment]:
    """Load every recipe; the errors of all of them, each with the recipe's name, are one error."""
    from fewpairs.errors import InputError
    from fewpairs.runs.config import every_result, load_experiment

    def load(source: str) -> Experiment:
        try:
            return load_experiment(source, overrides)
        except InputError as error:
            raise InputError("\n".join(f"{source}: {line}" for line in str(error).splitlines())) from None

    return every_result([partial(load, source) for source in sources])
