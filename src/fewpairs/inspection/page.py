"""Writes an inspection as one self-contained HTML page, with its numbers and figures in files beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fewpairs.errors import InputError
from fewpairs.inspection.contact_sheet import layer_contact_sheet
from fewpairs.inspection.curves import curves_figure
from fewpairs.inspection.maps import backdrop, extent, head_maps, jpeg, map_shape, png, thumbnail
from fewpairs.inspection.page_text import DEFINITIONS, facts, layer_facts, what_to_see
from fewpairs.inspection.result import Inspection, LayerInspection, Point, Row
from fewpairs.inspection.tables import heads_table, layers_table, stages
from fewpairs.report.page import page_environment
from fewpairs.report.svg import svg
from fewpairs.safe_text import file_name
from fewpairs.writing import check_inside, replaced

PAGE, NUMBERS, CURVES, SHEETS = "inspection.html", "inspection.json", "curves.png", "layers"


@dataclass(frozen=True, slots=True)
class WrittenInspection:
    """The files of an inspection."""

    page: Path
    numbers: Path
    pictures: tuple[Path, ...]


def write_page(inspection: Inspection, out: Path | str) -> WrittenInspection:
    """Writes `inspection.html`, `inspection.json`, `curves.png` and `layers/*.png` into a folder and replaces old ones.

    The page needs none of the other files, which are for scripts and papers.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(out)
    pictures = {folder / CURVES: _figure_png(inspection)}
    for layer in inspection.layers:
        if layer.rows:
            sheet = BytesIO()
            layer_contact_sheet(inspection, layer).save(sheet, "PNG")
            name = file_name(f"{layer.index:02d}-{layer.name or 'model'}", ".png")
            pictures[folder / SHEETS / name] = sheet.getvalue()
    contents = {folder / PAGE: page(inspection).encode(), folder / NUMBERS: numbers(inspection).encode(), **pictures}
    check_inside(folder, contents)
    for file, content in contents.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replaced(file) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise InputError(
                f"{file}: cannot write the inspection ({error.strerror}); choose another folder"
            ) from error
    return WrittenInspection(folder / PAGE, folder / NUMBERS, tuple(pictures))


def page(inspection: Inspection) -> str:
    """The inspection as HTML."""
    from fewpairs import __version__

    environment = page_environment()
    source, _, _ = environment.loader.get_source(environment, "style.css")  # type: ignore[union-attr]
    own, _, _ = environment.loader.get_source(environment, "inspection.css")  # type: ignore[union-attr]
    photo = thumbnail(inspection.picture, 336)
    return environment.get_template("inspection.html.j2").render(
        title=f"Attention of {inspection.subject.model}",
        kicker="Study of one image",
        lead=" · ".join(text for text in (inspection.subject.image, inspection.subject.weights) if text),
        style=Markup(source + own),
        subject=inspection.subject,
        facts=facts(inspection),
        stages=stages(inspection),
        photo=jpeg(photo),
        ratio=photo.shape[1] / photo.shape[0],
        marks=[_mark(inspection, point) for point in inspection.queries] if inspection.uses_queries else [],
        summary=layers_table(inspection),
        curves=Markup(svg(curves_figure(inspection), "curves", "How the numbers run through the layers")),
        truncates=inspection.truncates,
        pairs=inspection.pairs,
        positions=inspection.positions,
        uses_queries=inspection.uses_queries,
        layers=list(_sections(inspection)),
        undrawn=sum(not layer.rows for layer in inspection.layers),
        measured=DEFINITIONS,
        notes=inspection.notes,
        version=__version__,
    )


def numbers(inspection: Inspection) -> str:
    """All numbers as JSON, with the kept keys of the chosen queries; numbers that are not finite become null."""
    from fewpairs import __version__

    content = {
        "fewpairs": __version__,
        "subject": asdict(inspection.subject),
        "size": list(inspection.picture.shape[:2]),
        "queries": inspection.queries,
        "target": inspection.target,
        "notes": inspection.notes,
        "layers": [_layer_numbers(layer) for layer in inspection.layers],
        "blocks": inspection.blocks,
    }
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def _layer_numbers(layer: LayerInspection) -> dict[str, Any]:
    names = [name for name in layer.__slots__ if name != "rows"]
    rows = [
        {
            "label": row.label,
            "what": row.what,
            "token": row.position.token,
            "window": row.position.batch if layer.windowed else None,
            "prefix_keys": row.position.prefix,
            "kept": None if row.kept is None else [head.nonzero()[0].tolist() for head in row.kept],
            "dropped": [maps.dropped for maps in head_maps(row)],
        }
        for row in layer.rows
    ]
    return {name: getattr(layer, name) for name in names} | {"rows": rows}


def _plain(content: Any) -> Any:
    if is_dataclass(content) and not isinstance(content, type):
        return _plain(asdict(content))
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not isfinite(content) else content


def _figure_png(inspection: Inspection) -> bytes:
    buffer = BytesIO()
    curves_figure(inspection).savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def _mark(inspection: Inspection, point: Point) -> dict[str, float]:
    """The position of a query's mark on the picture in percent: the middle of its pixel."""
    height, width, _ = inspection.picture.shape
    return {"top": 100 * (int(point[0]) + 0.5) / height, "left": 100 * (int(point[1]) + 0.5) / width}


def _sections(inspection: Inspection) -> Iterator[dict[str, Any]]:
    """The drawn layers for the template; the first, the middle and the last of them are unfolded."""
    drawn = [layer for layer in inspection.layers if layer.rows]
    unfolded = {0, len(drawn) // 2, len(drawn) - 1}
    for place, layer in enumerate(drawn):
        yield {
            "layer": layer,
            "facts": layer_facts(layer),
            "open": place in unfolded,
            "heads": heads_table(layer),
            "caption": what_to_see(layer),
            "rows": [_drawn_row(inspection, layer, row) for row in layer.rows],
        }


def _drawn_row(inspection: Inspection, layer: LayerInspection, row: Row) -> dict[str, Any]:
    behind = backdrop(layer, row, inspection.picture)
    height, width = map_shape(row)
    return {
        "label": row.label,
        "what": row.what,
        "backdrop": jpeg(behind) if layer.windowed and behind is not None else None,
        "known": behind is not None,
        "ratio": width / height if layer.windowed or behind is None else behind.shape[1] / behind.shape[0],
        "cell": None if row.position.cell is None else [100 * part for part in row.position.cell],
        "window": [[100 * part for part in box] for box in extent(layer, row)],
        "prefix": row.position.prefix,
        "heads": [
            {
                "maps": maps,
                "veil": None if maps.veil is None else png(maps.veil),
                "dense": png(maps.dense),
                "truncated": None if maps.truncated is None else png(maps.truncated),
            }
            for maps in head_maps(row)
        ],
    }
