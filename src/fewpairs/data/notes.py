"""Sentences on oddities of files that do no harm, or whose reading should be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """One oddity of one file."""

    what: str
    """What the file is, in words that are the same for all files with the oddity, as `volumes without a unit`."""
    detail: str = ""
    """What differs from file to file, such as numbers."""

    def __str__(self) -> str:
        return f"{self.what} ({self.detail})" if self.detail else self.what


def gathered(notes: Mapping[str, Sequence[Note]], shown: int = 5) -> tuple[str, ...]:
    """Return one sentence for each oddity of several files (name -> notes): how many there are, and the first few."""
    found: dict[str, list[str]] = {}
    for name, several in notes.items():
        for note in several:
            found.setdefault(note.what, []).append(f"{name} ({note.detail})" if note.detail else name)
    return tuple(
        f"{len(files)} {what}: {'; '.join(files[:shown])}{f'; and {len(files) - shown} more' * (len(files) > shown)}"
        for what, files in found.items()
    )
