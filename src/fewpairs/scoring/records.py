"""Records of single scans or images: base class, file format and merging."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

from fewpairs.errors import DataError, InputError
from fewpairs.writing import replace_text

R = TypeVar("R", bound="Record")


class Record(ABC):
    """Base class of the evaluation of one scan or image: all that scores need, independent of batches.

    Each kind of experiment has a frozen dataclass of plain data with this base and a field `classes`.
    """

    __slots__ = ()

    what: ClassVar[str]
    """Noun for a record in messages, such as "a classified image"."""
    noun: ClassVar[str] = "image"
    """Noun for the scan or image in messages."""
    header: ClassVar[bool] = True
    """Whether the first line of a file names the classes for all records; otherwise every record holds them."""

    classes: tuple[str, ...]

    @property
    @abstractmethod
    def key(self) -> tuple[str, ...]:
        """Unique key of a record within an evaluation, by which records are sorted."""

    @property
    def unit(self) -> str:
        """Name of the independent unit: the case, or the image itself."""
        return self.key[0]

    @property
    def title(self) -> str:
        """Name of the scan or image in messages."""
        return f"{self.noun} {self.key[-1]!r}" + (f" of case {self.key[0]!r}" if len(self.key) > 1 else "")

    @property
    def form(self) -> str:
        """Optional measurements, such as "with masks"; only records of one form are merged."""
        return ""

    @classmethod
    def stored(cls) -> tuple[str, ...]:
        """Return the names of the fields in a file."""
        return tuple(f.name for f in fields(cast(Any, cls)) if not (cls.header and f.name == "classes"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, from which `from_dict` makes an equal record."""
        return {name: getattr(self, name) for name in self.stored()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], classes: tuple[str, ...] = ()) -> Self:
        """Make a record from the data of `to_dict`; `classes` come from the header of the file.

        Raises DataError for missing, unknown or impossible fields.
        """
        if wrong := sorted(set(cls.stored()) ^ set(data)):
            raise DataError(f"it has the wrong fields: {', '.join(wrong)} (missing or unknown)")
        return cls._parse(data, classes)

    @classmethod
    @abstractmethod
    def _parse(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> Self:
        """Make a record from fields of the right names. Raises DataError for impossible values."""


def merge_records(records: Iterable[R]) -> list[R]:
    """Return one record for each scan or image, sorted by name, so that the order of evaluation cannot change a score.

    Equal records of one image count once: evaluation by several processes repeats images to fill the last round.
    Raises InputError if two records of one image differ, or if records differ in classes or form.
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
    """Write records as JSON lines, after a first line with the names of the classes if the kind has that header."""
    records = list(records)
    lines: list[Mapping[str, Any]] = [record.to_dict() for record in records]
    if kind.header:
        lines.insert(0, {"classes": records[0].classes if records else ()})
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    replace_text(Path(path), text)


def load_records(path: Path | str, kind: type[R]) -> list[R]:
    """Read a file of `save_records`. Raises DataError with file and line if it holds something else."""
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
        except (ValueError, RecursionError, DataError) as error:
            raise DataError(f"{path}, line {number}: not a record of {kind.what} ({error})") from error
    return records


def _classes(data: Mapping[str, Any]) -> tuple[str, ...]:
    names = data.get("classes")
    if list(data) != ["classes"] or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DataError("the first line must name the classes")
    return tuple(names)


def is_index(value: object, least: int, end: int) -> bool:
    """Return whether a value is a whole number from `least` to below `end`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < end
