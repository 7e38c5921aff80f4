"""Lines on standard output and standard error."""

from __future__ import annotations

import typer

from fewpairs.safe_text import visible


def echo(text: str, *, err: bool = False) -> None:
    """Print text, whose control characters are written out: parts of it may come from files."""
    typer.echo(visible(text), err=err)
