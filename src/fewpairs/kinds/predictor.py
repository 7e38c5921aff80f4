"""Interface of the prediction of new files for every kind; `runs.predict.predict_files` has the loop.

inputs -> find -> sources -> read -> images -> predict -> results -> write -> predictions -> finish -> records of all
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from fewpairs.data.pictures import find_pictures
from fewpairs.writing import atomic_path


class Source(Protocol):
    """Files of one prediction."""

    @property
    def id(self) -> str | None:
        """Name of the source; None for a picture, whose name is its path."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the source."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """Picture with its index among all pictures that are predicted."""

    path: Path
    place: int = 0
    count: int = 1

    @property
    def id(self) -> None:
        """None, because the name of a picture is its path."""
        return None

    @property
    def files(self) -> tuple[Path, ...]:
        """File of the picture."""
        return (self.path,)


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Output folder of predictions."""

    folder: Path
    overlays: bool = True
    """Whether to write pictures of the predictions too."""
    overwrite: bool = False
    """Whether existing files may be replaced."""


@dataclass(frozen=True)
class Prediction(ABC):
    """Prediction of one source. Fields with `repr=False` are for `Predictor.finish` and are not written."""

    @abstractmethod
    def summary(self) -> str:
        """Return the lines that the command prints."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; `plain` converts their values."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.repr}


@dataclass(frozen=True, slots=True)
class Failure:
    """Source that could not be predicted, with the reason."""

    inputs: tuple[Path, ...]
    message: str
    id: str | None = None
    """Name of the source; None for a picture."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON: the path of a picture, or name and files of a scan."""
        if self.id is None:
            return {"path": self.inputs[0], "message": self.message}
        return {"id": self.id, "inputs": self.inputs, "message": self.message}


S = TypeVar("S", bound=Source)
I = TypeVar("I")  # noqa: E741  # an image as it was read
R = TypeVar("R")
P = TypeVar("P", bound=Prediction)


class Predictor(ABC, Generic[S, I, R, P]):
    """Conversion of new files to predictions by a model, generic in source, image, result and prediction.

    The predictor of a kind is a frozen dataclass with `model`, `task`, `view`, `device` and its own options.
    """

    noun: ClassVar[str] = "picture"
    """Noun for a source in messages."""
    doing: ClassVar[str]
    """Verb for the progress bar, such as `predicting`."""
    kept: ClassVar[str]
    """Clause on the sources that did not fail, in messages; `{}` stands for their number."""

    @property
    def read_at_once(self) -> int:
        """Number of sources that are read before `predict` gets their images."""
        return 1

    @abstractmethod
    def find(self, inputs: Sequence[Path | str]) -> list[S]:
        """Find the sources in files and folders, in order. Raises InputError if there are none."""

    def shared_outputs(self, sources: Sequence[S], output: OutputFolder) -> list[Path]:
        """Return the files that `finish` writes for all sources together."""
        return []

    @abstractmethod
    def outputs(self, source: S, output: OutputFolder) -> list[Path]:
        """Return the files that `write` makes of one source. Raises InputError if that is impossible."""

    @abstractmethod
    def read(self, source: S) -> I:
        """Read the image of one source. Raises DataError if its files are damaged."""

    @abstractmethod
    def predict(self, images: Sequence[I]) -> Sequence[R]:
        """Predict up to `read_at_once` images."""

    @abstractmethod
    def write(self, source: S, image: I, result: R, output: OutputFolder) -> P:
        """Write the prediction of one source. Raises DataError if a file cannot be written."""

    def finish(self, written: list[P], failures: list[Failure], output: OutputFolder) -> None:
        """Write the files for all sources together; if that fails, move lost predictions to `failures`."""


class PicturePredictor(Predictor[PictureFile, I, R, P]):
    """Predictor whose sources are pictures, one file each."""

    def find(self, inputs: Sequence[Path | str]) -> list[PictureFile]:
        paths = find_pictures(inputs)
        return [PictureFile(path, place, len(paths)) for place, path in enumerate(paths)]


def plain(value: Any) -> Any:
    """Convert values that JSON cannot hold to plain data, for `json.dumps(default=plain)`."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def write_records(path: Path, content: dict[str, Any]) -> None:
    """Write JSON; predictions and failures in lists become plain data.

    Raises:
        DataError: the file cannot be written.
    """
    told = {
        name: [item.to_dict() if isinstance(item, Prediction | Failure) else item for item in items]
        for name, items in content.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1, default=plain) + "\n", encoding="utf-8")
