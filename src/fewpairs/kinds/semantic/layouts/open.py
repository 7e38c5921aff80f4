"""Opens a data set of label maps by the name of its layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast

from fewpairs.data.files import Layout, choose_layout
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.semantic.names import read_names
from fewpairs.kinds.semantic.source import SemanticSource
from fewpairs.types import IGNORE

SemanticKind = Literal["ade20k", "cityscapes", "label-maps"]


@dataclass(frozen=True, kw_only=True)
class SemanticOptions:
    """The options of all layouts.

    Attributes:
        classes: names in the order of the labels, including the background if there is one; or the stored number of
            each class, or several, as in `{background: 0, nucleus: 255}`, where `ignore` names pixels that are not
            scored.
        classes_file: a text file with these names, one in each line, as an alternative to `classes`.
        ignore: the stored number that is not scored, unless it is a class; only for label numbers.
        zero_is_ignored: 0 is not scored and 1 is the first class, as in ADE20K (`reduce_zero_label` of mmsegmentation).
        nonzero: all values except 0 are the second of two classes.
        colours: for colour-coded masks, the (red, green, blue) of every class; `ignore` then has no effect.
        images, masks: names of the two folders.
        split_file: a CSV file with the columns `id` (file name without suffix) and `split` (train, val, test).
        case_pattern: regular expression with one group that finds the case (patient) in a file's name without suffix.
    """

    classes: tuple[str, ...] | dict[str, int | tuple[int, ...]] | None = None
    classes_file: str | None = None
    ignore: int | None = IGNORE
    zero_is_ignored: bool = False
    nonzero: bool = False
    colours: dict[str, tuple[int, int, int]] | None = None
    images: str = "images"
    masks: str = "masks"
    split_file: str | None = None
    case_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes_file is not None:
            raise InputError("data.source.classes and data.source.classes_file both name the classes; give one of them")
        ways = [name for name in ("zero_is_ignored", "nonzero", "colours") if getattr(self, name)]
        if isinstance(self.classes, Mapping):
            self._check_numbers(self.classes)
            ways.append("classes with numbers")
        if len(ways) > 1:
            raise InputError(f"data.source.{' and data.source.'.join(ways)} are two ways to read a mask; give one")
        if self.ignore is not None and not 0 <= self.ignore <= 65535:
            raise InputError(f"data.source.ignore={self.ignore}: give a number from 0 to 65535, or null for none")
        for name, colour in (self.colours or {}).items():
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise InputError(f"data.source.colours.{name}={list(colour)}: give red, green and blue, 0 to 255")

    def _is_ignored(self, name: str) -> bool:
        return isinstance(self.classes, Mapping) and name.lower() == IGNORED

    def _check_numbers(self, classes: Mapping[str, int | tuple[int, ...]]) -> None:
        seen: dict[int, str] = {}
        for name, numbers in numbers_of(classes).items():
            for number in numbers:
                if not 0 <= number <= 65535 or number in seen:
                    told = f"is that of {seen[number]!r} too" if number in seen else "is not in 0 to 65535"
                    raise InputError(f"data.source.classes.{name}={number}: the stored number {told}")
                seen[number] = name

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the classes in the order of the labels; None if they are not given."""
        if self.classes_file is not None:
            return read_names(Path(self.classes_file))
        return None if self.classes is None else tuple(n for n in self.classes if not self._is_ignored(n))


IGNORED = "ignore"
"""Name of the stored numbers that are not scored, among those of the classes; it is no class."""


def numbers_of(classes: Mapping[str, int | tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the stored numbers of each class."""
    return {name: (given,) if isinstance(given, int) else tuple(given) for name, given in classes.items()}


_HERE = "fewpairs.kinds.semantic.layouts"
LAYOUTS = {
    "ade20k": Layout(f"{_HERE}.ade20k:open_ade20k", ("classes", "classes_file", "case_pattern")),
    "cityscapes": Layout(f"{_HERE}.cityscapes:open_cityscapes", ()),
    "label-maps": Layout(f"{_HERE}.label_maps:open_label_maps", tuple(field.name for field in fields(SemanticOptions))),
}
SEMANTIC_KINDS: tuple[str, ...] = tuple(LAYOUTS)


def open_semantic(kind: str, root: Path | str, options: SemanticOptions | None = None) -> SemanticSource:
    """Open the data set at `root` in the layout `kind`; files are listed and paired but not read.

    Args:
        kind: `ade20k`, `cityscapes` or `label-maps`.

    Raises:
        InputError: the layout is unknown or does not have an option, or options contradict one another.
        DataError: files are missing or have no partner.
    """
    options = options or SemanticOptions()
    if kind == "cityscapes" and (options.classes or options.classes_file):
        raise InputError("Cityscapes always has its 19 classes; for others use data.kind=label-maps")
    if kind == "ade20k" and isinstance(options.classes, Mapping):
        raise InputError("ADE20K counts its classes from 1 on: give data.source.classes as a list of names")
    opens, _ = choose_layout(LAYOUTS, kind, options)
    if not Path(root).is_dir():
        raise DataError(f"{root} is not a folder; data.root must hold the layout {kind!r}")
    return cast(SemanticSource, opens(Path(root), options))
