"""Check that the data of a run are still those on which it was trained, before it is scored or resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewpairs.data.files import listed
from fewpairs.data.identity import DataIdentity
from fewpairs.errors import InputError
from fewpairs.kinds.kind import Built
from fewpairs.writing import replace_text

DATA_NOTE = "data.json"
"""File of a run folder that describes its training data."""


def write_data_note(built: Built, folder: Path) -> None:
    """Write what a run needs to know of its data without the files, such as classes, channels, split and digests."""
    note = {**built.note, "identity": built.identity().to_dict()}
    replace_text(folder / DATA_NOTE, json.dumps(note, indent=2) + "\n")


def read_data_note(folder: Path) -> dict[str, Any]:
    """Read the note of `write_data_note`; its "classes" are there.

    Raises:
        InputError: the note is missing or damaged.
    """
    try:
        note = json.loads((folder / DATA_NOTE).read_text(encoding="utf-8"))
        if note["classes"] and isinstance(note, dict):
            return note
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise damaged_note(folder)


def damaged_note(folder: Path) -> InputError:
    """Return the error for a run folder whose note cannot be used."""
    return InputError(
        f"{folder / DATA_NOTE} is missing or damaged, so the classes are not known; train again, or restore it"
    )


def check_classes(folder: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Return the note of a run whose classes are `classes`, in this order.

    Raises:
        InputError: the classes or their order differ, or the note is missing.
    """
    note, found = read_data_note(folder), tuple(classes)
    if (trained := tuple(note["classes"])) == found:
        return note
    lost, new = ([name for name in a if name not in b] for a, b in ((trained, found), (found, trained)))
    how = [f"{what} {listed(names)}" for what, names in (("missing", lost), ("new", new)) if names]
    raise InputError(
        f"the classes of the data are not those of the run {folder} ({'; '.join(how) or 'in another order'}), so its "
        f"outputs would be taken for other classes:\n  run:  {listed(trained, 20)}\n  data: {listed(found, 20)}\n"
        "restore the names and their order in the data or its settings, or train a run on these classes"
    )


def check_same_data(folder: Path, built: Built, *, remedy: str, allowed: bool = False) -> str | None:
    """Check that classes, images and labels are those of the run in `folder`; older runs have noted classes alone.

    Args:
        remedy: end of the message if images or labels have changed.
        allowed: accept changed images or labels, and return eight digits that stand for them.

    Raises:
        InputError: the classes or their order differ; or images or labels, unless `allowed`.
    """
    note, found = check_classes(folder, built.task.classes), built.identity()
    try:
        changes = DataIdentity.from_dict(note["identity"]).changes(found) if "identity" in note else []
    except (KeyError, TypeError):
        raise damaged_note(folder) from None
    if changes and not allowed:
        raise InputError(f"the data have changed since the run {folder} began: {', '.join(changes)}; {remedy}")
    return found.short if changes else None
