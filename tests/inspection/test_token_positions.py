"""Places of tokens against how timm really cuts windows, and against grids that are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.swin_transformer import window_partition

from fewpairs.inspection.token_positions import TokenPositions, find_grid, find_positions
from fewpairs.types import Grid


@pytest.mark.parametrize(
    ("tokens", "image", "grid"),
    [
        (196, (224, 224), Grid(14, 14)),
        (197, (224, 224), Grid(14, 14, 1)),
        (198, (224, 224), Grid(14, 14, 2)),
        (201, (224, 224), Grid(14, 14, 5)),
        (962, (224, 224), Grid(31, 31, 1)),
        (50, (224, 224), Grid(7, 7, 1)),
        (140, (160, 224), Grid(10, 14)),
        (141, (160, 224), Grid(10, 14, 1)),
    ],
)
def test_the_grid_of_so_many_tokens(tokens: int, image: tuple[int, int], grid: Grid) -> None:
    assert find_grid(tokens, image) == grid


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 8))
def test_a_grid_of_square_cells_is_found_once_the_prefix_is_told(h: int, w: int, prefix: int) -> None:
    assert find_grid(prefix + h * w, (16 * h, 16 * w), [Grid(0, 0, prefix)]) == Grid(h, w, prefix)


def test_a_known_grid_goes_before_a_guess() -> None:
    assert find_grid(37, (224, 224), [Grid(50, 50), Grid(4, 9)]) == Grid(4, 9, 1)


def test_no_grid_fits() -> None:
    assert find_grid(180, (224, 224)) is None
    assert find_positions(1, 180, 180, (224, 224)) is None
    assert find_positions(4, 12, 12, (224, 224)) is None
    assert find_positions(3, 16, 16, (224, 224)) is None


def test_fewer_keys_than_queries_have_a_grid_of_their_own() -> None:
    layout = find_positions(1, 197, 50, (224, 224))
    assert layout == TokenPositions(Grid(14, 14, 1), Grid(7, 7, 1))
    assert layout is not None
    queries, keys = layout.points()
    assert torch.isnan(queries[0]).all()
    assert torch.isnan(keys[0]).all()
    assert keys[1].tolist() == [1.0, 1.0]
    assert queries[-1].tolist() == [13.5, 13.5]


def test_a_single_query_is_the_class_token() -> None:
    layout = find_positions(1, 1, 197, (224, 224))
    assert layout == TokenPositions(Grid(0, 0, 1), Grid(14, 14, 1))
    assert layout is not None
    assert layout.prefix_query(0).cell is None


@given(
    h=st.integers(1, 12),
    w=st.integers(1, 12),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    shift=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    at=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_windows_are_those_that_timm_cuts(
    h: int, w: int, window: tuple[int, int], shift: tuple[int, int], at: tuple[float, float]
) -> None:
    shift = (shift[0] % window[0], shift[1] % window[1])
    layout = TokenPositions(Grid(h, w), Grid(h, w), window, shift)
    tall, wide = layout.padded
    ids = torch.arange(tall * wide).reshape(1, tall, wide, 1)
    cut = window_partition(ids.roll((-shift[0], -shift[1]), dims=(1, 2)), window).flatten(1)
    row, column = int(at[0] * h), int(at[1] * w)
    position = layout.position(*at)
    assert cut[position.batch, position.token] == row * wide + column
    assert cut[position.batch].tolist() == [y * wide + x for y in position.rows for x in position.columns]
    assert position.cell is not None
    y, x = round(position.cell[0] * window[0]), round(position.cell[1] * window[1])
    assert (position.rows[y], position.columns[x]) == (row, column)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2), st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_query_of_one_attention_over_the_whole_image(h: int, w: int, prefix: int, y: float, x: float) -> None:
    position = TokenPositions(Grid(h, w, prefix), Grid(h, w, prefix)).position(y, x)
    assert position.token == prefix + int(y * h) * w + int(x * w)
    assert (position.batch, position.prefix) == (0, prefix)
    assert position.cell is not None
    assert math.isclose(position.cell[0] * h, int(y * h), abs_tol=1e-9)


def test_a_window_as_large_as_the_image_is_not_shifted() -> None:
    layout = find_positions(2, 49, 49, (112, 224), known=[Grid(7, 14)], window=(7, 7), shift=(3, 3))
    assert layout is not None
    assert layout.shift == (0, 3)


def test_windows_over_a_known_grid_that_needs_padding() -> None:
    layout = find_positions(4, 49, 49, (32, 32), known=[Grid(8, 8)], window=(7, 7))
    assert layout is not None
    assert (layout.queries, layout.padded) == (Grid(8, 8), (14, 14))


def test_windows_without_a_known_grid_are_square() -> None:
    assert find_positions(196, 16, 16, (224, 224)) == TokenPositions(Grid(56, 56), Grid(56, 56), (4, 4))
