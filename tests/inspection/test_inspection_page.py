"""The page, its numbers and its pictures as a reader or a script meets them."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.inspection import Inspection, Subject, inspect_attention, write_page
from fewpairs.inspection.contact_sheet import layer_contact_sheet
from fewpairs.inspection.maps import VEIL, backdrop, extent, head_maps
from fewpairs.inspection.page import numbers, page
from fewpairs.inspection.page_text import what_to_see
from fewpairs.inspection.tables import heads_table, layers_table, short_table
from fewpairs.models.classifiers import create_classifier

VOID = {"meta", "img", "br", "link", "input"}
SECTIONS = ("inspected", "summary", "curves", "layers", "measured")


class Page(HTMLParser):
    """Checks that tags close in their order, and collects what the tests look for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.tags: dict[str, int] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.sources += [str(given[name]) for name in ("src", "href", "xlink:href") if given.get(name)]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def study(name: str, attention: str = "knn", **options: Any) -> Inspection:
    torch.manual_seed(0)
    model = create_classifier(name, attention=attention, classes=5)
    return inspect_attention(model, torch.randn(3, 28, 28), **options)


@pytest.fixture(scope="module")
def knn() -> Inspection:
    subject = Subject(
        "vit_nano", "Random, drawn with seed 0.", True, "a <b>.png", ("<script>",) * 5, "fewpairs inspect"
    )
    return study("vit_nano", subject=subject)


@pytest.mark.parametrize(("name", "attention"), [("vit_nano", "knn"), ("swin_nano", "knn"), ("cvt_nano", "softmax")])
def test_the_page_is_whole_and_loads_nothing(name: str, attention: str) -> None:
    inspection = study(name, attention)
    read = Page(page(inspection))
    assert read.stack == []
    assert [section for section in SECTIONS if section not in read.ids] == []
    positions = [read.ids.index(section) for section in SECTIONS]
    assert positions == sorted(positions)
    assert all(source.startswith(("data:image/", "#")) for source in read.sources)
    assert not re.search(r"url\((?!&quot;data:|\"data:|#)", page(inspection))
    assert len(read.ids) == len(set(read.ids))
    assert read.tags["details"] == len(inspection.layers)
    pictures = 3 if attention == "knn" else 1
    drawn = sum(len(layer.rows) * layer.heads * pictures for layer in inspection.layers)
    assert read.tags["img"] == drawn


def test_the_page_says_what_was_inspected(knn: Inspection) -> None:
    read = Page(page(knn))
    for text in (
        "vit_nano",
        "Random, drawn with seed 0.",
        "1: 14, 14; 2: 7, 7; 3: 21, 21",
        "k = 25 (50 % of the keys)",
        "τ",
    ):
        assert text in read.text, text
    assert "The weights are random." in read.text
    assert "a <b>.png" in read.text
    assert "script" not in read.tags


def test_only_an_untrained_model_is_warned_of() -> None:
    inspection = study("vit_nano", subject=Subject("x", "From x.pth."), gradients=False)
    assert "The weights are random" not in Page(page(inspection)).text


def test_prefix_tokens_are_shown_apart(knn: Inspection) -> None:
    text = Page(page(knn)).text
    assert len(re.findall("class token (?:kept|dropped)", text)) == sum(len(x.rows) * x.heads for x in knn.layers)


def test_maps_show_what_is_kept(knn: Inspection) -> None:
    row = knn.layers[2].rows[1]
    assert row.kept is not None
    for head, maps in enumerate(head_maps(row)):
        assert maps.veil is not None
        assert maps.truncated is not None
        placed = row.kept[head, 1:].reshape(7, 7)
        assert (maps.veil[..., 3] == np.where(placed, 0, VEIL[3])).all()
        assert (maps.truncated[..., 3] == np.where(placed, 255, 0)).all()
        assert maps.dropped == pytest.approx(float(row.weights[head][~row.kept[head]].sum()), abs=1e-6)
        assert maps.prefix_kept == (bool(row.kept[head, 0]),)
        assert maps.highest == pytest.approx(float(max(row.weights[head, 1:].max(), row.truncated[head, 1:].max())))
        best = np.unravel_index(row.truncated[head, 1:].argmax(), placed.size)[0]
        assert maps.truncated.reshape(-1, 4)[best].tolist() == list(colormaps["magma"](1.0, bytes=True))


def test_a_window_shows_its_own_part_of_the_picture() -> None:
    """The picture holds each pixel's row in red and column in green, so that what is shown tells where it is from."""
    rows, columns = np.meshgrid(np.arange(28), np.arange(28), indexing="ij")
    picture = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    inspection = study("swin_nano", queries=[(26, 1)], picture=picture, gradients=False)
    plain, shifted = inspection.layers[0], inspection.layers[1]
    part = backdrop(plain, plain.rows[0], picture)
    assert part is not None
    assert (part[0, 0, :2].tolist(), part[-1, -1, :2].tolist()) == ([14, 0], [27, 13])
    assert extent(plain, plain.rows[0]) == [(0.5, 0.0, 0.5, 0.5)]
    joined = backdrop(shifted, shifted.rows[0], picture)
    assert joined is not None
    # shifted by 3 of 14 cells, the last window is joined from all four corners
    assert sorted(set(joined[:, 0, 0].tolist())) == [*range(6), *range(20, 28)]
    assert len(extent(shifted, shifted.rows[0])) == 4


def test_numbers_are_json_with_the_kept_keys(knn: Inspection) -> None:
    content = json.loads(numbers(knn))
    assert content["subject"]["untrained"] is True
    assert content["size"] == [28, 28]
    assert [layer["name"] for layer in content["layers"]] == [layer.name for layer in knn.layers]
    layer = content["layers"][4]
    assert layer["dropped"]["all"]["mean"] == pytest.approx(knn.layers[4].dropped.all.mean)  # type: ignore[union-attr]
    assert layer["gradient"]["roles"].keys() == {"q", "k", "v"}
    for row, own in zip(layer["rows"], knn.layers[4].rows, strict=True):
        assert [len(head) for head in row["kept"]] == [25] * 4
        assert own.kept is not None
        assert row["kept"][3] == own.kept[3].nonzero()[0].tolist()


def test_a_model_of_not_a_number_still_has_a_page(tmp_path: Path) -> None:
    model = create_classifier("vit_nano", attention="knn", classes=5)
    with torch.no_grad():
        model.patch_embed.proj.weight.fill_(math.nan)
    inspection = inspect_attention(model, torch.randn(3, 28, 28))
    written = write_page(inspection, tmp_path)
    content = json.loads(written.numbers.read_text())
    assert content["layers"][0]["dropped"]["all"]["mean"] is None
    assert "Some weights are not finite" in Page(written.page.read_text()).text


def test_files_beside_the_page(knn: Inspection, tmp_path: Path) -> None:
    written = write_page(knn, tmp_path / "a" / "b")
    assert written.page == tmp_path / "a" / "b" / "inspection.html"
    assert {path.name for path in written.pictures} == {
        "curves.png",
        *(f"{layer.index:02d}-{layer.name}.png" for layer in knn.layers),
    }
    for path in written.pictures:
        with Image.open(path) as opened:
            opened.verify()


def test_a_folder_that_cannot_be_written_is_one_message(knn: Inspection, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"file/inspection\.html: cannot write the inspection \(.*\); choose another folder"
    ):
        write_page(knn, tmp_path / "file")


def test_sheets_hold_every_head_and_query(knn: Inspection) -> None:
    layer = knn.layers[0]
    wide, tall = layer_contact_sheet(knn, layer).size
    assert wide >= layer.heads * 112
    assert tall >= len(layer.rows) * 3 * 112


def test_pictures_in_the_page_decode(knn: Inspection) -> None:
    found = re.findall(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)", page(knn))
    assert found
    for data in found[:40]:
        Image.open(BytesIO(base64.b64decode(data))).load()


def test_tables_have_a_row_each(knn: Inspection) -> None:
    assert len(layers_table(knn).rows) == len(short_table(knn).rows) == 6
    assert all(len(row) == len(layers_table(knn).columns) for row in layers_table(knn).rows)
    table = heads_table(knn.layers[0])
    assert len(table.rows) == 4
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_captions_follow_the_numbers(knn: Inspection) -> None:
    layer = knn.layers[0]
    assert layer.dropped is not None
    means = [head.mean for head in layer.dropped.heads]
    assert what_to_see(layer).startswith(f"Head {means.index(max(means))} drops the most")
    whole = study("vit_nano", "knn100", gradients=False)
    assert what_to_see(whole.layers[0]) == "Every key is kept, so both maps are the same."
    dense = study("vit_nano", "softmax", gradients=False).layers[0]
    entropies = [head.mean for head in dense.entropy.heads]
    assert what_to_see(dense).startswith(f"Head {entropies.index(min(entropies))} is the sharpest")


def test_a_link_that_leads_out_of_the_folder_is_refused(knn: Inspection, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "layers").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leads out of the folder"):
        write_page(knn, tmp_path / "out")
