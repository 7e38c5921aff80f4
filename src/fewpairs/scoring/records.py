"""Records in a file: JSON lines, one record a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fewpairs.errors import DataError

R = TypeVar("R")


def write_lines(lines: Iterable[Mapping[str, Any]], path: Path | str) -> None:
    """Write plain data as JSON lines."""
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    Path(path).write_text(text, encoding="utf-8")


def read_lines(path: Path | str, parse: Callable[[Mapping[str, Any]], R], what: str) -> list[R]:
    """Read what `write_lines` wrote; `parse` makes a record of one line, `what` names a record in messages.

    Raises DataError with the file and line of anything else.
    """
    records = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the records of {what} in {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise DataError("not a record")
            records.append(parse(data))
        except (json.JSONDecodeError, DataError) as error:
            raise DataError(f"{path}, line {number}: not a record of {what} ({error})") from error
    return records
