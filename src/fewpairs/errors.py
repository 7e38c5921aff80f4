"""Errors that a user can cause and fix: one message names the setting, its value, what is allowed and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FewpairsError(Exception):
    """Base of all errors that fewpairs raises on purpose. The command line prints its text and never a traceback."""


class InputError(FewpairsError):
    """The caller's arguments, configuration or files are wrong (exit status 2)."""


class DataError(InputError):
    """A file on disk is missing, damaged or contradicts another (exit status 2)."""


class CheckpointError(InputError):
    """A checkpoint cannot be read or belongs to something else (exit status 2)."""


class TrainingError(FewpairsError):
    """The work itself failed, as with a loss that is not finite (exit status 1)."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: `did you mean 'x'? known: x, y, z`."""
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"
