"""Settings that are counted in training steps follow `fit.steps` where that is changed and they are not."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

Path = tuple[str, ...]
Leaf = tuple[Path, Any]

STEPS: Path = ("fit", "steps")
COUNTED: tuple[Path, ...] = (
    ("schedule", "warmup"),
    ("schedule", "milestones"),
    ("teacher", "warmup"),
    ("teacher", "freeze"),
)
"""Settings that are numbers of training steps, which keep their share of the training."""


def following_steps(start: Mapping[str, Any], changes: Sequence[Leaf]) -> list[Leaf]:
    """Return the changes together with those of settings that follow `fit.steps`; standard error tells of each once.

    `start` holds the settings that are changed, by section. A setting that `changes` holds itself, alone or with its
    section, is left as it is asked for.
    """
    asked = dict(changes)
    steps: Any = asked.get(STEPS)
    before: Any = _at(start, STEPS)
    if not (_counts(steps) and _counts(before)) or steps == before:
        return list(changes)
    share = steps / before
    found = list(changes)
    for path in COUNTED:
        value = _at(start, path)
        if not value or any(path[: len(given)] == given for given in asked):
            continue
        several = isinstance(value, list)
        scaled = [_scaled(one, share, steps) for one in (value if several else [value])]
        new = scaled if several else scaled[0]
        found.append((path, new))
        if path == ("schedule", "warmup") and not new:
            found.append((("schedule", "warmup_from"), 0.0))
        _tell_once(".".join(path), str(new), f"{value} of {before} steps before")
    return found


def _at(content: Mapping[str, Any], path: Path) -> Any:
    section = content.get(path[0])
    return section.get(path[1]) if isinstance(section, Mapping) else None


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _scaled(value: int, share: float, steps: int) -> int:
    """Return a number of steps that is at least 1 and below `steps`, or 0 if that is not possible."""
    return min(steps - 1, max(1, round(value * share)))


@cache
def _tell_once(name: str, value: str, before: str) -> None:
    sys.stderr.write(f"{name} follows fit.steps: {value} ({before}); set {name} to change that\n")
