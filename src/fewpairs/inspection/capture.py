"""Records what the attention layers and blocks of a model do with one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from fewpairs.attention import KNN, Core, Softmax, has_pairs
from fewpairs.errors import InputError
from fewpairs.inspection.layers import ancestors, block_of, find_cores, layer_name
from fewpairs.inspection.measures import token_similarity, update_ratio
from fewpairs.inspection.query_weights import QueryMeasures, QueryWeights, measure_positions, measure_queries
from fewpairs.inspection.token_positions import QueryPosition, TokenPositions, find_positions
from fewpairs.types import Grid, Size

Share = tuple[float, float]
"""Row and column of a query as shares of the image's height and width, from 0 to below 1."""


@dataclass(frozen=True, slots=True)
class LayerReading:
    """What one attention layer computed for the image."""

    attentions: int
    """The number of attentions that run side by side (windows)."""
    queries: int
    keys: int
    positions: TokenPositions | None
    measures: QueryMeasures
    prefix: list[QueryWeights]
    """The weights of the queries without a position."""
    rows: list[QueryWeights]
    """The weights of the chosen queries, in their order; empty where no query has a position. For attention without
    pairs these are the maps of all positions at once, or of the windows that hold the queries."""


@dataclass(frozen=True, slots=True)
class BlockReading:
    """How one block changed the tokens."""

    similarity: float
    """Mean pairwise cosine similarity of the tokens after the block, without prefix tokens."""
    update: float | None
    """Norm of the block's change over the norm of its input; None where the tokens change in number or width."""


@dataclass
class Recorder:
    """Records one forward pass: attach it to a model, call the model once, and read the fields."""

    image: Size
    queries: Sequence[Share]
    layers: dict[str, LayerReading] = field(default_factory=dict)
    blocks: dict[str, BlockReading] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    """The grid that each module was last called with, by the module's name."""

    @contextmanager
    def attached(self, model: nn.Module, *, attention: bool = True) -> Iterator[None]:
        """Installs hooks for the duration of the context; without `attention` only blocks are recorded."""
        cores, modules = find_cores(model), dict(model.named_modules())
        around = {ancestor for name in cores for ancestor in ancestors(name)}
        blocks = {block_of(name): core for name, core in cores.items()}
        with ExitStack() as stack:
            for name in around:
                hook = modules[name].register_forward_pre_hook(self._note_grid(name), with_kwargs=True)
                stack.callback(hook.remove)
            for name, core in blocks.items():
                width = core.heads * core.dim_head
                stack.callback(modules[name].register_forward_hook(self._note_block(name, width)).remove)
            for name, core in cores.items() if attention else ():
                hook = core.register_forward_pre_hook(self._note_layer(name, modules), with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def _note_grid(self, name: str) -> Any:
        def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            grid = _grid_of([*args, *kwargs.values()])
            if grid is not None:
                self.grids[name] = grid
            else:
                self.grids.pop(name, None)

        return note

    def _note_block(self, name: str, width: int) -> Any:
        def note(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            after = _tokens(output, width)
            if after is None:
                return
            before = _tokens(args, width)
            update = update_ratio(before, after) if before is not None and before.shape == after.shape else None
            prefix = self._prefix(name, len(after))
            self.blocks[name] = BlockReading(token_similarity(after[prefix:]), update)

        return note

    def _prefix(self, block: str, tokens: int) -> int:
        """The number of a block's tokens without a position, according to its attention layers."""
        layouts = [reading.positions for name, reading in self.layers.items() if block_of(name) == block]
        found = [layout for layout in layouts if layout is not None and layout.window is None]
        grids = [grid for layout in found for grid in (layout.queries, layout.keys)]
        return next((grid.prefix for grid in grids if grid.tokens == tokens), 0)

    def _note_layer(self, name: str, modules: dict[str, nn.Module]) -> Any:
        def note(core: Core, roles: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            if name in self.layers:
                raise InputError(
                    f"{layer_name(name)} is called more than once for one image; such a model cannot be inspected"
                )
            around = list(ancestors(name))
            window, shift = _window([modules[ancestor] for ancestor in around])
            attentions, _, queries, _ = roles[0].shape
            keys = roles[-1].shape[2]
            layout = find_positions(
                attentions,
                queries,
                keys,
                self.image,
                known=[self.grids[ancestor] for ancestor in around if ancestor in self.grids],
                window=window,
                shift=shift,
            )
            if not has_pairs(core.variant):
                windows = [_window_positions(layout, query, attentions, keys) for query in self.queries]
                positions = _all_positions(layout) if attentions == 1 else windows
                with torch.no_grad():
                    measures, rows = measure_positions(core, roles, kwargs.get("bias"), kwargs.get("grid"), positions)
                self.layers[name] = LayerReading(attentions, queries, keys, layout, measures, [], rows)
                return
            prefix = [layout.prefix_query(token) for token in range(layout.queries.prefix)] if layout else []
            asked = [] if layout is not None and not layout.queries.h else self.queries
            chosen = [_query_position(layout, query, attentions, queries) for query in asked]
            with torch.no_grad():
                measures, rows = measure_queries(core, roles, kwargs.get("bias"), layout, [*prefix, *chosen])
            self.layers[name] = LayerReading(
                attentions, queries, keys, layout, measures, rows[: len(prefix)], rows[len(prefix) :]
            )

        return note


def _all_positions(layout: TokenPositions | None) -> list[QueryPosition]:
    """One entry that stands for all positions of an attention over the whole image."""
    return [QueryPosition(0, 0, 0, (), (), None) if layout is None else layout.prefix_query(0)]


def _window_positions(layout: TokenPositions | None, query: Share, attentions: int, positions: int) -> QueryPosition:
    """An entry that stands for all positions of the window that holds the query."""
    return replace(_query_position(layout, query, attentions, positions), token=0, cell=None)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts the model into evaluation mode, and restores the mode of every module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def dense(cores: dict[str, Core]) -> Iterator[None]:
    """Makes the model its dense twin for a while: k-NN attention becomes softmax attention over all keys."""
    changed = [(core, core.variant, core.kernel) for core in cores.values() if isinstance(core.variant, KNN)]
    formers = [core.exchange(Softmax(scale_by=variant.scale_by)) for core, variant, _ in changed]
    try:
        yield
    finally:
        for (core, variant, kernel), mix in zip(changed, formers, strict=True):
            core.exchange(variant, mix)
            core.kernel = kernel


def _query_position(layout: TokenPositions | None, query: Share, attentions: int, queries: int) -> QueryPosition:
    """The query at a point; without known positions, the one that far along the sequence as it is down the image."""
    if layout is not None:
        return layout.position(*query)
    flat = int(query[0] * attentions * queries)
    return QueryPosition(flat // queries, flat % queries, 0, (), (), None)


def _grid_of(arguments: list[Any]) -> Grid | None:
    """The grid among a module's arguments: a `Grid`, two whole numbers, or the height and width of a feature map."""
    for argument in arguments:
        if isinstance(argument, Grid):
            return argument
        pair = isinstance(argument, (tuple, list)) and len(argument) == 2
        if pair and all(type(side) is int and side > 0 for side in argument):
            return Grid(*argument)
    maps = [argument for argument in arguments if isinstance(argument, Tensor) and argument.ndim == 4]
    if not maps:
        return None
    _, first, second, last = maps[0].shape
    # channels come last, or first: the two sides of a grid are nearer to each other than the channels are to them
    return Grid(first, second) if _apart(first, second) <= _apart(second, last) else Grid(second, last)


def _apart(one: int, other: int) -> float:
    return max(one, other) / max(min(one, other), 1)


def _window(around: Sequence[nn.Module]) -> tuple[Size | None, Size]:
    """Size and shift of an attention layer's windows, as the modules around it name them."""

    def told(name: str) -> Size | None:
        for module in around:
            value = getattr(module, name, None)
            sides = (value, value) if type(value) is int else value
            if isinstance(sides, (tuple, list)) and len(sides) == 2 and all(type(side) is int for side in sides):
                return sides[0], sides[1]
        return None

    return told("window_size"), told("shift_size") or (0, 0)


def _tokens(content: Any, width: int) -> Tensor | None:
    """Tokens `[n c]` of the first image, from the first tensor or feature map of `width` channels; None without any."""
    candidates = content if isinstance(content, (tuple, list)) else [content]
    for tensor in candidates:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            continue
        if tensor.ndim == 3 and tensor.shape[-1] == width and len(tensor) == 1:
            return tensor[0]
        if tensor.ndim == 4 and tensor.shape[-1] == width:
            return rearrange(tensor[0], "h w c -> (h w) c")
        if tensor.ndim == 4 and tensor.shape[1] == width:
            return rearrange(tensor[0], "c h w -> (h w) c")
    return None
