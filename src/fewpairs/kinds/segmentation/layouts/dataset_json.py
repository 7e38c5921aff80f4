"""The table `dataset.json` of the Medical Segmentation Decathlon and of nnU-Net (versions 1 and 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewpairs.data.files import listed
from fewpairs.errors import DataError
from fewpairs.kinds.segmentation.label_values import Labels


def read_labels(table: Path) -> Labels:
    """Read the label values of each class: number to name (Decathlon), or name to number or numbers (nnU-Net).

    Numbers may be written as `1`, `"1"` or `1.0`, and a name that several numbers have gets all of them. Background is
    left out. A byte-order mark is no matter.

    Raises:
        DataError: the table is damaged or names no labels.
    """
    labels = _content(table).get("labels")
    if not isinstance(labels, Mapping) or not labels:
        raise _nameless(table, "no entry labels with names and numbers")
    found: dict[str, list[int]] = {}
    for key, value in labels.items():
        number = _number(key)
        name, numbers = (_name(value), [number]) if number is not None else (str(key), _numbers(value))
        if name is None or None in numbers or not numbers:
            raise DataError(
                f"{table}, labels: the entry {json.dumps({key: value})} is neither a number with one name nor a name "
                "with one or more whole numbers"
            )
        if name.lower() != "background" and numbers != [0]:
            found.setdefault(name, []).extend(one for one in numbers if one is not None)
    return found


def missing_notes(table: Path) -> tuple[str, ...]:
    """Return a sentence if training images or labels that the table lists are not there, as in a partial download."""
    pairs = _content(table).get("training")
    listing = [pair for pair in pairs if isinstance(pair, dict)] if isinstance(pairs, list) else []
    names = [pair[key] for pair in listing for key in ("image", "label") if isinstance(pair.get(key), str)]
    missing = [name for name in names if not (table.parent / name).exists()]
    if not missing:
        return ()
    return (
        f"{len(missing)} of the {len(names)} training files that {table.name} lists are missing: {listed(missing, 4)}",
    )


def _content(table: Path) -> dict[str, Any]:
    try:
        content = json.loads(table.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _nameless(table, str(error)) from None
    return content if isinstance(content, dict) else {}


def _nameless(table: Path, why: str) -> DataError:
    return DataError(
        f"{table} does not name the labels ({why}); expected {{'labels': {{'background': 0, NAME: 1, ...}}}}"
    )


def _number(value: Any) -> int | None:
    """Return the whole number that `value` is or spells, such as 1, 1.0, "1" or "1.0"; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _numbers(value: Any) -> list[int | None]:
    return [_number(one) for one in (value if isinstance(value, list) else [value])]


def _name(value: Any) -> str | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else None
