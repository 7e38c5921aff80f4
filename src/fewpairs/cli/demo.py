"""`fewpairs demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for phantom scans, runs and report.")] = Path("demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of each model.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """The main job on made data, in minutes, on a CPU: make scans, train, compare, report.

    Phantom scans are written in the UW-Madison layout, SETR is trained with query-key-value, key-value and KV+Pos
    attention, and the three are compared on cases that none of them saw.

    Example: `fewpairs demo --out demo`
    """
    from rich.console import Console

    from fewpairs.report import print_comparison, write_comparison
    from fewpairs.runs.demo import run_demo

    found = run_demo(out, steps=steps, progress=not quiet, say=typer.echo)
    written = write_comparison(found, out)
    print_comparison(found, Console())
    typer.echo(f"report: {written.html}")
