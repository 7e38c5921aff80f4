"""Positions of an attention layer's tokens on the image: a grid over all of it, a grid of windows, or unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewpairs.types import Grid, Size

_MOST_PREFIX = 8


@dataclass(frozen=True, slots=True)
class QueryPosition:
    """A chosen query within one call of attention, and the positions of the keys that it sees."""

    batch: int
    """Index of the window among the `b` attentions that run side by side."""
    token: int
    prefix: int
    """The number of keys without a position, which come first."""
    rows: tuple[int, ...]
    """Rows of the keys' grid, in the order of the keys; empty where the keys' positions are unknown."""
    columns: tuple[int, ...]
    cell: tuple[float, float, float, float] | None
    """Top, left, height and width of the query, as shares of the keys' area; None for a query without a position."""


@dataclass(frozen=True, slots=True)
class TokenPositions:
    """Grids of a layer's queries and keys. Tokens and windows are ordered by rows, and prefix tokens come first.

    Without `window`, one attention spans the whole image. With it, `queries` and `keys` are the grid of all windows
    together, moved by `shift` rows and columns towards the upper left, and padded on the lower right to whole windows.
    """

    queries: Grid
    keys: Grid
    window: Size | None = None
    shift: Size = (0, 0)

    @property
    def padded(self) -> Size:
        """Rows and columns of the queries' grid in whole windows."""
        if self.window is None:
            return self.queries.h, self.queries.w
        (height, width), grid = self.window, self.queries
        return -(-grid.h // height) * height, -(-grid.w // width) * width

    def position(self, y: float, x: float) -> QueryPosition:
        """The query at a share `y` of the image's height and `x` of its width, both from 0 to below 1."""
        row, column = int(y * self.queries.h), int(x * self.queries.w)
        if self.window is None:
            token = self.queries.prefix + row * self.queries.w + column
            cell = (row / self.queries.h, column / self.queries.w, 1 / self.queries.h, 1 / self.queries.w)
            lines = tuple(range(self.keys.h)), tuple(range(self.keys.w))
            return QueryPosition(0, token, self.keys.prefix, *lines, cell)
        (height, width), (tall, wide) = self.window, self.padded
        (down, i), (across, j) = (
            divmod((layout - shift) % length, side)
            for layout, shift, length, side in (
                (row, self.shift[0], tall, height),
                (column, self.shift[1], wide, width),
            )
        )
        rows = tuple((down * height + line + self.shift[0]) % tall for line in range(height))
        columns = tuple((across * width + line + self.shift[1]) % wide for line in range(width))
        batch, token = down * (wide // width) + across, i * width + j
        return QueryPosition(batch, token, 0, rows, columns, (i / height, j / width, 1 / height, 1 / width))

    def prefix_query(self, token: int) -> QueryPosition:
        """The prefix query with this index, which has no position."""
        return QueryPosition(0, token, self.keys.prefix, tuple(range(self.keys.h)), tuple(range(self.keys.w)), None)

    def points(self) -> tuple[Tensor, Tensor]:
        """Centres of queries `[n 2]` and keys `[m 2]` of one attention, in queries' widths; NaN for prefix tokens."""
        if self.window is not None:
            inside = _centres(Grid(*self.window), (1.0, 1.0))
            return inside, inside
        step = self.queries.h / max(self.keys.h, 1), self.queries.w / max(self.keys.w, 1)
        return _centres(self.queries, (1.0, 1.0)), _centres(self.keys, step)


def _centres(grid: Grid, step: tuple[float, float]) -> Tensor:
    rows, columns = ((torch.arange(count) + 0.5) * width for count, width in zip((grid.h, grid.w), step, strict=True))
    return torch.cat([torch.full((grid.prefix, 2), math.nan), torch.cartesian_prod(rows, columns).reshape(-1, 2)])


def find_positions(
    attentions: int,
    queries: int,
    keys: int,
    image: Size,
    *,
    known: Iterable[Grid] = (),
    window: Size | None = None,
    shift: Size = (0, 0),
) -> TokenPositions | None:
    """The token positions of a layer that runs `attentions` side by side for one image; None where no grid fits.

    Args:
        queries, keys: numbers of queries and keys in each attention.
        image: height and width of the model's input in pixels; cells of a grid have about its proportions.
        known: grids that modules around the layer worked on, the nearest first; they take precedence over a guess.
        window: rows and columns of a window where a module names them; windows are square otherwise.
        shift: rows and columns by which the windows are moved.
    """
    known = list(known)
    if attentions > 1:
        return _windows(attentions, queries, keys, image, known, window, shift)
    if queries == 1 and keys > 1:
        grid = find_grid(keys, image, known)
        return None if grid is None else TokenPositions(Grid(0, 0, 1), grid)
    grid = find_grid(queries, image, known)
    if grid is None:
        return None
    if keys == queries:
        return TokenPositions(grid, grid)
    strided = find_grid(keys, image, [*known, *(Grid(0, 0, grid.prefix),) * (grid.prefix > 0)])
    return None if strided is None else TokenPositions(grid, strided)


def _windows(
    attentions: int, queries: int, keys: int, image: Size, known: list[Grid], window: Size | None, shift: Size
) -> TokenPositions | None:
    if keys != queries:
        return None
    side = math.isqrt(queries)
    if window is None or window[0] * window[1] != queries:
        if side * side != queries:
            return None
        window = side, side
    for grid in known:
        layout = _windowed(Grid(grid.h, grid.w), window, shift)
        if layout.padded[0] * layout.padded[1] == attentions * queries and grid.h * grid.w:
            return layout
    counted = find_grid(attentions, (image[0] * window[1], image[1] * window[0]))
    if counted is None or counted.prefix:
        return None
    return _windowed(Grid(counted.h * window[0], counted.w * window[1]), window, shift)


def _windowed(grid: Grid, window: Size, shift: Size) -> TokenPositions:
    """Windowed positions; a window that spans the image is not shifted, as models do it."""
    tall, wide = TokenPositions(grid, grid, window).padded
    return TokenPositions(
        grid, grid, window, (shift[0] if tall > window[0] else 0, shift[1] if wide > window[1] else 0)
    )


def find_grid(tokens: int, image: Size, known: Iterable[Grid] = ()) -> Grid | None:
    """The grid of `tokens` over an image: a known one that fits, else the one with the most nearly square cells.

    Tokens left over by a rectangle are prefix tokens, at most eight and as few as possible; a known grid without cells
    gives their number.
    """
    known = list(known)
    for grid in known:
        if grid.h * grid.w and 0 <= tokens - grid.h * grid.w <= _MOST_PREFIX:
            return Grid(grid.h, grid.w, tokens - grid.h * grid.w)
    told = [grid.prefix for grid in known if not grid.h * grid.w]
    found = []
    for order, prefix in enumerate(dict.fromkeys([*told, *range(_MOST_PREFIX + 1)])):
        for h in range(1, tokens - prefix + 1):
            w, rest = divmod(tokens - prefix, h)
            # the sides of a cell may differ by as much as one more or one fewer line of cells makes them
            stretch = abs(math.log((image[0] / h) / (image[1] / w))) if w and not rest else math.inf
            if stretch <= (1 / min(h, w) if image[0] != image[1] else 0):
                found.append((round(stretch, 6), order, Grid(h, w, prefix)))
    return min(found, key=lambda item: item[:2])[2] if found else None
