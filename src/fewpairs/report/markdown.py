"""Renders a comparison as Markdown for a repository's results page or a pull request."""

from __future__ import annotations

from fewpairs import numbers
from fewpairs.report import score_text
from fewpairs.report.comparison import Comparison
from fewpairs.report.methods import methods
from fewpairs.report.table import (
    Cell,
    Table,
    class_tables,
    differences_table,
    further_table,
    seeds_table,
    summary_table,
)
from fewpairs.safe_text import markdown as escape


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown: headline sentences, tables, classes and methods."""
    parts = [f"# {escape(comparison.title)}"]
    sentences = [
        f"- **{escape(row.label)}**: " + escape(score_text.headline(comparison, row)) for row in comparison.rows[1:]
    ]
    if sentences:
        parts.append("\n".join(sentences))
    parts.append(markdown_table(summary_table(comparison)))
    tables = [differences_table(comparison), further_table(comparison)]
    tables += [*class_tables(comparison), seeds_table(comparison)]
    parts += [markdown_table(table) for table in tables if table is not None]
    parts.append("## How this was measured")
    parts.append("\n".join(f"- **{escape(name)}**: {_inline(value)}" for name, value in methods(comparison)))
    if comparison.notes:
        parts.append("## Notes")
        parts.append("\n".join(f"- {escape(note)}" for note in comparison.notes))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A pipe table under its caption, with numbers aligned to the right."""
    header = "| " + " | ".join(escape(column) for column in table.columns) + " |"
    rule = "| :-- |" + " --: |" * (len(table.columns) - 1)
    body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join([f"**{escape(table.caption)}**", "", header, rule, *body])


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"{text} ({escape(cell.detail)})" if cell.detail else text


def _inline(value: str) -> str:
    return "<br>".join(escape(line) for line in value.splitlines()) or numbers.MISSING
