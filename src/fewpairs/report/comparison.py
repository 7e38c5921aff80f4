"""Results of a comparison as plain data, which every renderer reads and `comparison.json` stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from fewpairs.data.description import DataDescription
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.report.estimate import Difference, Estimate
from fewpairs.report.vocabulary import VOCABULARIES, Vocabulary
from fewpairs.safe_text import file_name, visible

Rank = str
"""Why a picture is shown: "best", "median", "worst", "mistakes"."""
Points = tuple[tuple[float, float], ...]
"""`(step, value)` pairs in the order of the steps."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Wall-clock milliseconds of one training step: the median and the quartiles of the repeats."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One seed's training: the logged loss, and the monitored score on the validation data."""

    seed: int
    loss: Points = ()
    score: Points = ()
    steps_per_epoch: float | None = None
    """Curves are drawn by epoch where all of them know this number, otherwise by step."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A picture of a model's predictions: `png` holds its bytes, or `path` names its file in the report's folder."""

    rank: Rank
    caption: str
    png: bytes | None = None
    path: str | None = None

    def read(self, folder: Path | None = None) -> bytes:
        """The PNG's bytes; a relative `path` is looked up in `folder`. Raises DataError without such a file."""
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
class Row:
    """One recipe over all its seeds."""

    recipe: str
    label: str
    attention: str
    parameters: int
    macs: int
    """Multiply-adds of one forward pass of one image at the training size."""
    scores: Mapping[str, Estimate]
    """Scores by name: `dice`, `top1`, ..., and `dice/<class>` for single classes."""
    step_ms: StepTime | None = None
    peak_mib: float | None = None
    peak_of: str = ""
    """What `peak_mib` measures, such as "CUDA memory allocated during a training step"."""
    per_seed: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    differences: Mapping[str, Difference] | None = None
    """Paired differences to the first row by score name; None for the first row itself."""
    curves: tuple[Curve, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    units: Mapping[str, float] = field(default_factory=dict)
    """Headline score of every single case or image, mean over the seeds; empty if there are too many to draw."""
    confusions: tuple[tuple[int, int, int], ...] = ()
    """True class, predicted class and their count, for the report of a single run."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Recipes trained on the same data, split and seeds, with their results. The first row is the reference.

    Raises InputError without rows, for a row without the headline score, and for a kind that has no vocabulary.
    """

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
    """The score that was monitored during training and chose the best weights."""
    headline: str = "jaccard"
    """The score that the verdicts are about."""
    confidence: float = 0.95
    resamples: int = 1000
    """The number of bootstrap resamples of every interval."""
    empty_rule: str = ""
    """A sentence with the rule for classes that a scan does not contain."""
    notes: tuple[str, ...] = ()
    """What a reader must know, such as a seed that stopped early."""
    date: str = ""
    kind: str = "segmentation"
    """The kind of experiment, a key of `VOCABULARIES`, which decides words and main scores."""
    over: str = ""
    """What was resampled for intervals; empty means what the first paired difference names, or the kind's units."""

    __pydantic_config__ = ConfigDict(
        ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64", extra="forbid"
    )

    def __post_init__(self) -> None:
        if self.kind not in VOCABULARIES:
            raise InputError(f"unknown kind of comparison {self.kind!r}; {nearest(self.kind, VOCABULARIES)}")
        if not self.rows:
            raise InputError("a comparison needs at least one row; got none")
        missing = [row.recipe for row in self.rows if self.headline not in row.scores]
        if missing:
            raise InputError(f"no score {self.headline!r} for {', '.join(missing)}; every row needs the headline score")

    @property
    def reference(self) -> Row:
        """The first row, with which all others are compared."""
        return self.rows[0]

    @property
    def words(self) -> Vocabulary:
        """The words of reports of this kind."""
        return VOCABULARIES[self.kind]

    @property
    def resampled(self) -> str:
        """What was resampled for the intervals."""
        drawn = (item.over for row in self.rows for item in (row.differences or {}).values() if item.over)
        return self.over or next(drawn, self.words.units)

    def to_json(self) -> str:
        """The comparison as indented JSON; numbers that are not finite become "NaN", "Infinity" and "-Infinity"."""
        try:
            content = _adapter().dump_json(self, indent=2)
        except PydanticSerializationError:  # names of files that are no UTF-8 hold lone surrogates
            content = _adapter().dump_json(_visible(self), indent=2)
        return content.decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, *, source: str = "comparison.json") -> Comparison:
        """The inverse of `to_json`; raises DataError that names `source` and the first wrong field."""
        try:
            return _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{source}: not a fewpairs comparison: {place}: {first['msg']}; write it again with `fewpairs compare`"
            ) from error

    def with_overlay_files(self, folder: str = "overlays") -> tuple[Comparison, dict[str, bytes]]:
        """This comparison with its pictures as paths, and the files to write: relative path -> PNG bytes."""
        files: dict[str, bytes] = {}
        rows = []
        for number, row in enumerate(self.rows):
            moved = []
            for index, overlay in enumerate(row.overlays):
                if overlay.png is not None:
                    name = f"{number + 1:02d}-{_plain(row.recipe)}-{index + 1}-{_plain(overlay.rank)}"
                    path = f"{folder}/{file_name(name, '.png')}"
                    files[path] = overlay.png
                    overlay = replace(overlay, png=None, path=path)
                moved.append(overlay)
            rows.append(replace(row, overlays=tuple(moved)))
        return replace(self, rows=tuple(rows)), files


def _visible(value: Any) -> Any:
    """The value with every text in it `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {_visible(key): _visible(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_visible, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _visible(getattr(value, one.name)) for one in fields(value)})
    return value


def _plain(text: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in text)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Comparison]:
    return TypeAdapter(Comparison)
