"""The HTML page: one file, loads nothing, shows everything, and runs no name as code."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fewpairs.errors import DataError, InputError
from fewpairs.report import Comparison, Overlay, Row, comparison_report, run_report
from fewpairs.report.figures import units_figure
from fewpairs.report.svg import PALETTE

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, and whether every element is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(comparison: Comparison) -> str:
    return comparison_report(comparison)


def test_the_page_shows_everything(html: str) -> None:
    page = Page(html)
    text = " ".join(" ".join(page.text).split())
    for expected in (
        "QKV against KV",
        "Against QKV: 8.5 % fewer parameters",
        "0.810 to 0.850",
        "Jaccard of each class",
        "Best: case0_day10, Jaccard 0.8",
        "Worst: case1_day30",
        "fewpairs compare qkv kv --seeds 2",
        "0f3c9a1",
        "2 CPU cores, no GPU",
        "torch 2.11.0",
        "95 % bootstrap over cases and seeds (1000 resamples)",
        "a missed class scores 0",
        "optimizer.betas = 0.9, 0.999",
        "Seed 1 of KV stopped early.",
    ):
        assert expected in text
    assert len([1 for attributes in page.all("svg") if attributes["role"] == "img"]) == 5


def test_sections_can_be_jumped_to_and_settings_are_folded(html: str) -> None:
    page = Page(html)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    targets = [str(attributes["href"]) for attributes in page.all("a")]
    assert targets == ["#result", "#overlays", "#scores", "#classes", "#cost", "#training", "#measured"]
    assert {target[1:] for target in targets} <= ids
    assert re.search(r"<details class=\"settings\">\s*<summary>Settings</summary>\s*<p class=\"code\">steps = 30", html)
    assert html.index("<svg") < html.index("<table"), "a picture near the top"
    assert '<td class="words ">non-inferior</td>' in html


def test_the_same_case_of_all_recipes_stands_together(html: str) -> None:
    found = re.findall(r"<h3>(?!Notes)(\w+)</h3>|<figcaption><b>(\w+)</b> (\w+):", html)
    assert [a or (b, c) for a, b, c in found] == [
        *("Best", ("QKV", "Best"), ("KV", "Best")),
        *("Median", ("QKV", "Median"), ("KV", "Median")),
        *("Worst", ("QKV", "Worst"), ("KV", "Worst")),
    ]


def test_single_cases_are_drawn_in_pairs(comparison: Comparison) -> None:
    assert units_figure(comparison) is None, "scores of single cases are not stored"
    first, second = comparison.rows
    scores = {"a": 0.5, "b": 0.7, "c": 0.9}
    rows = (replace(first, units=scores), replace(second, units={"a": 0.6, "b": 0.7, "c": 0.7, "d": 0.1}))
    figure = units_figure(replace(comparison, rows=rows))
    assert figure is not None
    (axes,) = figure.axes
    drawn = sorted(round(float(x), 6) for x, _ in axes.collections[0].get_offsets())  # type: ignore[union-attr]
    assert drawn == [-0.2, 0.0, 0.1]
    assert [text.get_text() for text in axes.texts] == ["1 up, 1 down"]
    assert "of each case" in axes.get_title("left")


def test_it_loads_nothing(html: str) -> None:
    page = Page(html)
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"@import|url\((?!#)", html)


def test_pictures_tables_and_figures_are_described(html: str) -> None:
    page = Page(html)
    images = page.all("img")
    assert len(images) == 6
    assert len({attributes["alt"] for attributes in images}) == 6
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert all(attributes.get("aria-label") for attributes in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_light_dark_and_print_define_the_same_colours() -> None:
    style = (Path(__file__).parents[2] / "src/fewpairs/report/templates/style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    names = [set(re.findall(r"--([a-z0-9-]+):", block)) for block in blocks]
    assert len(blocks) == 3
    assert names[0] == names[1] == names[2]
    light = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+);", blocks[0]))
    assert PALETTE.items() <= light.items()


EVIL = "<script>alert('x')</script>\"><img src=x onerror=y> {{ 7 * 7 }} $a_b$"


def test_names_are_text_and_never_markup(
    row_maker: Callable[..., Row], comparison_maker: Callable[..., Comparison]
) -> None:
    row = replace(
        row_maker(EVIL, EVIL, 0),
        recipe=EVIL,
        peak_of=EVIL,
        overlays=(Overlay("best", EVIL, png=b"\x89PNG"),),
        scores={
            **row_maker("a", "kv", 0).scores,
            EVIL: row_maker("a", "kv", 0).scores["dice"],
            f"dice/{EVIL}": row_maker("a", "kv", 0).scores["dice"],
        },
    )
    evil = comparison_maker(row, replace(row, differences={}), title=EVIL)
    evil = replace(evil, command=EVIL, hardware=EVIL, notes=(EVIL,), settings={EVIL: EVIL}, versions={EVIL: EVIL})
    for text in (comparison_report(evil), run_report(replace(evil, rows=evil.rows[:1]))):
        page = Page(text)
        assert not page.all("script")
        assert {attributes["src"] for attributes in page.all("img")} == {"data:image/png;base64,iVBORw=="}
        assert not any("onerror" in attributes for _, attributes in page.tags)
        assert "{{ 7 * 7 }}" in text


def test_better_and_worse_appear_only_where_shown(html: str) -> None:
    page = Page(html)
    assert not any((attributes.get("class") or "") in ("better", "worse") for _, attributes in page.tags)


def test_a_run_has_scores_and_curves_but_no_verdict(comparison: Comparison) -> None:
    run = replace(comparison, rows=comparison.rows[:1])
    page = Page(run_report(run))
    text = " ".join(" ".join(page.text).split())
    assert "0.840 0.820 to 0.860" in text
    assert "6.00 mm" in text
    assert "reference" not in text
    assert len([1 for attributes in page.all("svg") if attributes["role"] == "img"]) == 1
    with pytest.raises(InputError, match="shows one row, got 2"):
        run_report(comparison)


def test_overlays_are_read_from_the_folder(comparison: Comparison, html: str, tmp_path: Path) -> None:
    stored, files = comparison.with_overlay_files()
    with pytest.raises(DataError, match=r"01-qkv-1-best\.png"):
        comparison_report(stored, folder=tmp_path)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert comparison_report(stored, folder=tmp_path) == html


def test_the_templates_are_part_of_the_package() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["fewpairs"]
    for file in (root / "src/fewpairs/report/templates").iterdir():
        name = file.relative_to(root / "src/fewpairs").as_posix()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), f"package-data lacks {name}"
