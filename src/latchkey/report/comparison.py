"""What a comparison found, as plain data: the one thing that every renderer reads and `comparison.json` stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from latchkey.errors import DataError, InputError

Rank = Literal["best", "median", "worst"]
Points = tuple[tuple[float, float], ...]
"""`(step, value)` pairs in the order of the steps."""


class IntervalLike(Protocol):
    """What `latchkey.metrics.Interval` offers."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class DifferenceLike(IntervalLike, Protocol):
    """What `latchkey.metrics.PairedDifference` offers."""

    @property
    def margin(self) -> float: ...
    @property
    def verdict(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its interval: `value` is None where it is undefined, `low` and `high` where there is no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, interval: IntervalLike) -> Estimate:
        """The same three numbers of any object that has them."""
        return cls(interval.value, interval.low, interval.high)


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference of a score, this row minus the first row, on the same cases.

    `margin` is the largest loss (in the score's own unit, positive) that is still acceptable. `verdict` is the word of
    whoever computed the interval; the reports derive theirs from the four numbers, so it is kept for the record.
    """

    value: float | None
    low: float | None
    high: float | None
    margin: float
    verdict: str = ""

    @classmethod
    def of(cls, paired: DifferenceLike) -> Difference:
        """The same numbers of any object that has them."""
        return cls(paired.value, paired.low, paired.high, paired.margin, str(paired.verdict))


@dataclass(frozen=True, slots=True)
class StepTime:
    """Wall-clock milliseconds of one training step: the median and the quartiles of the repeats."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One seed's training: the loss as logged, and the monitored score on the validation cases."""

    seed: int
    loss: Points = ()
    score: Points = ()


@dataclass(frozen=True, slots=True)
class Overlay:
    """A picture of one case: `png` holds the bytes, or `path` names the file (relative to the report's folder)."""

    rank: Rank
    caption: str
    png: bytes | None = None
    path: str | None = None

    def read(self, folder: Path | None = None) -> bytes:
        """The PNG's bytes; a relative `path` is looked up in `folder`. DataError when there is no such file."""
        if self.png is not None:
            return self.png
        if self.path is None:
            raise InputError(f"overlay {self.caption!r} has neither picture nor path; give one of png= and path=")
        file = (folder or Path()) / self.path
        try:
            return file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot read the overlay picture ({error.strerror})") from error


@dataclass(frozen=True, slots=True)
class DataDescription:
    """What was trained and tested on."""

    description: str
    cases: Mapping[str, int]
    """Cases (patients) in each part, such as `{"train": 80, "validation": 20}`."""
    split: str
    """How the parts were drawn, in a sentence."""


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe over all its seeds."""

    recipe: str
    label: str
    attention: str
    parameters: int
    macs: int
    """Multiply-adds of one forward pass of one image at the training size."""
    scores: Mapping[str, Estimate]
    """By score name: `dice`, `jaccard`, ..., and `dice/<class>` for single classes."""
    step_ms: StepTime | None = None
    peak_mib: float | None = None
    peak_of: str = ""
    """What `peak_mib` measures, such as "CUDA memory allocated during a training step"."""
    per_seed: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    differences: Mapping[str, Difference] | None = None
    """Against the first row; None for the first row itself."""
    curves: tuple[Curve, ...] = ()
    overlays: tuple[Overlay, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Recipes trained on the same data, split and seeds, and what came of it. The first row is the reference."""

    title: str
    command: str
    commit: str
    hardware: str
    versions: Mapping[str, str]
    data: DataDescription
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    margin: float
    rows: tuple[Row, ...]
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    monitor: str = "dice"
    """The score that was watched during training and chose the best weights."""
    headline: str = "jaccard"
    """The score that the verdicts are about."""
    confidence: float = 0.95
    resamples: int = 1000
    """Bootstrap resamples behind every interval."""
    empty_rule: str = ""
    """The rule for classes that a scan does not contain, in a sentence."""
    notes: tuple[str, ...] = ()
    """What a reader has to know, such as a seed that stopped early."""
    date: str = ""

    __pydantic_config__ = ConfigDict(
        ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64", extra="forbid"
    )

    def __post_init__(self) -> None:
        if not self.rows:
            raise InputError("a comparison needs at least one row; got none")
        missing = [row.recipe for row in self.rows if self.headline not in row.scores]
        if missing:
            raise InputError(f"no score {self.headline!r} for {', '.join(missing)}; every row needs the headline score")

    @property
    def reference(self) -> Row:
        """The row that all others are compared against."""
        return self.rows[0]

    def to_json(self) -> str:
        """Everything as indented JSON; numbers that are not finite become "NaN", "Infinity" and "-Infinity"."""
        return _adapter().dump_json(self, indent=2).decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, *, source: str = "comparison.json") -> Comparison:
        """The inverse of `to_json`; DataError names `source` and the first field that is wrong."""
        try:
            return _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{source}: not a latchkey comparison: {place}: {first['msg']}; write it again with `latchkey compare`"
            ) from error

    def with_overlay_files(self, folder: str = "overlays") -> tuple[Comparison, dict[str, bytes]]:
        """This comparison with pictures moved out, and the files to write: relative path -> PNG bytes."""
        files: dict[str, bytes] = {}
        rows = []
        for number, row in enumerate(self.rows):
            moved = []
            for index, overlay in enumerate(row.overlays):
                if overlay.png is not None:
                    path = f"{folder}/{number + 1:02d}-{_file_name(row.recipe)}-{index + 1}-{overlay.rank}.png"
                    files[path] = overlay.png
                    overlay = replace(overlay, png=None, path=path)
                moved.append(overlay)
            rows.append(replace(row, overlays=tuple(moved)))
        return replace(self, rows=tuple(rows)), files


def change_percent(value: float, reference: float) -> float | None:
    """Change from `reference` to `value` in percent; None when the reference is zero."""
    return None if reference == 0 else 100.0 * (value - reference) / reference


def _file_name(text: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in text)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Comparison]:
    return TypeAdapter(Comparison)
