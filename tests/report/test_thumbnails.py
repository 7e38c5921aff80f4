from __future__ import annotations

import numpy as np
from PIL import Image

from fewpairs.report.thumbnails import thumbnail, thumbnail_sheet


def test_thumbnails_fit_a_square_and_keep_their_aspect() -> None:
    assert thumbnail(Image.new("RGB", (640, 320))).size == (160, 80)
    assert thumbnail(Image.new("L", (7, 28))).size == (40, 160)
    assert thumbnail(Image.new("L", (3000, 1))).size == (160, 1)
    small = thumbnail(Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)))
    assert small.mode == "RGB"
    assert sorted(np.unique(np.asarray(small)).tolist()) == [0, 255], "small pictures are enlarged without blur"


def test_a_sheet_holds_every_thumbnail_in_rows_of_six() -> None:
    colours = [(200, 10 * number, 0) for number in range(8)]
    pictures = [thumbnail(Image.new("RGB", (10, 10), colour)) for colour in colours]
    sheet = np.asarray(thumbnail_sheet(pictures, [("a", "b")] * 8))
    for number, colour in enumerate(colours):
        assert (sheet == np.array(colour)).all(-1).sum() == 160 * 160, number
    first, last = (np.argwhere((sheet == np.array(colours[number])).all(-1)) for number in (0, 7))
    assert last.min(0)[0] > first.max(0)[0], "in the second row"
    assert last.min(0)[1] > first.max(0)[1], "in the second column"


def test_captions_are_written_and_long_ones_cut() -> None:
    picture = thumbnail(Image.new("RGB", (10, 10), (255, 255, 255)))
    blank = thumbnail_sheet([picture] * 2, [("", "")] * 2)
    short = thumbnail_sheet([picture] * 2, [("cat 99%", "Häuser"), ("", "")])
    long = thumbnail_sheet([picture] * 2, [("x" * 500, "a\nb"), ("", "")])
    assert blank.size == short.size == long.size
    ink = [np.argwhere(np.asarray(sheet.convert("L")) < 200) for sheet in (blank, short, long)]
    assert len(ink[0]) == 0
    assert len(ink[1]) > 100
    assert ink[2][:, 1].max() < 12 + 160 + 2, "text stays below its own picture"
