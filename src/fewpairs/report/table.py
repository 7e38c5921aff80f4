"""The tables of a comparison as cells of text, for Markdown, the terminal and the HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Literal

from fewpairs import numbers
from fewpairs.report import score_text
from fewpairs.report.comparison import Comparison, Row
from fewpairs.scoring.score_table import SCORES

Tone = Literal["", "better", "worse"]

VERDICT = "Verdict"
"""Title of the column of verdicts, which holds words."""
CLASSES = 20
"""The most classes that a table shows; of more classes it shows those with the first recipe's worst scores."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`text` is the value, `detail` its interval or change, and `tone` the verdict, which the text says too."""

    text: str
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under titled columns; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def summary_table(comparison: Comparison) -> Table:
    """One row for each recipe: cost, scores with intervals, and the paired difference of the headline score."""
    rows, reference = comparison.rows, comparison.reference
    shown = [name for name in comparison.words.main if any(name in row.scores for row in rows)]
    timed = any(row.step_ms for row in rows)
    measured = any(row.peak_mib is not None for row in rows)
    compared = any(row.differences for row in rows)
    columns = ["Recipe", "Parameters", "MACs"]
    columns += ["Step (ms)"] * timed + ["Memory (MiB)"] * measured
    columns += [score_text.title(name) for name in shown]
    if compared:
        columns += [_difference_title(comparison.headline), VERDICT]
    body = []
    for row in rows:
        cells = [Cell(row.label, row.attention), *_cost_cells(row, reference)]
        cells += [_time_cell(row)] * timed + [_memory_cell(row)] * measured
        cells += [score_cell(row, name) for name in shown]
        if compared:
            cells += difference_cells(row, comparison.headline, reference=row is reference)
        body.append(tuple(cells))
    caption = "Cost and scores of every recipe"
    if len(rows) > 1:
        caption += f"; changes and differences are against {reference.label}"
    return Table(caption, tuple(columns), tuple(body))


def _difference_title(name: str) -> str:
    unit = score_text.difference_unit(name)
    return f"{score_text.describe(name).title}{f' ({unit})' if unit else ''}, difference"


def further_table(comparison: Comparison) -> Table | None:
    """The scores that the summary leaves out, such as those with background; None without any."""
    shown = [name for name in score_text.macro_scores(comparison.rows) if name not in comparison.words.main]
    if not shown:
        return None
    body = [(Cell(row.label, row.attention), *(score_cell(row, name) for name in shown)) for row in comparison.rows]
    return Table("Further scores", ("Recipe", *(score_text.title(name) for name in shown)), tuple(body))


def differences_table(comparison: Comparison) -> Table | None:
    """Every paired difference to the first row with its verdict; None without any.

    Where intervals resample seeds too, the intervals of these training runs alone stand beside them.
    """
    found = [(row, name, item) for row in comparison.rows for name, item in (row.differences or {}).items()]
    if not found:
        return None
    both = any(item.runs_low is not None for _, _, item in found)
    body = []
    for row, name, item in found:
        value, judged = difference_cells(row, name)
        fixed = Cell(score_text.span(name, item.runs_low, item.runs_high) or numbers.MISSING)
        body.append((Cell(row.label, row.attention), Cell(score_text.title(name)), value, *[fixed] * both, judged))
    caption = f"Paired differences against {comparison.reference.label}, on the same {comparison.words.units}"
    if both:
        caption += (
            f"; intervals over {comparison.resampled}, and over {comparison.resampled.removesuffix(' and seeds')} for "
            "these very trainings"
        )
    columns = ("Recipe", "Score", "Difference", *["These trainings"] * both, VERDICT)
    return Table(caption, columns, tuple(body))


def class_tables(comparison: Comparison) -> tuple[Table, ...]:
    """One table for each score with values by class: a row for each recipe, a column for each class."""
    tables = []
    for name in SCORES:
        keys = score_text.class_scores(comparison.rows, name)
        if not keys:
            continue
        keys, which = _worst(comparison.reference, name, keys)
        body = [(Cell(row.label, row.attention), *(score_cell(row, key) for key in keys)) for row in comparison.rows]
        caption = f"{score_text.title(name)} of {which}"
        tables.append(Table(caption, ("Recipe", *(key.partition("/")[2] for key in keys)), tuple(body)))
    return tuple(tables)


def run_classes_table(run: Comparison) -> Table | None:
    """The first row's scores by class: a row for each class, a column for each score; None without any."""
    row = run.rows[0]
    names = [name for name in SCORES if score_text.class_scores([row], name)]
    if not names:
        return None
    classes = list({key.partition("/")[2]: None for name in names for key in score_text.class_scores([row], name)})
    keys, which = _worst(row, names[0], [f"{names[0]}/{label}" for label in classes])
    shown = [key.partition("/")[2] for key in keys]
    body = [(Cell(label), *(score_cell(row, f"{name}/{label}") for name in names)) for label in shown]
    return Table(f"Scores of {which}", ("Class", *(score_text.title(name) for name in names)), tuple(body))


def _worst(row: Row, name: str, keys: Sequence[str]) -> tuple[list[str], str]:
    """The scores `name/<class>` to show and a name for their classes: all, or those with the worst scores of `row`."""
    if len(keys) <= CLASSES:
        return list(keys), "each class"
    sign = 1 if score_text.describe(name).higher_is_better else -1

    def place(key: str) -> float:
        value = row.scores[key].value if key in row.scores else None
        return math.inf if value is None or math.isnan(value) else sign * value

    return sorted(keys, key=place)[:CLASSES], f"the {CLASSES} of {len(keys)} classes in which {row.label} does worst"


def seeds_table(comparison: Comparison) -> Table | None:
    """The headline score of every seed and its spread; None when no row has more than one seed."""
    name = comparison.headline
    width = max((len(row.per_seed.get(name, ())) for row in comparison.rows), default=0)
    if width < 2:
        return None
    seeds = [str(seed) for seed in comparison.seeds] if len(comparison.seeds) == width else list(map(str, range(width)))
    body = []
    for row in comparison.rows:
        values = row.per_seed.get(name, ())
        cells = [Cell(score_text.score(name, value)) for value in values]
        cells += [Cell(numbers.MISSING)] * (width - len(values))
        body.append((Cell(row.label, row.attention), *cells, _spread_cell(name, values)))
    columns = ("Recipe", *(f"Seed {seed}" for seed in seeds), "Spread")
    return Table(f"{score_text.title(name)} of every seed; spread: standard deviation, and range", columns, tuple(body))


def _spread_cell(name: str, values: Sequence[float | None]) -> Cell:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        return Cell(numbers.MISSING)
    return Cell(score_text.score(name, stdev(known)), score_text.span(name, min(known), max(known)))


def score_cell(row: Row, name: str) -> Cell:
    """A cell with the score and its interval."""
    value = row.scores.get(name)
    if value is None:
        return Cell(numbers.MISSING)
    return Cell(score_text.score(name, value.value), score_text.span(name, value.low, value.high))


def difference_cells(row: Row, name: str, *, reference: bool = False) -> list[Cell]:
    """Two cells with the paired difference and its interval, and with the verdict."""
    if reference:
        return [Cell(numbers.MISSING), Cell("reference")]
    difference = (row.differences or {}).get(name)
    if difference is None:
        return [Cell(numbers.MISSING), Cell("not computed")]
    kind = score_text.verdict_kind(name, difference)
    tone: Tone = kind if kind in ("better", "worse") else ""
    value = Cell(score_text.difference(name, difference.value), score_text.span(name, difference.low, difference.high))
    return [value, Cell(score_text.verdict(name, difference), tone=tone)]


def _cost_cells(row: Row, reference: Row) -> list[Cell]:
    same = row is reference
    return [
        Cell(numbers.parameters(row.parameters), "" if same else numbers.percent(row.parameters, reference.parameters)),
        Cell(numbers.macs(row.macs), "" if same else numbers.percent(row.macs, reference.macs)),
    ]


def _time_cell(row: Row) -> Cell:
    if row.step_ms is None:
        return Cell(numbers.MISSING)
    time = row.step_ms
    return Cell(f"{time.median:.0f}", f"{time.low:.0f} to {time.high:.0f}" if time.low != time.high else "")


def _memory_cell(row: Row) -> Cell:
    return Cell(numbers.MISSING if row.peak_mib is None else f"{row.peak_mib:,.0f}")
