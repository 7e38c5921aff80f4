"""`fewpairs demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewpairs.cli.output import echo


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the phantom scans, the runs and the report.")] = Path("demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Number of training steps of each model.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Make synthetic scans, train on them, compare and report, in minutes on a CPU.

    The command writes phantom scans in the UW-Madison layout, trains SETR with query-key-value, key-value and KV+Pos
    attention, and compares the three on cases that none of them saw.

    Example: `fewpairs demo --out demo`
    """
    from fewpairs.console import Console
    from fewpairs.report import print_comparison, write_comparison
    from fewpairs.runs.demo import run_demo

    found = run_demo(out, steps=steps, progress=not quiet, say=echo)
    written = write_comparison(found, out)
    print_comparison(found, Console())
    echo(f"report: {written.html}")
