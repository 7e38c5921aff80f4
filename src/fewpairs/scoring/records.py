"""Records of single scans or images: their base class, the file that holds them, and how lists of them are merged."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

from fewpairs.errors import DataError, InputError

R = TypeVar("R", bound="Record")


class Record(ABC):
    """What an evaluation keeps of one scan or image: everything that scores need, nothing that depends on a batch.

    A kind of experiment has a frozen dataclass of plain data with this base, `classes` among its fields.
    """

    __slots__ = ()

    what: ClassVar[str]
    """How messages call a record, such as "a classified image"."""
    noun: ClassVar[str] = "image"
    """How messages call what the record is of."""
    header: ClassVar[bool] = True
    """Whether the first line of a file names the classes for all records; else every record holds them."""

    classes: tuple[str, ...]

    @property
    @abstractmethod
    def key(self) -> tuple[str, ...]:
        """What no two records of an evaluation share; records are sorted by it."""

    @property
    def unit(self) -> str:
        """What is independent of other units: a case, or the image itself."""
        return self.key[0]

    @property
    def title(self) -> str:
        """How messages call this record's scan or image."""
        return f"{self.noun} {self.key[-1]!r}" + (f" of case {self.key[0]!r}" if len(self.key) > 1 else "")

    @property
    def form(self) -> str:
        """What was measured, such as "with masks", where that is a choice; only records of one form are merged."""
        return ""

    @classmethod
    def stored(cls) -> tuple[str, ...]:
        """The names of the fields in a file."""
        return tuple(f.name for f in fields(cast(Any, cls)) if not (cls.header and f.name == "classes"))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` gives the equal record back."""
        return {name: getattr(self, name) for name in self.stored()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], classes: tuple[str, ...] = ()) -> Self:
        """The record that `to_dict` wrote, of these `classes` where the record does not hold them itself.

        Raises DataError for missing, unknown or impossible fields.
        """
        if wrong := sorted(set(cls.stored()) ^ set(data)):
            raise DataError(f"it has the wrong fields: {', '.join(wrong)} (missing or unknown)")
        return cls._parse(data, classes)

    @classmethod
    @abstractmethod
    def _parse(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> Self:
        """The record of these fields, whose names are right; DataError for impossible values."""


def merge_records(records: Iterable[R]) -> list[R]:
    """One record a scan or image, sorted by name, so that the order of evaluation cannot change a score.

    What came in twice with the same record counts once: evaluation by several processes repeats images to fill the
    last round. Raises InputError when two records of one image differ, or when records disagree on the classes or on
    what was measured.
    """
    unique: dict[tuple[str, ...], R] = {}
    for record in records:
        first = unique.setdefault(record.key, record)
        if first is not record and first != record:
            raise InputError(
                f"{record.title} was evaluated twice with different results; give every {record.noun} a name of its "
                "own, and keep records of different models apart"
            )
    merged = [unique[key] for key in sorted(unique)]
    for record in merged:
        first = merged[0]
        if record.classes is not first.classes and record.classes != first.classes:
            raise InputError(
                f"{record.title} has the classes {', '.join(record.classes[:8])} but {first.title} has "
                f"{', '.join(first.classes[:8])}; only records of the same classes can be pooled"
            )
        if record.form != first.form:
            raise InputError(
                f"{record.title} was evaluated {record.form} but {first.title} {first.form}; only records made alike "
                "can be pooled"
            )
    return merged


def save_records(records: Iterable[R], path: Path | str, kind: type[R]) -> None:
    """Write records of one kind as JSON lines: the names of the classes if the kind has such a header, then a record a
    line.
    """
    records = list(records)
    lines: list[Mapping[str, Any]] = [record.to_dict() for record in records]
    if kind.header:
        lines.insert(0, {"classes": records[0].classes if records else ()})
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    Path(path).write_text(text, encoding="utf-8")


def load_records(path: Path | str, kind: type[R]) -> list[R]:
    """Read what `save_records` wrote. Raises DataError with the file and line of anything else."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the records of {kind.what} in {path}: {error}") from error
    records: list[R] = []
    classes: tuple[str, ...] = ()
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise DataError("not a record")
            if kind.header and number == 1:
                classes = _classes(data)
            else:
                records.append(kind.from_dict(data, classes))
        except (json.JSONDecodeError, DataError) as error:
            raise DataError(f"{path}, line {number}: not a record of {kind.what} ({error})") from error
    return records


def _classes(data: Mapping[str, Any]) -> tuple[str, ...]:
    names = data.get("classes")
    if list(data) != ["classes"] or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DataError("the first line must name the classes")
    return tuple(names)


def is_index(value: object, least: int, end: int) -> bool:
    """Whether a value of a file is a whole number from `least` to below `end`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < end
