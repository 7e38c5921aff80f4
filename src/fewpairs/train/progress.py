"""Display of a running training: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)

from fewpairs.console import Console

Item = TypeVar("Item")


def track_progress(items: Iterable[Item], description: str, *, total: int, enabled: bool) -> Iterable[Item]:
    """Yield the `total` items and show progress: a bar on a terminal, elsewhere a line before and after."""
    if not enabled:
        return items
    console = Console(stderr=True)
    if console.is_terminal:
        return track(items, description=description, total=total, console=console)
    return _with_lines(items, description, total, console)


def _with_lines(items: Iterable[Item], description: str, total: int, console: Console) -> Iterator[Item]:
    console.print(f"{description}: {total} ...", soft_wrap=True)
    yield from items
    console.print(f"{description}: done", soft_wrap=True)


class ProgressReporter:
    """Show the progress of a training on standard error; `enabled=False` writes nothing."""

    def __init__(self, *, start: int, steps: int, enabled: bool, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.steps, self.enabled = steps, enabled
        self.bar: Progress | None = None
        if enabled and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=self.console,
            )
            self.task = self.bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> ProgressReporter:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, step: int) -> None:
        """Show that `step` steps are done."""
        if self.bar:
            self.bar.update(self.task, completed=step)

    def evaluating(self) -> None:
        """Show that an evaluation is running."""
        if self.bar:
            self.bar.update(self.task, description="evaluating ...")

    def record(self, record: dict[str, Any], monitor: str, best: float | None) -> None:
        """Show one log record."""
        parts = [
            f"loss {_number(record['loss'])}",
            f"lr {record['lr']:.1e}",
            f"{record['seconds_per_step']:.3f} s/step",
        ]
        parts.append(f"waiting {record['waiting']:.0%}")
        if "scores" in record:
            parts.append(f"{monitor} {_number(record['scores'].get(monitor))} (best {_number(best)})")
        text = "  ".join(parts)
        if self.bar:
            self.bar.update(self.task, description=text)
        if self.enabled and (self.bar is None or "scores" in record):
            self.console.print(
                f"step {record['step']}/{self.steps}  {text}", highlight=False, markup=False, soft_wrap=True
            )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
