"""`fewpairs data check` for photographs with label maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fewpairs.kinds.semantic.check import SceneOverview
    from fewpairs.kinds.semantic.layouts.open import SemanticOptions
    from fewpairs.kinds.semantic.source import SemanticSource

_SHOWN_ERRORS = 20
_SHOWN_CLASSES = 40


def check_semantic(root: Path, kind: str, settings: list[str], *, decode: bool, json: bool, progress: bool) -> None:
    """Count images of each part and, with `decode`, pixels of each class, and list what is wrong."""
    import json as json_format

    from fewpairs.errors import DataError
    from fewpairs.kinds.semantic.check import look_over_scenes
    from fewpairs.kinds.semantic.layouts.open import open_semantic

    source = open_semantic(kind, root, semantic_options(settings))
    found = look_over_scenes(source, decode=decode, progress=progress)
    if json:
        content = {"kind": kind, "name": source.name, "classes": list(source.classes), **found.as_dict()}
        typer.echo(json_format.dumps(content, indent=2))
    else:
        _show(kind, source, found)
    if found.problems:
        raise DataError(f"{len(found.problems)} things are wrong with {source.name}; the first: {found.problems[0]}")


def semantic_options(settings: list[str]) -> SemanticOptions:
    """`field=value` of each setting, read as YAML; classes may be separated by commas.

    Raises:
        InputError: a field that is not known, or a value of the wrong type.
    """
    from dataclasses import fields

    from pydantic import TypeAdapter, ValidationError

    from fewpairs.errors import InputError, nearest
    from fewpairs.kinds.semantic.layouts.open import SemanticOptions
    from fewpairs.runs.config import parse_override

    known = [field.name for field in fields(SemanticOptions)]
    given: dict[str, Any] = {}
    for setting in settings:
        name, value = setting.partition("=")[::2]
        if name not in known:
            raise InputError(f"no option {name!r}; {nearest(name, known)}")
        plain_list = name == "classes" and not value.startswith("[")
        given[name] = value.split(",") if plain_list else parse_override(setting)[1]
    try:
        return TypeAdapter(SemanticOptions).validate_python(given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        raise InputError(f"{name}={given[name]}: {problem['msg']}") from None


def _show(kind: str, source: SemanticSource, found: SceneOverview) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    channels = "grey" if source.channels == 1 else "colour"
    counted = f"{sum(found.images.values()):,} images with label maps of {len(source.classes)} classes, {channels}"
    console.print(f"{source.name} ({kind}): {counted}", markup=False, soft_wrap=True)
    table = Table("class" if found.pixels else "", *found.images, box=None)
    if found.pixels:
        totals = {part: max(1, sum(counts.values())) for part, counts in found.pixels.items()}
        for name in [*source.classes[:_SHOWN_CLASSES], "(not scored)"]:
            table.add_row(
                name, *(f"{100 * counts[name] / totals[part]:.2f} %" for part, counts in found.pixels.items())
            )
        if len(source.classes) > _SHOWN_CLASSES:
            table.add_row(f"and {len(source.classes) - _SHOWN_CLASSES} more")
    table.add_row("images", *(f"{count:,}" for count in found.images.values()))
    console.print(table)
    if found.pixels is None:
        console.print(
            "sizes were compared; --decode reads every label and counts the pixels of each class", style="dim"
        )
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for problem in found.problems[:_SHOWN_ERRORS]:
        console.print(f"error: {problem}", markup=False, soft_wrap=True)
    if len(found.problems) > _SHOWN_ERRORS:
        console.print(f"... and {len(found.problems) - _SHOWN_ERRORS} more errors; --json lists them all")
