"""One entrance to every layout, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from fewpairs.data.files import visible_files
from fewpairs.data.pictures import PICTURES
from fewpairs.errors import InputError, nearest
from fewpairs.kinds.segmentation.layouts.folder import ImageFolder
from fewpairs.kinds.segmentation.layouts.nifti import Nifti, msd
from fewpairs.kinds.segmentation.layouts.uw_madison import ORGANIZER_EXCLUSIONS, UWMadison
from fewpairs.kinds.segmentation.source import Source
from fewpairs.kinds.segmentation.volumes import SUFFIXES

Kind = Literal["uw-madison", "msd", "nifti", "folder"]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Everything that a layout may want to know; None leaves it to the layout. See the classes for the meaning."""

    classes: tuple[str, ...] | dict[str, int | tuple[int, ...]] | None = None
    axis: int | None = None
    images: str | None = None
    """Folder of the images below the root, `images` by default."""
    labels: str | None = None
    """Folder of the labels or masks below the root, `labels` (NIfTI) or `masks` (pictures) by default."""
    colours: dict[str, tuple[int, ...]] | None = None
    nonzero: bool | None = None
    case_pattern: str | None = None
    exclude: tuple[str, ...] | None = None
    missing_rows: Literal["error", "empty"] | None = None
    thickness: float | None = None
    other_labels: Literal["error", "background"] | None = None


_MEANT_FOR: dict[str, frozenset[str]] = {
    "uw-madison": frozenset({"exclude", "missing_rows", "thickness"}),
    "msd": frozenset({"classes", "axis", "case_pattern", "other_labels"}),
    "nifti": frozenset({"classes", "axis", "images", "labels", "case_pattern", "other_labels"}),
    "folder": frozenset({"classes", "images", "labels", "colours", "nonzero", "case_pattern"}),
}
KINDS: tuple[str, ...] = tuple(_MEANT_FOR)


def open_source(kind: str, root: Path | str, options: SourceOptions | None = None) -> Source:
    """The data set at `root` in the layout `kind`: `uw-madison`, `msd`, `nifti` or `folder`.

    Raises:
        InputError: an unknown layout, an option that the layout does not have, or one that it needs and did not get.
        DataError: `root` is no folder.
    """
    options = options or SourceOptions()
    if kind not in _MEANT_FOR:
        raise InputError(f"unknown layout kind={kind!r}; {nearest(kind, KINDS)}")
    given = {field.name for field in fields(options) if getattr(options, field.name) is not None}
    stray = sorted(given - _MEANT_FOR[kind])
    if stray:
        raise InputError(
            f"{', '.join(stray)}: no option of the layout {kind!r}, which has {', '.join(sorted(_MEANT_FOR[kind]))}"
        )
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the root of the data set")
    if kind == "uw-madison":
        return UWMadison(
            root,
            exclude=ORGANIZER_EXCLUSIONS if options.exclude is None else options.exclude,
            missing_rows=options.missing_rows or "error",
            thickness=3.0 if options.thickness is None else options.thickness,
        )
    axis = 2 if options.axis is None else options.axis
    other = options.other_labels or "error"
    if kind == "msd":
        return msd(root, classes=options.classes, axis=axis, case_pattern=options.case_pattern, other_labels=other)
    if options.classes is None:
        raise InputError(
            f"the layout {kind!r} does not name its classes; give classes=, in the order of the labels 1, 2, ..."
        )
    if kind == "nifti":
        return Nifti(
            root / (options.images or "images"),
            root / (options.labels or "labels"),
            classes=options.classes,
            axis=axis,
            case_pattern=options.case_pattern,
            other_labels=other,
        )
    if isinstance(options.classes, Mapping):
        raise InputError("the layout 'folder' takes classes= as a list of names, in the order of the labels 1, 2, ...")
    return ImageFolder(
        root / (options.images or "images"),
        root / (options.labels or "masks"),
        classes=options.classes,
        colours=options.colours,
        nonzero=bool(options.nonzero),
        case_pattern=options.case_pattern,
    )


def detect_kind(root: Path | str) -> str:
    """The layout of the folder `root`, judged by the names in it.

    Raises:
        InputError: no layout is recognised.
    """
    root = Path(root)
    if (root / "train.csv").is_file() and (root / "train").is_dir():
        return "uw-madison"
    if (root / "imagesTr").is_dir():
        return "msd"
    if (root / "images").is_dir() and visible_files(root / "images", SUFFIXES):
        return "nifti"
    if (root / "images").is_dir() and visible_files(root / "images", PICTURES):
        return "folder"
    raise InputError(f"{root} is in none of the known layouts ({', '.join(KINDS)}); name the layout and its folders")
