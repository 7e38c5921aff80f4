"""Finds COCO's JSON files, derives the part from their names, and checks their structure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from fewpairs.data.files import visible_files, visible_folders
from fewpairs.data.split import PARTS, part_names, parts_in
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.detection.options import DetectionOptions

NAME = re.compile(r"instances?_(?P<tail>.+)\.json", re.IGNORECASE)
"""`tail` names the part, and often the folder of its images."""
ROBOFLOW = "_annotations.coco.json"


def coco_files(root: Path, options: DetectionOptions) -> dict[str, Path]:
    """Find the JSON file of each part below `root`; a file whose name has no part is for training.

    Raises:
        InputError: a named file does not exist, or two files are for the same part.
    """
    named = {part: root / name for part in PARTS if (name := getattr(options, part)) is not None}
    for part, path in named.items():
        if not path.is_file():
            raise InputError(f"{part}={getattr(options, part)!r}: {path} is not a file")
    if named:
        return named
    found: dict[str, list[Path]] = {}
    for folder in (root / "annotations", root):
        for path in visible_files(folder, (".json",)) if not found and folder.is_dir() else ():
            if match := NAME.fullmatch(path.name):
                found.setdefault(_part_of_file(match["tail"]), []).append(path)
    for part, names in part_names(visible_folders(root)).items() if not found else ():
        if exports := [root / name / ROBOFLOW for name in names if (root / name / ROBOFLOW).is_file()]:
            found[part] = exports
    if not found and (root / ROBOFLOW).is_file():
        found["train"] = [root / ROBOFLOW]
    for part, paths in found.items():
        if len(paths) > 1:
            shown = ", ".join(str(path.relative_to(root)) for path in paths)
            raise InputError(f"{root} has several files for {part}: {shown}; name one with {part}=")
    return {part: found[part][0] for part in PARTS if part in found}


def _part_of_file(tail: str) -> str:
    """Return the part of a name: `train2017` is `train`, `valid` is `validation`; names without a part are `train`."""
    meant = parts_in(tail)
    return next((part for part in PARTS if part in meant), "train")


def parse_coco(path: Path) -> Mapping[str, Any]:
    """Read a file with lists of images, annotations and categories.

    Raises:
        DataError: the file is not valid JSON (the message gives the line), or lacks one of these lists.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise DataError(f"{path} cannot be a COCO JSON ({error})") from None
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if not (isinstance(content, dict) and isinstance(content.get(key), list))]
    if missing:
        raise DataError(f"{path} is not a COCO JSON of instances: it has no list of {' and of '.join(missing)}")
    return content


def categories_of(path: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of each category id, in ascending order of ids.

    Raises:
        DataError: there are no categories, or one has no id or name or repeats another.
    """
    names: dict[int, str] = {}
    for place, entry in enumerate(content["categories"], start=1):
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not is_whole(number) or not is_text(name):
            raise DataError(f"{path}: category {place} has no whole number as id or no name: {shown_value(entry)}")
        if number in names or name in names.values():
            raise DataError(f"{path}: category {place} repeats the id {number} or the name {name!r}")
        names[number] = name
    if not names:
        raise DataError(f"{path} has no categories")
    return dict(sorted(names.items()))


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number and not JSON's true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a value is text that is not empty and can be written: JSON may contain lone surrogates."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown_value(value: object) -> str:
    """Format a value for messages, shortened if it is long."""
    text = json.dumps(value) if value is not None else "none"
    return text if len(text) <= 60 else text[:57] + "..."
