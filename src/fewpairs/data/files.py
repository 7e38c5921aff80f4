"""Files, class names and cases, as every layout on disk wants them: found, checked and refused in one way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fewpairs.errors import DataError, InputError


def visible_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of `folder` with one of `suffixes` (lower case), sorted; hidden files, as archives leave them, are no data.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    files = (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    return sorted(path for path in files if path.name.lower().endswith(tuple(suffixes)))


def fail_on(problems: Sequence[str], remedy: str, *, shown: int = 5) -> None:
    """Raise one DataError about all `problems`, the first few in full; return when there are none."""
    if not problems:
        return
    rest = f"\n  ... and {len(problems) - shown} more" if len(problems) > shown else ""
    listed = problems[0] if len(problems) == 1 else "\n  " + "\n  ".join(problems[:shown])
    raise DataError(f"{listed}{rest}{'; ' if len(problems) == 1 else chr(10)}{remedy}")


def check_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """Class names as a tuple.

    Raises:
        InputError: none at all, an empty name, or a name twice.
    """
    names = tuple(classes)
    if not names or any(not name or name.isspace() for name in names):
        raise InputError(f"classes={list(names)}: give at least one name, and no empty one (background is not a class)")
    if len(set(names)) != len(names):
        raise InputError(f"classes={list(names)}: every name may stand only once")
    return names


class CasePattern:
    """Finds the case in a file's stem: the whole stem, or the first group of a regular expression that must match."""

    def __init__(self, pattern: str | None) -> None:
        self.pattern = pattern
        try:
            self._expression = re.compile(pattern) if pattern is not None else None
        except re.error as error:
            raise InputError(f"case_pattern={pattern!r} is not a regular expression: {error}") from None
        if self._expression is not None and self._expression.groups != 1:
            raise InputError(f"case_pattern={pattern!r} needs exactly one group, as in '(.+)_[0-9]+'")

    def __call__(self, stem: str) -> str:
        """The case of the scan called `stem`.

        Raises:
            DataError: the pattern does not match the whole stem.
        """
        if self._expression is None:
            return stem
        match = self._expression.fullmatch(stem)
        if match is None:
            raise DataError(f"{stem!r} does not match case_pattern={self.pattern!r}; the pattern must fit every name")
        return match.group(1)
