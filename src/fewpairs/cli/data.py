"""`fewpairs data`: look into a data set, decode it beforehand, or make one up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewpairs.cli.data_check import check

if TYPE_CHECKING:
    from fewpairs.kinds.segmentation.layouts.open import SourceOptions
    from fewpairs.kinds.segmentation.overview import Inspection

app = typer.Typer(
    name="data",
    help="Look into a data set, decode it beforehand, or make one up.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

app.command()(check)

_SHOWN_ERRORS = 20

Root = Annotated[Path, typer.Argument(help="Folder of the data set.", show_default=False)]
Kind = Annotated[
    str | None, typer.Option(help="Layout: uw-madison, msd, nifti or folder; found out from the folder by default.")
]
Classes = Annotated[
    str | None,
    typer.Option(help="Names of the labels 1, 2, ... in order: `a,b`; or with their labels: `a=1,b=3+4`."),
]
Axis = Annotated[int | None, typer.Option(help="Slices of NIfTI volumes: 0 sagittal, 1 coronal, 2 axial (default).")]
Images = Annotated[str | None, typer.Option(help="Folder of the images below ROOT.")]
Labels = Annotated[str | None, typer.Option(help="Folder of the labels or masks below ROOT.")]
Colour = Annotated[
    list[str] | None, typer.Option(help="Colour of a class in colour-coded masks: `name=255,0,0`; once for each class.")
]
Nonzero = Annotated[bool, typer.Option("--nonzero", help="Masks of one class: everything but 0 belongs to it.")]
CasePattern = Annotated[
    str | None, typer.Option(help="Regular expression whose group is the case in a file's name: `(.+)_[0-9]+`.")
]
OtherLabels = Annotated[str | None, typer.Option(help="NIfTI labels of no class: `error` (default) or `background`.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command()
def inspect(
    root: Root,
    kind: Kind = None,
    classes: Classes = None,
    axis: Axis = None,
    images: Images = None,
    labels: Labels = None,
    colour: Colour = None,
    nonzero: Nonzero = False,
    case_pattern: CasePattern = None,
    other_labels: OtherLabels = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Count what a data set holds, and list every scan that cannot be read.

    Scans, cases, slices, sizes, spacings, intensities, voxels of each class, empty slices, overlaps. Exit status 2 if
    anything is wrong with the files.

    Example: `fewpairs data inspect Task04_Hippocampus --classes anterior,posterior`
    """
    import json as json_format

    from fewpairs.errors import DataError
    from fewpairs.kinds.segmentation.layouts.open import detect_kind, open_source
    from fewpairs.kinds.segmentation.overview import inspect_source

    options = _options(classes, axis, images, labels, colour, nonzero, case_pattern, other_labels)
    kind = kind or detect_kind(root)
    found = inspect_source(open_source(kind, root, options), progress=not quiet)
    if json:
        typer.echo(json_format.dumps({"root": str(root), "kind": kind, **found.as_dict()}, indent=2))
    else:
        _show(root, kind, found)
    if found.errors:
        raise DataError(f"{len(found.errors)} scans of {root} cannot be read; the first: {found.errors[0]}")


@app.command()
def prepare(
    root: Root,
    kind: Kind = None,
    classes: Classes = None,
    axis: Axis = None,
    images: Images = None,
    labels: Labels = None,
    colour: Colour = None,
    nonzero: Nonzero = False,
    case_pattern: CasePattern = None,
    other_labels: OtherLabels = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for the decoded data; by default that of `train`.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte of decoded data that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Decode a data set into the memory-mapped store that training reads; `train` does the same when it must.

    Example: `fewpairs data prepare uw-madison-gi-tract --cache /scratch/me/fewpairs`
    """
    from typing import get_args

    from fewpairs.kinds.segmentation.experiment import DataConfig, cache_folder
    from fewpairs.kinds.segmentation.layouts.open import Kind as Layout
    from fewpairs.kinds.segmentation.layouts.open import detect_kind, open_source
    from fewpairs.kinds.segmentation.preparation import prepare as prepare_store

    options = _options(classes, axis, images, labels, colour, nonzero, case_pattern, other_labels)
    source = open_source(kind or detect_kind(root), root, options)
    layout = next(name for name in get_args(Layout) if name == (kind or detect_kind(root)))
    config = DataConfig(kind=layout, root=str(root), source=options, cache=None if cache is None else str(cache))
    store = prepare_store(source, cache_folder(config), progress=not quiet, verify=True if verify else None)
    typer.echo(f"{store.path}: {len(store.scans)} scans of {len(store.cases)} cases, {store.slices} slices")


@app.command()
def phantom(
    root: Annotated[Path, typer.Argument(help="New folder to write to.", show_default=False)],
    cases: Annotated[int, typer.Option(help="Number of cases (patients).")] = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pixels.")] = 0,
    scale: Annotated[float, typer.Option(help="Factor on height and width; 1 is the size of the real data.")] = 1.0,
    days: Annotated[int | None, typer.Option(help="Scans a case; 1 to 6, as in the real data, by default.")] = None,
    slices: Annotated[int | None, typer.Option(help="Slices a scan; 144 or 80, as in the real data.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write made-up abdominal scans in the UW-Madison GI Tract layout: no patient, no licence.

    Example: `fewpairs data phantom phantom --cases 24 --scale 0.25 --days 2 --slices 16`
    """
    from fewpairs.kinds.segmentation.phantom.phantom import make_phantom

    make_phantom(root, cases=cases, seed=seed, scale=scale, days=days, slices=slices, progress=not quiet)
    typer.echo(f"{root}: {cases} cases; look into it with: fewpairs data inspect {root}")


def _options(
    classes: str | None,
    axis: int | None,
    images: str | None,
    labels: str | None,
    colour: list[str] | None,
    nonzero: bool,
    case_pattern: str | None,
    other_labels: str | None,
) -> SourceOptions:
    from fewpairs.errors import InputError
    from fewpairs.kinds.segmentation.layouts.open import SourceOptions

    if other_labels not in (None, "error", "background"):
        raise InputError(f"--other-labels {other_labels}: allowed are error and background")
    return SourceOptions(
        classes=_parse_classes(classes),
        axis=axis,
        images=images,
        labels=labels,
        colours=None if not colour else dict(_parse_colour(text) for text in colour),
        nonzero=nonzero or None,
        case_pattern=case_pattern,
        other_labels=other_labels,  # type: ignore[arg-type]
    )


def _parse_classes(text: str | None) -> tuple[str, ...] | dict[str, int | tuple[int, ...]] | None:
    """`a,b` -> names in order; `a=1,b=3+4` -> names with their labels."""
    from fewpairs.errors import InputError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if "=" not in text:
        return tuple(parts)
    named: dict[str, int | tuple[int, ...]] = {}
    for part in parts:
        name, _, values = part.partition("=")
        if not name or not values or not all(value.strip().isdigit() for value in values.split("+")):
            raise InputError(f"--classes {text}: {part!r} is not NAME=LABEL or NAME=LABEL+LABEL")
        named[name.strip()] = tuple(int(value) for value in values.split("+"))
    return named


def _parse_colour(text: str) -> tuple[str, tuple[int, ...]]:
    from fewpairs.errors import InputError

    name, _, rgb = text.rpartition("=")
    parts = rgb.split(",")
    if not name or len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise InputError(f"--colour {text}: give NAME=RED,GREEN,BLUE with numbers from 0 to 255")
    return name, tuple(int(part) for part in parts)


def _show(root: Path, kind: str, found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table

    def share(part: int, whole: int) -> str:
        return f"{part:,} ({part / whole:.1%})" if whole else str(part)

    console = Console(highlight=False)
    facts = Table(show_header=False, box=None)
    facts.add_row("data set", f"{root} ({kind})")
    facts.add_row("scans", f"{found.scans} of {len(found.cases)} cases, {found.channels} channel(s)")
    facts.add_row("slices", f"{found.slices:,}, empty: {share(found.empty_slices, found.slices)}")
    facts.add_row("sizes", _counted(dict(found.sizes), "slices"))
    facts.add_row("spacings", _counted(dict(found.spacings), "scans") + ", mm between slices x rows x columns")
    facts.add_row("voxels", _counted(dict(found.dtypes), "scans") + f", {found.lowest:g} to {found.highest:g}")
    facts.add_row("overlaps", f"{share(found.overlap_voxels, found.all_voxels)} voxels of two or more classes")
    console.print(facts)
    table = Table("class", "voxels", "slices", box=None)
    for name, voxels, slices in zip(found.classes, found.voxels, found.class_slices, strict=True):
        table.add_row(name, share(voxels, found.all_voxels), share(slices, found.slices))
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for message in found.errors[:_SHOWN_ERRORS]:
        console.print(f"error: {message}", markup=False, soft_wrap=True)
    if len(found.errors) > _SHOWN_ERRORS:
        console.print(f"... and {len(found.errors) - _SHOWN_ERRORS} more errors; --json lists them all")


def _counted(counts: dict[str, int], what: str, shown: int = 6) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} ({count:,} {what})" for name, count in ordered[:shown])
    return listed + (f" and {len(ordered) - shown} more" if len(ordered) > shown else "")
