"""`fewpairs data`: check a data set, decode it before training, or write a phantom."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewpairs.cli.output import echo

if TYPE_CHECKING:
    from fewpairs.data.overview import DataOverview

app = typer.Typer(
    name="data",
    help="Look into a data set, decode it beforehand, or make one up.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

LAYOUTS = {
    "detection": ("coco", "voc", "nuclei-masks"),
    "classification": ("folder", "imagenet", "idx", "torchvision", "huggingface"),
    "semantic": ("ade20k", "cityscapes", "label-maps"),
    "segmentation": ("uw-madison", "msd", "nifti", "folder"),
}
"""Layouts of each kind of experiment; without `--for`, `folder` means the first kind that has it."""

_OPTIONS = {
    "detection": "fewpairs.kinds.detection.options:DetectionOptions",
    "classification": "fewpairs.kinds.classification.layouts.open:LabelledOptions",
    "semantic": "fewpairs.kinds.semantic.layouts.open:SemanticOptions",
    "segmentation": "fewpairs.kinds.segmentation.layouts.open:SourceOptions",
}
_DETECT = {
    "detection": "fewpairs.kinds.detection.layouts.open:detect_detection",
    "classification": "fewpairs.kinds.classification.layouts.open:detect_labelled",
    "segmentation": "fewpairs.kinds.segmentation.layouts.open:detect_kind",
}
_SHOWN_ERRORS = 20
_SHOWN_CLASSES = 40

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        help="FIELD=VALUE, as data.source.FIELD in training: `classes=a,b`, `axis=1`, `name=CIFAR10`.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command()
def check(
    root: Annotated[
        str, typer.Argument(help="Folder of the data set, or its name on the Hugging Face hub.", show_default=False)
    ],
    settings: Settings = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Layout: uw-madison, msd or nifti (scans); folder, imagenet, idx, torchvision or huggingface (a class "
            "each); coco, voc or nuclei-masks (boxes and masks); ade20k, cityscapes or label-maps (a class a pixel; "
            "never found out); found out from the folder by default."
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Kind of experiment: segmentation, classification, semantic or detection. Pictures with masks in "
            "`folder` are those of segmentation.",
        ),
    ] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every pixel, not headers and ends alone.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Count what a data set holds, class by class, and list everything that is wrong.

    For every kind of experiment. Scans are always read whole. Nothing is downloaded but what is asked for: a name on
    the hub, or `download=true`. Exit status 2 if anything is wrong.

    Example: `fewpairs data check photos --decode` or `fewpairs data check hippocampus classes=anterior,posterior`
    """
    import json as json_format

    from fewpairs.errors import DataError

    experiment, kind = _layout(root, kind, experiment)
    options = source_options(experiment, settings or [])
    overview = import_module(f"fewpairs.kinds.{experiment}.overview").overview
    found = overview(kind, root, options, decode=decode, progress=not quiet)
    if json:
        typer.echo(json_format.dumps(found.content, indent=2))
    else:
        _show(found, experiment)
    if found.failure is not None:
        raise DataError(found.failure)


@app.command()
def prepare(
    root: Annotated[Path, typer.Argument(help="Folder of the scans.", show_default=False)],
    settings: Settings = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Layout: uw-madison, msd, nifti or folder; found out from the folder by default."),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for the decoded data; by default that of `train`.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte of decoded data that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Decode scans into the memory-mapped store that training reads; `train` does the same when it must.

    Example: `fewpairs data prepare uw-madison-gi-tract --cache /scratch/me/fewpairs`
    """
    from fewpairs.data.progress import remark
    from fewpairs.kinds.segmentation.experiment import SegmentationDataConfig
    from fewpairs.kinds.segmentation.layouts.open import open_source
    from fewpairs.kinds.segmentation.open_store import cache_folder
    from fewpairs.kinds.segmentation.preparation import prepare as prepare_store

    layout: Any = _layout(str(root), kind, "segmentation")[1]
    options = source_options("segmentation", settings or [])
    source = open_source(layout, root, options)
    config = SegmentationDataConfig(
        kind=layout, root=str(root), source=options, cache=None if cache is None else str(cache)
    )
    store = prepare_store(source, cache_folder(config), progress=not quiet, verify=True if verify else None)
    remark(source.notes)
    echo(f"{store.path}: {len(store.scans)} scans of {len(store.cases)} cases, {store.slices} slices")


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
    echo(f"{root}: {cases} cases; look into it with: fewpairs data check {root}")


def source_options(experiment: str, settings: list[str]) -> Any:
    """Parse the options of a layout from `field=value`, read as YAML; lists may be `a,b`, names with values `a=1,b=2`.

    Args:
        experiment: kind of experiment for the data set.

    Raises:
        InputError: a field is unknown, or a value has the wrong type.
    """
    import json
    from dataclasses import fields
    from typing import get_args, get_origin, get_type_hints

    from pydantic import TypeAdapter, ValidationError

    from fewpairs.errors import InputError, nearest
    from fewpairs.runs.config import parse_override
    from fewpairs.runs.former_settings import renamed

    options = _load(_OPTIONS[experiment])
    known, hints = [field.name for field in fields(options)], get_type_hints(options)
    given: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or not value:
            raise InputError(f"{setting!r} must have the form field=value, as in classes=a,b")
        path, _ = renamed(experiment, [(("data", "source", name), value)])[0]
        if path[:2] != ("data", "source"):
            raise InputError(f"{name} is no option of a layout; set {'.'.join(path)} in training")
        name = path[2]
        if name not in known:
            raise InputError(f"no option {name!r}; {nearest(name, known)}")
        kinds = get_args(hints[name])
        if set(kinds) == {str, type(None)}:
            given[name] = None if value == "null" else value
        elif any(get_origin(one) is tuple for one in kinds) and value[0] not in "[{" and value != "null":
            parts = [part.strip() for part in value.split(",")]
            named = [part.partition("=") for part in parts]
            numbers = any(get_origin(one) is dict for one in kinds) and all(equals for _, equals, _ in named)
            given[name] = {key.strip(): parse_override(f"x={one}")[1] for key, _, one in named} if numbers else parts
        else:
            given[name] = parse_override(f"{name}={value}")[1]
    try:
        return TypeAdapter(options).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        raise InputError(f"{name}={given[name]}: {problem['msg']}") from None


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _layout(root: str, kind: str | None, experiment: str | None) -> tuple[str, str]:
    """Return the kind of experiment and the layout of a data set.

    If neither is given, layouts of scans other than `folder` are tried first, then detection, then classification.
    """
    from fewpairs.errors import InputError, nearest

    if experiment is not None and experiment not in LAYOUTS:
        raise InputError(f"--for {experiment}: {nearest(experiment, LAYOUTS)}")
    if kind is not None:
        known = {experiment: LAYOUTS[experiment]} if experiment else LAYOUTS
        found = next((name for name, layouts in known.items() if kind in layouts), None)
        if found is None:
            raise InputError(f"unknown layout kind={kind!r}; {nearest(kind, dict.fromkeys(sum(known.values(), ())))}")
        return found, kind
    if experiment == "semantic":
        raise InputError(f"a layout of label maps is never found out; give --kind ({', '.join(LAYOUTS[experiment])})")
    if experiment == "segmentation":
        return experiment, _load(_DETECT[experiment])(root)
    if experiment is None:
        try:
            scans = _load(_DETECT["segmentation"])(root)
        except InputError:
            scans = "folder"
        if scans != "folder":
            return "segmentation", scans
    for name in (experiment,) if experiment else ("detection", "classification"):
        if name == "classification" and (beside := _beside_images(Path(root))) is not None:
            raise InputError(
                f"{root} holds images beside {beside}, which are no classes; give --for segmentation or --kind "
                "label-maps for masks, --kind nuclei-masks for numbered objects, and COCO JSON or VOC's XML for boxes"
            )
        if (found := _load(_DETECT[name])(root)) is not None:
            return name, found
    layouts = LAYOUTS[experiment] if experiment else dict.fromkeys(sum(LAYOUTS.values(), ()))
    raise InputError(f"{root} shows no layout by the names in it; give --kind ({', '.join(layouts)})")


def _beside_images(root: Path) -> str | None:
    """Return the name of a folder of masks or labels beside one of images, in `root` or in the folder of a part."""
    from fewpairs.data.files import visible_folders
    from fewpairs.data.split import part_of

    if not root.is_dir():
        return None
    for folder in (root, *(root / name for name in visible_folders(root) if part_of(name))):
        names = {name.lower(): name for name in visible_folders(folder)}
        if "images" in names and (beside := names.keys() & {"masks", "labels", "annotations"}):
            return names[min(beside)]
    return None


def _show(found: DataOverview, experiment: str) -> None:
    from rich.table import Table

    from fewpairs.console import Console
    from fewpairs.terminal import print_table

    counted = ", ".join(f"{name} {count:,}" for name, count in found.parts.items())
    parts = f": {counted}" if counted else ""
    console = Console()
    console.print(f"{found.name} ({found.kind}): {found.summary}", soft_wrap=True)
    console.print(f"read as {experiment} in the layout {found.kind}{parts}", soft_wrap=True)
    for name, fact in found.facts.items():
        console.print(f"{name}: {fact}", soft_wrap=True)
    table = Table("class" if found.classes else "", *found.columns, box=None)
    for name, cells in list(found.classes.items())[:_SHOWN_CLASSES]:
        table.add_row(name, *cells)
    if len(found.classes) > _SHOWN_CLASSES:
        table.add_row(f"and {len(found.classes) - _SHOWN_CLASSES} more")
    for name, cells in found.totals.items():
        table.add_row(name, *cells)
    print_table(console, table)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for problem in found.errors[:_SHOWN_ERRORS]:
        console.print(f"error: {problem}", soft_wrap=True)
    if len(found.errors) > _SHOWN_ERRORS:
        console.print(f"... and {len(found.errors) - _SHOWN_ERRORS} more errors; --json lists them all")
