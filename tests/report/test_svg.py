"""Figures as inline SVG: colours of the page, ids of their own, no trace in matplotlib's settings."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.figure import Figure

from fewpairs.report.svg import PALETTE, drawing, styles, svg


def drawn(label: str = "x") -> Figure:
    with drawing():
        figure = Figure(figsize=(2, 1))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=PALETTE["series-1"])
        axes.set_title(label)
        axes.axvspan(0.2, 0.4, color=PALETTE["band"])
        return figure


def test_it_is_one_well_formed_element_with_a_label() -> None:
    text = svg(drawn(), "scores", 'a "title" <b>')
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'a "title" <b>'
    assert root.get("viewBox")
    assert root.get("width") is None


def test_colours_are_the_pages_own() -> None:
    text = svg(drawn(), "scores", "t")
    assert "var(--series-1)" in text
    assert "var(--band)" in text
    left = set(re.findall(r"#[0-9a-f]{6}\b", text)) - {"#000000", "#ffffff"}
    assert not left & set(PALETTE.values())


def test_ids_do_not_clash_and_references_resolve() -> None:
    one, two = svg(drawn(), "one", "t"), svg(drawn(), "two", "t")
    ids = [set(re.findall(r'\sid="([^"]+)"', text)) for text in (one, two)]
    assert not ids[0] & ids[1]
    for text, known in zip((one, two), ids, strict=True):
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
        assert used
        assert used <= known


def test_nothing_outside_is_named_and_the_same_figure_is_the_same_text() -> None:
    text = svg(drawn(), "scores", "t")
    assert "<metadata" not in text
    assert text == svg(drawn(), "scores", "t")


def test_text_is_neither_markup_nor_mathematics() -> None:
    text = svg(drawn("<script>alert(1)</script> $\\frac{1}{ 漢"), "scores", "t")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $\\frac{1}{ 漢" in text


def test_settings_of_matplotlib_stay_as_they_were() -> None:
    before = dict(mpl.rcParams)
    svg(drawn(), "scores", "t")
    assert dict(mpl.rcParams) == before


def test_every_kind_of_attention_has_colour_and_marker() -> None:
    found = styles(["kv", "softmax", "novel", "other", "kvpos"])
    shown = [(found[name].colour, found[name].marker) for name in ("kv", "softmax", "novel", "other", "kvpos")]
    assert len({colour for colour, _ in shown}) == len({marker for _, marker in shown}) == 5
    assert found["kv"] == styles([])["kv"]
