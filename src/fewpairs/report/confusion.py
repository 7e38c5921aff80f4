"""Confusions between classes: a matrix where there are few classes, and a table of the most frequent pairs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fewpairs import numbers
from fewpairs.report.comparison import Comparison
from fewpairs.report.svg import PALETTE, drawing, short
from fewpairs.report.table import Cell, Table

CLASSES = 30
"""The most classes for which a matrix is drawn."""
NUMBERED = 15
"""The most classes for which the cells of the matrix show numbers."""
PAIRS = 12
"""The number of pairs that the table shows."""


def confusion_figure(run: Comparison) -> Figure | None:
    """The shares of every true class (rows) that were predicted as each class (columns), in percent.

    Correct predictions are blue, wrong ones orange. None without confusions, and for more than `CLASSES` classes.
    """
    matrix, classes = confusion_matrix(run), run.classes
    if not matrix.any() or len(classes) > CLASSES:
        return None
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = min(9.6, max(3.2, 0.46 * len(classes) + 1.6))
    with drawing():
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        for row, column in zip(*np.nonzero(matrix), strict=True):
            share = shares[row, column]
            colour = PALETTE["series-1" if row == column else "series-2"]
            # Rare confusions must be visible too: opacity grows with the root of the share.
            alpha = 0.08 + 0.6 * float(np.sqrt(share))
            axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, color=colour, alpha=alpha, linewidth=0))
            if len(classes) <= NUMBERED:
                text = numbers.number(100 * share, 0 if share >= 0.0995 else 1)
                axes.text(column, row, text, ha="center", va="center", fontsize=7.5)
        places = range(len(classes))
        names = [short(name) for name in classes]
        axes.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names)
        axes.tick_params(length=0, labelcolor=PALETTE["ink"])
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.spines[:].set_visible(False)
        return figure


def confusions_table(run: Comparison) -> Table | None:
    """The most frequent wrong predictions of the first row; None if there are none."""
    matrix, classes = confusion_matrix(run), run.classes
    totals = matrix.sum(axis=1)
    wrong = sorted((pair for pair in run.rows[0].confusions if pair[0] != pair[1]), key=lambda pair: -pair[2])
    if not wrong:
        return None
    body = [
        (
            Cell(classes[true]),
            Cell(classes[predicted]),
            Cell(str(count)),
            Cell(f"{numbers.number(100 * count / totals[true], 1)} %"),
        )
        for true, predicted, count in wrong[:PAIRS]
    ]
    caption = "The most frequent confusions, with their share of the true class"
    counted = (run.words.counted or run.words.units).capitalize()
    return Table(caption, ("True class", "Predicted as", counted, "Share"), tuple(body))


def confusion_matrix(run: Comparison) -> np.ndarray:
    """The confusions of the first row as counts `[k k]`: true class, predicted class."""
    matrix = np.zeros((len(run.classes), len(run.classes)), dtype=np.int64)
    for true, predicted, count in run.rows[0].confusions:
        matrix[true, predicted] = count
    return matrix
