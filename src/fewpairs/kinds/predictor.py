"""What a trained run needs to predict new files, the same for every kind; `runs.predict.predict_files` is the loop.

inputs -> find -> sources -> read -> images -> predict -> results -> write -> predictions -> finish -> records of all
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from fewpairs.data.atomic import atomic_path
from fewpairs.data.pictures import find_pictures


class Source(Protocol):
    """The files that become one prediction."""

    @property
    def id(self) -> str | None:
        """Its name where it has one; None for a picture, whose name is its path."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture, and its place among all that are predicted."""

    path: Path
    place: int = 0
    count: int = 1

    @property
    def id(self) -> None:
        """None: its name is its path."""
        return None

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture."""
        return (self.path,)


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Where predictions go."""

    folder: Path
    overlays: bool = True
    """Whether pictures to look at are written too."""
    overwrite: bool = False
    """Whether files that are there already may be replaced."""


@dataclass(frozen=True)
class Prediction(ABC):
    """What one source became. Fields with `repr=False` are for `Predictor.finish`, and are not told to anyone."""

    @abstractmethod
    def summary(self) -> str:
        """Lines for people."""

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON; `plain` turns what they hold into plain data."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.repr}


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be predicted, and why."""

    inputs: tuple[Path, ...]
    message: str
    id: str | None = None
    """None for a picture."""

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON: a picture's path, or the name and files of a scan."""
        if self.id is None:
            return {"path": self.inputs[0], "message": self.message}
        return {"id": self.id, "inputs": self.inputs, "message": self.message}


S = TypeVar("S", bound=Source)
I = TypeVar("I")  # noqa: E741  # an image as it was read
R = TypeVar("R")
P = TypeVar("P", bound=Prediction)


class Predictor(ABC, Generic[S, I, R, P]):
    """A model with all that new files need to become predictions: sources, images, results and predictions.

    A kind's predictor is a frozen dataclass with `model`, `task`, `view` and `device` and the options of its own.
    """

    noun: ClassVar[str] = "picture"
    """One source, in messages."""
    doing: ClassVar[str]
    """The work, in progress: `predicting`."""
    kept: ClassVar[str]
    """What became of the sources that did not fail, in messages; `{}` stands for their number."""

    @property
    def read_at_once(self) -> int:
        """How many sources are read before `predict` gets their images."""
        return 1

    @abstractmethod
    def find(self, inputs: Sequence[Path | str]) -> list[S]:
        """Files and folders -> sources, in the order of their work; InputError when there are none."""

    def shared_outputs(self, sources: Sequence[S], output: OutputFolder) -> list[Path]:
        """The files about all sources, which `finish` writes."""
        return []

    @abstractmethod
    def outputs(self, source: S, output: OutputFolder) -> list[Path]:
        """The files that `write` makes of one source; InputError when it cannot become what is asked for."""

    @abstractmethod
    def read(self, source: S) -> I:
        """The image of one source; DataError when its files are damaged."""

    @abstractmethod
    def predict(self, images: Sequence[I]) -> Sequence[R]:
        """The results of `read_at_once` images, or fewer."""

    @abstractmethod
    def write(self, source: S, image: I, result: R, output: OutputFolder) -> P:
        """Writes what one source became; DataError when a file cannot be written."""

    def finish(self, written: list[P], failures: list[Failure], output: OutputFolder) -> None:
        """Writes the files about all sources, and moves to `failures` what is lost if that fails."""


class PicturePredictor(Predictor[PictureFile, I, R, P]):
    """A predictor whose sources are pictures, one file each."""

    def find(self, inputs: Sequence[Path | str]) -> list[PictureFile]:
        paths = find_pictures(inputs)
        return [PictureFile(path, place, len(paths)) for place, path in enumerate(paths)]


def plain(value: Any) -> Any:
    """What JSON cannot hold -> plain data, for `json.dumps(default=plain)`."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def write_records(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON; predictions and failures in lists become plain data.

    Raises:
        DataError: the file cannot be written.
    """
    told = {
        name: [item.to_dict() if isinstance(item, Prediction | Failure) else item for item in items]
        for name, items in content.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1, default=plain) + "\n", encoding="utf-8")
