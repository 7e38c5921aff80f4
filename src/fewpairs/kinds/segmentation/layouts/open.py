"""Opens a data set of scans by the name of its layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from fewpairs.data import pictures
from fewpairs.data.files import Layout, choose_layout, visible_files
from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.source import SUFFIXES, Source

Kind = Literal["uw-madison", "msd", "nifti", "folder"]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The options of all layouts, which the layouts' classes explain; None leaves the choice to the layout."""

    classes: tuple[str, ...] | dict[str, int | tuple[int, ...]] | None = None
    """Names of the labels 1, 2, ... in order, or names with their values: `{a: 85, b: 170}` or `a=85,b=170`."""
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
    spacing: tuple[float, float, float] | None = None
    other_labels: Literal["error", "background"] | None = None


_HERE = "fewpairs.kinds.segmentation.layouts"
LAYOUTS = {
    "uw-madison": Layout(f"{_HERE}.uw_madison:UWMadison", ("exclude", "missing_rows", "thickness")),
    "msd": Layout(f"{_HERE}.nifti:msd", ("classes", "axis", "case_pattern", "other_labels")),
    "nifti": Layout(f"{_HERE}.nifti:Nifti", ("classes", "axis", "images", "labels", "case_pattern", "other_labels")),
    "folder": Layout(
        f"{_HERE}.folder:ImageFolder", ("classes", "images", "labels", "colours", "nonzero", "case_pattern", "spacing")
    ),
}
KINDS: tuple[str, ...] = tuple(LAYOUTS)


def open_source(kind: str, root: Path | str, options: SourceOptions | None = None) -> Source:
    """Open the data set at `root` in the layout `kind`: `uw-madison`, `msd`, `nifti` or `folder`.

    Raises:
        InputError: the layout is unknown, lacks a given or needs a missing option, or `root` is not a folder.
    """
    options = options or SourceOptions()
    opens, given = choose_layout(LAYOUTS, kind, options)
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the root of the data set")
    if kind in ("uw-madison", "msd"):
        return cast(Source, opens(root, **given))
    if options.classes is None:
        raise InputError(
            f"the layout {kind!r} does not name its classes; give classes=, in the order of the labels 1, 2, ..."
        )
    images = root / (given.pop("images", None) or "images")
    labels = root / (given.pop("labels", None) or ("masks" if kind == "folder" else "labels"))
    return cast(Source, opens(images, labels, **given))


def detect_kind(root: Path | str) -> str:
    """Recognise the layout of the folder `root` by the names of its files.

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
    if (root / "images").is_dir() and visible_files(root / "images", pictures.SUFFIXES):
        return "folder"
    raise InputError(f"{root} is in none of the known layouts ({', '.join(KINDS)}); name the layout and its folders")
