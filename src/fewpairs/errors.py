"""Errors for the user: each message names the setting, its value, what is allowed and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class FewpairsError(Exception):
    """Base of all errors that fewpairs raises on purpose. The command line prints the message without a traceback."""


class InputError(FewpairsError):
    """The caller's arguments, configuration or files are wrong (exit status 2)."""


class DataError(InputError):
    """A file on disk is missing, damaged or contradicts another (exit status 2)."""


class CheckpointError(InputError):
    """A checkpoint cannot be read or belongs to another model (exit status 2)."""


class TrainingError(FewpairsError):
    """Training failed, for example because a loss is not finite (exit status 1)."""


_LISTED = 24
"""Maximum number of names in a message."""


def nearest(name: str, known: Iterable[str], command: str = "") -> str:
    """Return the end of a message about an unknown name: `did you mean 'x'? known: x, y, z`.

    Of more than 24 names only the nearest are listed, and `command`, if given, as the one that lists all.
    """
    known = list(known)
    hint = did_you_mean(name, known)
    if len(known) <= _LISTED:
        return f"{hint}known: {', '.join(known)}"
    some = "" if hint else f", such as {', '.join(known[:5])}"
    return f"{hint}{len(known)} names are known{some}" + (f"; `{command}` lists them" if command else "")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return `did you mean 'x'? ` with the nearest name, or with up to three of many; empty if none is near."""
    close = get_close_matches(name, known, n=1 if len(known) <= _LISTED else 3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""
