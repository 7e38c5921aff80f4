"""`fewpairs data check` for pictures with boxes and masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fewpairs.kinds.detection.options import DetectionOptions
    from fewpairs.kinds.detection.source import DetectionSource

_SHOWN_ERRORS = 20
_SHOWN_CLASSES = 40


def check_detection(root: Path, kind: str, settings: list[str], *, decode: bool, json: bool, progress: bool) -> None:
    """Count images and objects of each class and part, name everything odd, and list what is wrong."""
    import json as json_format
    from dataclasses import replace

    from fewpairs.errors import DataError
    from fewpairs.kinds.detection.layouts.open import open_detection

    options = detection_options(settings)
    source = open_detection(kind, root, replace(options, on_error="skip"))
    wrong = [*source.check.errors(), *(_damaged(source, progress) if decode else ())]
    notes = source.check.sentences(errors=False)
    if json:
        counts = {part: {"images": len(source.part(part)), "objects": source.counts(part)} for part in source.parts}
        content = {
            "kind": kind,
            "name": source.name,
            "classes": list(source.classes),
            "masks": source.has_masks,
            "split": source.split,
            "images": len(source),
            "counts": counts,
            "findings": source.check.as_dict(),
            "errors": wrong,
        }
        typer.echo(json_format.dumps(content, indent=2))
    else:
        _show(kind, source, notes, wrong)
    if wrong and options.on_error == "stop":
        raise DataError(f"{len(wrong)} things are wrong with {source.name}; the first: {wrong[0]}")


def detection_options(settings: list[str]) -> DetectionOptions:
    """`field=value` of each setting; classes are separated by commas."""
    from dataclasses import fields

    from pydantic import TypeAdapter, ValidationError

    from fewpairs.errors import InputError, nearest
    from fewpairs.kinds.detection.options import DetectionOptions

    known = [field.name for field in fields(DetectionOptions)]
    given: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not value:
            raise InputError(f"{setting!r} must have the form field=value, as in difficult=keep")
        if name not in known:
            raise InputError(f"no option {name!r}; {nearest(name, known)}")
        given[name] = value.split(",") if name == "classes" else int(value) if value in ("0", "1") else value
    try:
        return TypeAdapter(DetectionOptions).validate_python(given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        raise InputError(f"{name}={given[name]}: {problem['msg']}") from None


def _damaged(source: DetectionSource, progress: bool) -> list[str]:
    """A sentence for each image whose pixels cannot be decoded."""
    from fewpairs.data.progress import track
    from fewpairs.errors import DataError

    wrong = []
    for record in track(source.records, f"decoding {len(source)} images", enabled=progress):
        try:
            record.read()
        except DataError as error:
            wrong.append(str(error))
    return wrong


def _show(kind: str, source: DetectionSource, notes: tuple[str, ...], wrong: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    masks = "with masks" if source.has_masks else "boxes alone"
    counted = f"{len(source):,} images, {len(source.table.labels):,} objects of {len(source.classes)} classes, {masks}"
    console.print(f"{source.name} ({kind}): {counted}", markup=False, soft_wrap=True)
    counts = {part: source.counts(part) for part in source.parts}
    table = Table("class", *counts, box=None)
    for name in source.classes[:_SHOWN_CLASSES]:
        table.add_row(name, *(f"{part[name]:,}" for part in counts.values()))
    if len(source.classes) > _SHOWN_CLASSES:
        table.add_row(f"and {len(source.classes) - _SHOWN_CLASSES} more")
    table.add_row("objects", *(f"{sum(part.values()):,}" for part in counts.values()))
    table.add_row("crowds", *(f"{source.crowds(part):,}" for part in counts))
    table.add_row("images", *(f"{len(source.part(part)):,}" for part in counts))
    console.print(table)
    console.print(f"parts: {source.split}", markup=False, soft_wrap=True)
    for note in notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for problem in wrong[:_SHOWN_ERRORS]:
        console.print(f"error: {problem}", markup=False, soft_wrap=True)
    if len(wrong) > _SHOWN_ERRORS:
        console.print(f"... and {len(wrong) - _SHOWN_ERRORS} more errors; --json lists them all")
