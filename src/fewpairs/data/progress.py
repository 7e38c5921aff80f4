"""Progress of long work, a bar on a terminal, else ten plain lines; and remarks beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fewpairs.console import Console

T = TypeVar("T")


def track(items: Sequence[T], what: str, *, enabled: bool = True) -> Iterator[T]:
    """Yield `items` and report progress to standard error."""
    if not enabled:
        yield from items
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        step = max(1, -(-len(items) // 10))
        for done, item in enumerate(items, start=1):
            yield item
            if done % step == 0 or done == len(items):
                console.print(f"{what}: {done}/{len(items)}", soft_wrap=True)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=len(items))
        for item in items:
            yield item
            bar.advance(task)


def remark(sentences: Iterable[str], *, enabled: bool = True) -> None:
    """Write sentences that a user should know to standard error."""
    console = Console(stderr=True)
    for sentence in sentences if enabled else ():
        console.print(f"note: {sentence}", highlight=False, soft_wrap=True, markup=False)
