"""Numbers of the classes in written masks, and the file `labels.json` beside the masks, which names them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewpairs.writing import atomic_path

LABELS = "labels.json"


def written_numbers(
    values: Sequence[Sequence[int]] | None, classes: int, *, first: int, largest: int = 65535
) -> tuple[int, ...]:
    """Return the number of each class in written masks: the data set's own, where each class has one of its own.

    Args:
        values: numbers of each class in the data set; None if it has none.
        first: number of the first class otherwise, after which the others follow; also the least number.
        largest: largest number that a mask can hold.
    """
    single = [numbers[0] for numbers in values or () if len(numbers) == 1]
    if len(set(single)) == classes and all(first <= number <= largest for number in single):
        return tuple(single)
    return tuple(range(first, first + classes))


@dataclass(frozen=True, slots=True)
class LabelsFile:
    """The file that names the numbers in the masks of one folder."""

    path: Path
    content: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The file as JSON."""
        return json.dumps(self.content, indent=1, ensure_ascii=False) + "\n"

    @property
    def _bytes(self) -> bytes:
        return self.text.encode("utf-8", "backslashreplace")  # a lone surrogate becomes JSON's own escape

    @property
    def replaced(self) -> list[Path]:
        """The file, if it is there and says something else, so that it would be replaced."""
        try:
            return [] if self.path.read_bytes() == self._bytes else [self.path]
        except FileNotFoundError:
            return []
        except OSError:
            return [self.path]

    def write(self) -> None:
        """Write the file. Raises DataError if it cannot be written."""
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(self._bytes)
