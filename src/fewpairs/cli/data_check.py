"""`fewpairs data check`: pictures with a class each, with boxes and masks, or with label maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewpairs.cli.data_detection import check_detection
from fewpairs.cli.data_semantic import check_semantic

if TYPE_CHECKING:
    from fewpairs.kinds.classification.layouts.open import LabelledOptions
    from fewpairs.kinds.classification.overview import Overview

_SHOWN_ERRORS = 20
_SHOWN_CLASSES = 40


def check(
    root: Annotated[
        str, typer.Argument(help="Folder of the data set, or its name on the Hugging Face hub.", show_default=False)
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="FIELD=VALUE, as data.source.FIELD in training: `name=CIFAR10`, `labels=val.csv`, `classes=a,b`.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Layout: folder, imagenet, idx, torchvision or huggingface (a class each); coco, voc or nuclei-masks "
            "(boxes and masks); ade20k, cityscapes or label-maps (a class a pixel; never found out); found out from "
            "the folder by default."
        ),
    ] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every pixel, not headers and ends alone.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Count the pictures or objects of each class, and list everything that is wrong.

    For classification: a folder for each class, ImageNet, IDX files (MNIST and its family), torchvision's and Hugging
    Face's data sets. Nothing is downloaded but what is asked for: a name on the hub, or `download=true`. For detection:
    COCO JSON, Pascal VOC XML, and label maps of objects. For semantic segmentation: ADE20K, Cityscapes, and a folder
    of images beside one of label maps. Exit status 2 if anything is wrong.

    Example: `fewpairs data check photos --decode` or `fewpairs data check photos name=CIFAR10 --kind torchvision`
    """
    import json as json_format

    from fewpairs.errors import DataError, InputError
    from fewpairs.kinds.classification.layouts.open import LABELLED_KINDS, detect_labelled, open_labelled
    from fewpairs.kinds.classification.overview import look_over
    from fewpairs.kinds.detection.layouts.open import DETECTION_KINDS, detect_detection
    from fewpairs.kinds.semantic.layouts.open import SEMANTIC_KINDS

    if kind in SEMANTIC_KINDS:
        check_semantic(Path(root), kind, settings or [], decode=decode, json=json, progress=not quiet)
        return
    detection = kind if kind in DETECTION_KINDS else None if kind else detect_detection(root)
    if detection is not None:
        check_detection(Path(root), detection, settings or [], decode=decode, json=json, progress=not quiet)
        return
    options = _options(settings or [])
    kind = kind or detect_labelled(root)
    if kind is None:
        raise InputError(
            f"{root} shows no layout of labelled pictures by the names in it; give --kind "
            f"({', '.join((*LABELLED_KINDS, *DETECTION_KINDS, *SEMANTIC_KINDS))})"
        )
    found = look_over(open_labelled(kind, root, options), decode=decode, progress=not quiet)
    if json:
        typer.echo(json_format.dumps({"kind": kind, **found.as_dict()}, indent=2))
    else:
        _show(kind, found)
    if found.problems:
        raise DataError(
            f"{len(found.problems)} of {found.images} images of {found.name} cannot be read; "
            f"the first: {found.problems[0]}"
        )


def _options(settings: list[str]) -> LabelledOptions:
    from dataclasses import fields

    from fewpairs.errors import InputError, nearest
    from fewpairs.kinds.classification.layouts.open import LabelledOptions

    known = [field.name for field in fields(LabelledOptions)]
    given: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not value:
            raise InputError(f"{setting!r} must have the form field=value, as in name=CIFAR10")
        if name not in known:
            raise InputError(f"no option {name!r}; {nearest(name, known)}")
        given[name] = value
    if "classes" in given:
        given["classes"] = tuple(given["classes"].split(","))
    if "download" in given:
        if given["download"] not in ("true", "false"):
            raise InputError(f"download={given['download']}: allowed are true and false")
        given["download"] = given["download"] == "true"
    return LabelledOptions(**given)


def _show(kind: str, found: Overview) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    channels = "grey" if found.channels == 1 else "colour"
    counted = f"{found.images:,} images of {len(found.classes)} classes, {channels}"
    console.print(f"{found.name} ({kind}): {counted}", markup=False, soft_wrap=True)
    table = Table("class", *found.counts, box=None)
    for name in found.classes[:_SHOWN_CLASSES]:
        table.add_row(name, *(f"{part[name]:,}" for part in found.counts.values()))
    if len(found.classes) > _SHOWN_CLASSES:
        table.add_row(f"and {len(found.classes) - _SHOWN_CLASSES} more")
    table.add_row("together", *(f"{sum(part.values()):,}" for part in found.counts.values()))
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for problem in found.problems[:_SHOWN_ERRORS]:
        console.print(f"error: {problem}", markup=False, soft_wrap=True)
    if len(found.problems) > _SHOWN_ERRORS:
        console.print(f"... and {len(found.problems) - _SHOWN_ERRORS} more errors; --json lists them all")
