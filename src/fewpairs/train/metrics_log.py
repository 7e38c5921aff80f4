"""The log of a run: `metrics.jsonl`, one JSON object a line, each step at most once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from fewpairs.errors import DataError, TrainingError
from fewpairs.writing import replace_text

Record = dict[str, Any]


def json_safe(value: Any) -> Any:
    """Return `value` with None in place of numbers that JSON cannot hold (NaN, infinities)."""
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class MetricsLog:
    """Append records to a file, after dropping half-written lines and those of steps later than `after`."""

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self.path = path
        kept = [record for record in read_log(path) if record["step"] <= after] if path.exists() else []
        self._write("".join(_line(record) for record in kept))
        self.kept = kept

    def _write(self, text: str) -> None:
        try:
            replace_text(self.path, text)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, record: Record) -> None:
        """Append one line to the file.

        Raises:
            TrainingError: the file cannot be written, for example because the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> TrainingError:
        return TrainingError(
            f"could not write the log {self.path}: {error.strerror or error}; checkpoints written so far are intact. "
            f"Free disk space or fix the folder's permissions, then resume the run"
        )


def _line(record: Record) -> str:
    return json.dumps(json_safe(record), allow_nan=False) + "\n"


def _is_record(record: object) -> bool:
    """Return whether the fields that are read again have their types."""
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return False
    epoch = record.get("epoch")
    if abs(record["step"]) >= 2**53 or (isinstance(epoch, int | float) and epoch != 0 and not 1e-9 < epoch < 2**53):
        return False
    numbers = (epoch, record.get("loss"))
    scores = (record.get("scores", {}), record.get("raw_scores") or {})
    return all(map(_is_number, numbers)) and all(
        isinstance(found, dict) and all(map(_is_number, found.values())) for found in scores
    )


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2.0**1000)


def read_log(path: Path) -> list[Record]:
    """Return the records of a log, without a last line that was cut off while it was written.

    Raises:
        DataError: the file cannot be read, or a line before the last one is not a record.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    records: list[Record] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not _is_record(record):
                raise ValueError("a field is missing or has the wrong type")
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested too deeply
            if number == len(lines):
                break
            raise DataError(f"line {number} of {path} is not a log record ({error}); fix or remove it") from error
        records.append(record)
    return records
