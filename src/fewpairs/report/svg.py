"""Converts matplotlib figures to inline SVG that follows the page's light or dark colours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from fewpairs.safe_text import one_line, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = {
    "ink": "#1d2430",
    "muted": "#5c6675",
    "grid": "#dde2e9",
    "faint": "#bcc4cf",
    "band": "#e6eef5",
    "paper": "#fefefe",
    "series-1": "#0072b2",
    "series-2": "#d55e00",
    "series-3": "#00896b",
    "series-4": "#a14f8b",
    "series-5": "#9c6b00",
    "series-6": "#3b5bb5",
}
"""The light page's colours (Okabe and Ito's, told apart by colour-blind readers), by the name of their CSS variable."""

WIDTH = 9.6
"""The width in inches of a figure that spans the page."""
STEPS = [1, 2, 2.5, 5, 10]
"""Allowed distances between ticks, times a power of ten."""

_RC: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7.0,
    "text.color": PALETTE["ink"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.titlecolor": PALETTE["ink"],
    "axes.edgecolor": PALETTE["faint"],
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": PALETTE["faint"],
    "ytick.color": PALETTE["faint"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.labelcolor": PALETTE["ink"],
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Style:
    """Colour and marker of one kind of attention, each of which identifies it."""

    colour: str
    marker: str


_KNOWN = {
    "softmax": Style(PALETTE["series-1"], "o"),
    "kv": Style(PALETTE["series-2"], "s"),
    "kvpos": Style(PALETTE["series-3"], "D"),
}
_FURTHER = (Style(PALETTE["series-4"], "^"), Style(PALETTE["series-5"], "v"), Style(PALETTE["series-6"], "P"))


def styles(attentions: list[str]) -> dict[str, Style]:
    """A style for each kind of attention; known kinds always have the same one."""
    unknown = [name for name in dict.fromkeys(attentions) if name not in _KNOWN]
    return _KNOWN | {name: _FURTHER[index % len(_FURTHER)] for index, name in enumerate(unknown)}


@contextmanager
def drawing() -> Iterator[None]:
    """Sets the style of figures that are made and saved in the context, and restores matplotlib's settings."""
    import matplotlib as mpl

    with mpl.rc_context(_RC), warnings.catch_warnings():
        # The browser draws the text of an SVG with its own fonts, so a glyph that matplotlib lacks does not matter.
        warnings.filterwarnings("ignore", message=r"(?s).*Glyph .* missing from")
        yield


def short(label: str, width: int = 30) -> str:
    """The label for an axis or a panel, on one line, cut off after `width` characters."""
    label = one_line(label)
    return label if len(label) <= width else f"{label[: width - 1]}…"


def svg(figure: Figure, name: str, title: str) -> str:
    """An `<svg>` element for an HTML page: its colours are CSS variables, its ids start with `name`, no metadata."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = StringIO()
    with drawing(), mpl.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    text = visible(buffer.getvalue())
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for variable, colour in PALETTE.items():
        text = re.sub(rf"{colour}(?![0-9a-f])", f"var(--{variable})", text)
    head, _, rest = text.partition(">")
    head = re.sub(r'\s(?:width|height)="[^"]*pt"', "", head)
    return f'{head} role="img" aria-label="{escape(visible(title), quote=True)}">{rest}'.strip()
