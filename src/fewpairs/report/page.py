"""Renders a comparison or a single run as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from fewpairs import numbers
from fewpairs.errors import InputError
from fewpairs.report import score_text
from fewpairs.report.comparison import Comparison, Overlay, Row
from fewpairs.report.confusion import confusion_figure, confusions_table
from fewpairs.report.curves import curves_figure, run_figure
from fewpairs.report.figures import cost_figure, difference_figure, score_figure, units_figure
from fewpairs.report.methods import methods
from fewpairs.report.svg import svg
from fewpairs.report.table import (
    class_tables,
    differences_table,
    further_table,
    run_classes_table,
    score_cell,
    seeds_table,
    summary_table,
)
from fewpairs.safe_text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_report(comparison: Comparison, *, folder: Path | None = None) -> str:
    """The whole comparison as self-contained HTML: verdicts, tables, figures, classes, overlays, methods.

    Relative paths of overlays are looked up in `folder`. Raises DataError when an overlay's file is missing.
    """
    rows = comparison.rows
    further = further_table(comparison)
    return _render(
        "comparison.html.j2",
        comparison,
        kicker="Comparison",
        verdicts=[_verdict(comparison, row) for row in rows[1:]],
        summary=summary_table(comparison),
        further=[table for table in (further, seeds_table(comparison)) if table is not None],
        classes=class_tables(comparison),
        differences=differences_table(comparison),
        both=any(item.runs_low is not None for row in rows for item in (row.differences or {}).values()),
        charts={
            "scores": _chart(score_figure, comparison, "scores", "Scores of every recipe with their intervals"),
            "differences": _chart(difference_figure, comparison, "differences", "Paired differences"),
            "units": _chart(units_figure, comparison, "units", f"Differences of single {comparison.words.units}"),
            "cost": _chart(cost_figure, comparison, "cost", "Cost of every recipe"),
            "loss": _chart(_loss, comparison, "loss", "Training loss in the course of training"),
            "score": _chart(_score, comparison, "score", "Validation score in the course of training"),
        },
        overlays=_by_rank(comparison, folder),
        same=_same_cases(rows),
    )


def run_report(run: Comparison, *, folder: Path | None = None) -> str:
    """One training run, a comparison with a single row, as HTML without verdicts."""
    if len(run.rows) != 1:
        raise InputError(f"a run report shows one row, got {len(run.rows)}; use comparison_report for several")
    row = run.rows[0]
    tiles = [("Parameters", numbers.parameters(row.parameters), ""), ("MACs", numbers.macs(row.macs), "")]
    for name in reversed(score_text.macro_scores(run.rows)):
        cell, score = score_cell(row, name), score_text.describe(name)
        tiles.insert(0, (score.title, f"{cell.text} {score.unit}".strip(), cell.detail))
    return _render(
        "run.html.j2",
        run,
        kicker=f"Training run, {row.attention} attention",
        tiles=tiles,
        classes=run_classes_table(run),
        training=_chart(run_figure, run, "training", "Training loss and validation score"),
        confusion=_chart(confusion_figure, run, "confusion", "Confusion matrix"),
        confusions=confusions_table(run),
        overlays=_pictures(run, row, folder),
    )


def _render(template: str, comparison: Comparison, **content: Any) -> str:
    from fewpairs import __version__

    cases = " and ".join(f"{count} {name}" for name, count in comparison.data.cases.items())
    seeds = f"{len(comparison.seeds)} seed{'s' if len(comparison.seeds) != 1 else ''}"
    facts = [comparison.data.description, f"{cases} {comparison.words.units}" if cases else "", seeds, comparison.date]
    return (
        page_environment()
        .get_template(template)
        .render(
            title=comparison.title,
            lead=" · ".join(fact for fact in facts if fact),
            style=Markup(files("fewpairs.report").joinpath("templates", "style.css").read_text(encoding="utf-8")),
            measured=[(term, text.splitlines()) for term, text in methods(comparison) if term != "Settings"],
            settings=[text for term, text in methods(comparison) if term == "Settings"],
            notes=comparison.notes,
            version=__version__,
            headline=score_text.describe(comparison.headline).title,
            words=comparison.words,
            resampled=comparison.resampled,
            confidence=f"{100 * comparison.confidence:g} %",
            **content,
        )
    )


def _verdict(comparison: Comparison, row: Row) -> dict[str, str]:
    name = comparison.headline
    difference = (row.differences or {}).get(name)
    kind = "not computed" if difference is None else score_text.verdict_kind(name, difference)
    return {
        "label": row.label,
        "tone": kind if kind in ("better", "worse") else "",
        "verdict": kind if difference is None else score_text.verdict(name, difference),
        "sentence": score_text.headline(comparison, row),
    }


def _chart(draw: Callable[[Comparison], Figure | None], comparison: Comparison, name: str, title: str) -> Markup | None:
    figure = draw(comparison)
    return None if figure is None else Markup(svg(figure, name, title))


def _loss(comparison: Comparison) -> Figure | None:
    return curves_figure(comparison, "loss")


def _score(comparison: Comparison) -> Figure | None:
    return curves_figure(comparison, "score")


def _pictures(comparison: Comparison, row: Row, folder: Path | None) -> list[dict[str, str]]:
    return [_picture(comparison, row, overlay, folder) for overlay in row.overlays]


def _picture(comparison: Comparison, row: Row, overlay: Overlay, folder: Path | None) -> dict[str, str]:
    shown = comparison.words.alternative.format(rank=overlay.rank)
    data = base64.b64encode(overlay.read(folder)).decode("ascii")
    return {
        "source": f"data:image/png;base64,{data}",
        "caption": _ranked(overlay),
        "alt": f"{row.label}, {shown}: {overlay.caption}",
    }


def _by_rank(comparison: Comparison, folder: Path | None) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Pictures as pairs of a row's label and its picture, by rank: the same case of every row stands together."""
    found: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for row in comparison.rows:
        for overlay in row.overlays:
            found.setdefault(overlay.rank, []).append((row.label, _picture(comparison, row, overlay, folder)))
    return found


def _same_cases(rows: Sequence[Row]) -> bool:
    """Whether several rows show the same cases, by the captions' text before the colon; older reports need not."""
    shown = [[overlay.caption.partition(":")[0] for overlay in row.overlays] for row in rows if row.overlays]
    return len(shown) > 1 and all(one == shown[0] for one in shown)


def _ranked(overlay: Overlay) -> str:
    """The caption, which begins with the rank."""
    text = overlay.caption
    if not text.lower().startswith(overlay.rank):
        return f"{overlay.rank.capitalize()}: {text}"
    return text[:1].upper() + text[1:]


@lru_cache(maxsize=1)
def page_environment() -> jinja2.Environment:
    """The environment of all pages: text is escaped, and control characters in it are written out."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("fewpairs.report", "templates"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
