"""`fewpairs train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewpairs.cli.output import echo


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe (see --list) or a YAML file.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Fields to change, such as fit.steps=200.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME-seedN by default.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in this folder.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the settings as YAML and stop.")] = False,
    list_recipes: Annotated[bool, typer.Option("--list", help="Print the recipes and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train one model, from image files to a run folder with weights, log and report.

    The folder gets config.yaml, metrics.jsonl, best and last weights and report.html. Ctrl-C saves the state and prints
    the command that continues. Under `torchrun -m fewpairs` or `accelerate launch -m fewpairs` several processes train.

    Example: `fewpairs train setr_kv_small data.kind=msd data.root=Task04_Hippocampus fit.steps=1500`
    """
    if list_recipes:
        from fewpairs.recipes import RECIPES

        for name, entry in RECIPES.items():
            echo(f"{name:28} {entry.summary}")
        return
    from fewpairs.errors import InputError
    from fewpairs.runs.config import load_experiment, to_yaml
    from fewpairs.runs.run import first_process, run_settings, train_run
    from fewpairs.safe_text import file_name

    if resume is not None:
        if recipe or overrides or out or overwrite:
            raise InputError(
                "--resume takes its settings from the run folder; give no recipe, overrides, --out or --overwrite"
            )
        experiment, folder = run_settings(resume), resume
    elif recipe is None:
        raise InputError("name a recipe or a YAML file (fewpairs train --list shows them), or give --resume RUN")
    else:
        experiment = load_experiment(recipe, overrides or [])
        folder = out or Path("runs") / file_name(f"{experiment.name}-seed{experiment.fit.seed}")
    if print_config:
        typer.echo(to_yaml(experiment), nl=False)
        return
    history = train_run(experiment, folder, resume=resume is not None, overwrite=overwrite, progress=not quiet)
    if first_process():
        best = "no score" if history.best_score is None else f"{history.best_score:.4f} at step {history.best_step}"
        echo(f"{experiment.fit.monitor}: {best}; report: {folder / 'report.html'}")
