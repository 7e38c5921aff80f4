"""The tables of a comparison as cells of text, from which Markdown, the terminal and the HTML page are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latchkey.metrics import SCORES
from latchkey.report import wording
from latchkey.report.comparison import Comparison, Row

Tone = Literal["", "better", "worse"]


@dataclass(frozen=True, slots=True)
class Cell:
    """`text` carries the value, `detail` its interval or change, `tone` the judgement (never by colour alone)."""

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
    """One row a recipe: cost, scores with intervals, and the paired difference of the headline score."""
    rows, reference = comparison.rows, comparison.reference
    shown = [name for name in wording.MAIN if any(name in row.scores for row in rows)]
    timed = any(row.step_ms for row in rows)
    measured = any(row.peak_mib is not None for row in rows)
    compared = any(row.differences for row in rows)
    columns = ["Recipe", "Parameters", "MACs"]
    columns += ["Step (ms)"] * timed + ["Memory (MiB)"] * measured
    columns += [wording.title(name) for name in shown]
    if compared:
        columns += [f"{wording.title(comparison.headline)}, difference", "Verdict"]
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


def further_table(comparison: Comparison) -> Table | None:
    """The scores that the summary leaves out, such as those with background; None when there are none."""
    shown = [name for name in wording.macro_scores(comparison.rows) if name not in wording.MAIN]
    if not shown:
        return None
    body = [(Cell(row.label, row.attention), *(score_cell(row, name) for name in shown)) for row in comparison.rows]
    return Table("Further scores", ("Recipe", *(wording.title(name) for name in shown)), tuple(body))


def differences_table(comparison: Comparison) -> Table | None:
    """Every paired difference against the first row, with its verdict; None when there are none."""
    rows = [row for row in comparison.rows if row.differences]
    names = list({name: None for row in rows for name in row.differences or {}})
    body = []
    for row in rows:
        for name in names:
            if name not in (row.differences or {}):
                continue
            body.append((Cell(row.label, row.attention), Cell(wording.title(name)), *difference_cells(row, name)))
    if not body:
        return None
    caption = f"Paired differences against {comparison.reference.label}, on the same cases"
    return Table(caption, ("Recipe", "Score", "Difference", "Verdict"), tuple(body))


def class_tables(comparison: Comparison) -> tuple[Table, ...]:
    """One table a score (Jaccard, Dice, HD95): a row a recipe, a column a class."""
    tables = []
    for name in SCORES:
        keys = wording.class_scores(comparison.rows, name)
        if not keys:
            continue
        body = [(Cell(row.label, row.attention), *(score_cell(row, key) for key in keys)) for row in comparison.rows]
        caption = f"{wording.title(name)} of each class"
        tables.append(Table(caption, ("Recipe", *(key.partition("/")[2] for key in keys)), tuple(body)))
    return tuple(tables)


def run_classes_table(run: Comparison) -> Table | None:
    """The first row's scores of each class: a row a class, a column a score; None when there are none."""
    row = run.rows[0]
    names = [name for name in SCORES if wording.class_scores([row], name)]
    if not names:
        return None
    classes = list({key.partition("/")[2]: None for name in names for key in wording.class_scores([row], name)})
    body = [(Cell(label), *(score_cell(row, f"{name}/{label}") for name in names)) for label in classes]
    return Table("Scores of each class", ("Class", *(wording.title(name) for name in names)), tuple(body))


def seeds_table(comparison: Comparison) -> Table | None:
    """The headline score of every seed; None when no row has more than one."""
    name = comparison.headline
    width = max((len(row.per_seed.get(name, ())) for row in comparison.rows), default=0)
    if width < 2:
        return None
    seeds = [str(seed) for seed in comparison.seeds] if len(comparison.seeds) == width else list(map(str, range(width)))
    body = []
    for row in comparison.rows:
        values = row.per_seed.get(name, ())
        cells = [Cell(wording.number(value, wording.digits(name))) for value in values]
        body.append((Cell(row.label, row.attention), *cells, *[Cell(wording.MISSING)] * (width - len(values))))
    return Table(
        f"{wording.describe(name).title} of every seed", ("Recipe", *(f"Seed {seed}" for seed in seeds)), tuple(body)
    )


def score_cell(row: Row, name: str) -> Cell:
    """The score with its interval as the detail."""
    value = row.scores.get(name)
    if value is None:
        return Cell(wording.MISSING)
    digits = wording.digits(name)
    return Cell(wording.number(value.value, digits), wording.interval(value.low, value.high, digits))


def difference_cells(row: Row, name: str, *, reference: bool = False) -> list[Cell]:
    """Two cells: the paired difference with its interval, and the verdict."""
    if reference:
        return [Cell(wording.MISSING), Cell("reference")]
    difference = (row.differences or {}).get(name)
    if difference is None:
        return [Cell(wording.MISSING), Cell("not computed")]
    digits = wording.digits(name)
    judgement = wording.judge(name, difference)
    tone: Tone = judgement if judgement in ("better", "worse") else ""
    value = Cell(wording.signed(difference.value, digits), wording.interval(difference.low, difference.high, digits))
    return [value, Cell(wording.verdict(name, difference), tone=tone)]


def _cost_cells(row: Row, reference: Row) -> list[Cell]:
    same = row is reference
    return [
        Cell(wording.millions(row.parameters), "" if same else wording.percent(row.parameters, reference.parameters)),
        Cell(wording.macs(row.macs), "" if same else wording.percent(row.macs, reference.macs)),
    ]


def _time_cell(row: Row) -> Cell:
    if row.step_ms is None:
        return Cell(wording.MISSING)
    time = row.step_ms
    return Cell(f"{time.median:.0f}", f"{time.low:.0f} to {time.high:.0f}" if time.low != time.high else "")


def _memory_cell(row: Row) -> Cell:
    return Cell(wording.MISSING if row.peak_mib is None else f"{row.peak_mib:,.0f}")
