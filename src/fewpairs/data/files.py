"""Search and checks of layouts, files, class names and cases, shared by all kinds of data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from fewpairs.errors import DataError, InputError, nearest


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of a kind of data: the function that opens it, and its options."""

    opens: str
    """`module:function`; the module is imported when a data set of this layout is opened."""
    options: Collection[str]


def choose_layout(layouts: Mapping[str, Layout], kind: str, options: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function that opens the layout `kind`, and the fields of the dataclass `options` that were set.

    Raises:
        InputError: the layout is unknown or does not have an option.
    """
    if kind not in layouts:
        raise InputError(f"unknown layout kind={kind!r}; {nearest(kind, layouts)}")
    values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    given = {name: value for name, (value, default) in values.items() if value != default}
    known = layouts[kind].options
    if stray := sorted(set(given) - set(known)):
        raise InputError(
            f"{', '.join(stray)}: no option of the layout {kind!r}, which has {', '.join(sorted(known)) or 'none'}"
        )
    module, _, function = layouts[kind].opens.partition(":")
    return getattr(import_module(module), function), given


def is_hidden(name: str) -> bool:
    """Return whether a file or folder belongs to the system, such as `.DS_Store` or `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def visible_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the sorted files of `folder` that end with one of `suffixes` (lower case) and are not hidden.

    Raises:
        DataError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    files = (path for path in folder.iterdir() if not is_hidden(path.name) and path.is_file())
    return sorted(path for path in files if path.name.lower().endswith(tuple(suffixes)))


def other_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the sorted files of `folder` that end with none of `suffixes` and are not hidden; no reader takes them."""
    files = (path for path in folder.iterdir() if not is_hidden(path.name) and path.is_file())
    return sorted(path for path in files if not path.name.lower().endswith(tuple(suffixes)))


def left_out_notes(files: Sequence[Path | str], what: str = "files that no reader takes") -> tuple[str, ...]:
    """Count the left-out files by suffix in one sentence with an example of each; an empty tuple if there are none."""
    return (f"left out {what}: {counted_suffixes(files, examples=True)}",) if files else ()


def counted_suffixes(files: Iterable[Path | str], *, examples: bool = False) -> str:
    """Count files by suffix, as in `3 x .txt, 1 x .heic`; `examples` adds the name of one."""
    found: dict[str, list[str]] = {}
    for path in map(Path, files):
        found.setdefault(path.suffix.lower() or path.name, []).append(path.name)
    order = sorted(found.items(), key=lambda item: -len(item[1]))
    return listed([f"{len(names)} x {suffix}{f' ({names[0]})' * examples}" for suffix, names in order])


def visible_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in `folder` that are not hidden.

    Raises:
        DataError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def files_by_stem(paths: Iterable[Path], stem: Callable[[Path], str] = lambda path: path.stem) -> dict[str, Path]:
    """Map files by their names without suffix.

    Raises:
        DataError: two files have the same name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(stem(path), path)
        if other is not path:
            raise DataError(f"{other} and {path} have the same name but for the suffix; remove or rename one")
    return found


def pair_files(
    images: tuple[Path, Mapping[str, Path]], labels: tuple[Path, Mapping[str, Path]], what: str
) -> list[tuple[Path, Path]]:
    """Pair each image with the label file of the same name, sorted by name.

    Args:
        images, labels: a folder and its files by name without suffix.
        what: noun for a label file in messages, such as `mask`.

    Raises:
        DataError: a file has no partner; the message names the first few.
    """
    (image_folder, image_files), (label_folder, label_files) = images, labels
    alone = [path for stem, path in image_files.items() if stem not in label_files]
    strange = [path for stem, path in label_files.items() if stem not in image_files]
    problems = [f"{path} has no {what} of that name in {label_folder}" for path in alone]
    problems += [f"{path} has no image of that name in {image_folder}" for path in strange]
    fail_on(problems, f"every image needs a {what} of the same name and the other way round")
    return [(image_files[stem], label_files[stem]) for stem in sorted(image_files)]


def listed(names: Sequence[str], shown: int = 10) -> str:
    """Join names as `a, b, c`; after `shown` names, the number of the others follows."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def fail_on(problems: Sequence[str], remedy: str, *, shown: int = 5) -> None:
    """Raise one DataError about all `problems`, which quotes the first few; return if there are none."""
    if not problems:
        return
    if len(problems) == 1:
        raise DataError(f"{problems[0]}; {remedy}")
    rest = f"\n  ... and {len(problems) - shown} more" if len(problems) > shown else ""
    raise DataError("".join(f"\n  {problem}" for problem in problems[:shown]) + f"{rest}\n{remedy}")


def check_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """Return class names as a tuple.

    Raises:
        InputError: there is no name, an empty name, or a name twice.
    """
    names = tuple(classes)
    if not names or any(not name or name.isspace() for name in names):
        raise InputError(f"classes={list(names)}: give at least one name, and no empty one (background is not a class)")
    if len(set(names)) != len(names):
        raise InputError(f"classes={list(names)}: every name may occur only once")
    return names


class CasePattern:
    """Finds the case in a file's stem: the whole stem, or the first group of a regular expression that must match."""

    def __init__(self, pattern: str | None) -> None:
        self.pattern = pattern
        try:
            self._expression = re.compile(pattern) if pattern is not None else None
        except re.error as error:
            raise InputError(f"case_pattern={pattern!r} is not a regular expression: {error}") from None
        if self._expression is not None and self._expression.groups != 1:
            raise InputError(f"case_pattern={pattern!r} needs exactly one group, as in '(.+)_[0-9]+'")

    def __call__(self, stem: str) -> str:
        """Return the case of the scan called `stem`.

        Raises:
            DataError: the pattern does not match the whole stem.
        """
        if self._expression is None:
            return stem
        match = self._expression.fullmatch(stem)
        if match is None:
            raise DataError(f"{stem!r} does not match case_pattern={self.pattern!r}; the pattern must fit every name")
        return match.group(1)
