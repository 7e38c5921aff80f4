"""Triton kernels that find the cut of each row of k-NN attention from blocks of score rows.

`select_on_chip` holds whole rows, `[ROWS COLS]`, until the cut is found. `select_streaming` holds none: it computes
tiles of scores again for every count, so that rows may have any length. Both write threshold, last key, and the
largest score of each row (NaN in the first and the last where the row has a logit of NaN or +inf).
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from fewpairs.ops.knn.triton_search import LOWEST, narrow, normal_guess, number, pivot, searching, start
from fewpairs.ops.triton.tiles import head_base, logits, product, tile


@triton.jit
@no_type_check
def _finish(threshold, last, highest, out_rows, inside, easy, bad, live, low, top, final):
    cut = tl.where(easy, LOWEST, number(low))
    tl.store(threshold + out_rows, tl.where(bad, float("nan"), cut), mask=inside)
    tl.store(last + out_rows, final, mask=inside)
    tl.store(highest + out_rows, tl.where(bad, float("nan"), tl.where(live > 0, top, 0.0)), mask=inside)


@triton.jit
@no_type_check
def select_on_chip(
    q, k, bias, threshold, last, highest, topk, scale, heads, n, m, q_image, q_head, q_row, k_image, k_head, k_row,
    b_image, b_head, b_row, b_column, width,
    D: tl.constexpr, STEP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, BITS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Cut `ROWS` rows of at most `COLS` keys; the products are summed over `STEP` of the width at a time."""
    blocks = tl.cdiv(n, ROWS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = unit // heads, unit % heads
    rows, columns = block * ROWS + tl.arange(0, ROWS), tl.arange(0, COLS)
    q = head_base(q, image, head, q_image, q_head)
    k = head_base(k, image, head, k_image, k_head)
    bias = head_base(bias, image, head, b_image, b_head)
    scores = tl.zeros([ROWS, COLS], tl.float32)
    for begin in range(0, D, STEP):
        part = begin + tl.arange(0, STEP)
        scores = product(
            tile(q, rows, part, q_row, n, width), tl.trans(tile(k, columns, part, k_row, m, width)), scores
        )
    scores = logits(scores, scale, bias, rows, columns, n, m, b_row, b_column, BIAS)

    there = scores > -float("inf")
    live = tl.sum(there.to(tl.int32), 1)
    bad = tl.max(((scores < float("inf")) == 0).to(tl.int32), 1) > 0
    many = tl.maximum(live, 1).to(tl.float32)
    mean = tl.sum(tl.where(there, scores, 0.0), 1) / many
    off = tl.where(there, scores - mean[:, None], 0.0)
    spread = tl.sqrt(tl.sum(off * off, 1) / many)
    top = tl.max(scores, 1)
    bottom = tl.min(tl.where(there, scores, float("inf")), 1)

    easy, low, high, at_low, at_high = start(live, bad, bottom, top, rows, n, topk)
    guess, density = normal_guess(live, mean, spread, topk)
    rose = easy
    step = 0
    while searching(easy, low, high, at_low, topk) > 0:
        at = pivot(step, rose, low, high, at_low, at_high, topk, guess, density)
        count = tl.sum((scores >= number(at)[:, None]).to(tl.int32), 1)
        rose, low, high, at_low, at_high = narrow(at, count, low, high, at_low, at_high, topk)
        step += 1

    final = tl.zeros_like(live) + m
    tied = (at_low > topk) & (easy == 0)
    if tl.max(tied.to(tl.int32), 0) > 0:
        equal = scores == number(low)[:, None]
        before, final = tl.zeros_like(live) - 1, final - 1
        for _ in range(BITS):
            middle = (before + final) >> 1
            found = tl.sum((equal & (columns[None, :] <= middle[:, None])).to(tl.int32), 1)
            enough = found >= topk - at_high
            before, final = tl.where(enough, before, middle), tl.where(enough, middle, final)
        final = tl.where(tied, final, m)
    _finish(threshold, last, highest, unit.to(tl.int64) * n + rows, rows < n, easy, bad, live, low, top, final)


@triton.jit
@no_type_check
def _scores(queries, k, bias, first, rows, scale, n, m, k_row, b_row, b_column, width,
            D: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, BIAS: tl.constexpr):  # fmt: skip
    """Compute the logits of some rows and the keys from `first` on, `[ROWS KEYS]`."""
    columns = first + tl.arange(0, KEYS)
    keys = tile(k, columns, tl.arange(0, D), k_row, m, width)
    products = product(queries, tl.trans(keys), tl.zeros([ROWS, KEYS], tl.float32))
    return logits(products, scale, bias, rows, columns, n, m, b_row, b_column, BIAS)


@triton.jit
@no_type_check
def select_streaming(
    q, k, bias, threshold, last, highest, topk, scale, heads, n, m, q_image, q_head, q_row, k_image, k_head, k_row,
    b_image, b_head, b_row, b_column, width,
    D: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Find the cut of `ROWS` rows, with one pass over the keys for their range and one for every count."""
    blocks = tl.cdiv(n, ROWS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = unit // heads, unit % heads
    rows = block * ROWS + tl.arange(0, ROWS)
    q = head_base(q, image, head, q_image, q_head)
    k = head_base(k, image, head, k_image, k_head)
    bias = head_base(bias, image, head, b_image, b_head)
    queries = tile(q, rows, tl.arange(0, D), q_row, n, width)

    live, bad = tl.zeros([ROWS], tl.int32), tl.zeros([ROWS], tl.int32)
    total, squares = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS], tl.float32)
    top, bottom = tl.full([ROWS], -float("inf"), tl.float32), tl.full([ROWS], float("inf"), tl.float32)
    for first in range(0, m, KEYS):
        scores = _scores(queries, k, bias, first, rows, scale, n, m, k_row, b_row, b_column, width, D, ROWS, KEYS, BIAS)
        there = scores > -float("inf")
        known = tl.where(there, scores, 0.0)
        live += tl.sum(there.to(tl.int32), 1)
        bad = tl.maximum(bad, tl.max(((scores < float("inf")) == 0).to(tl.int32), 1))
        total += tl.sum(known, 1)
        squares += tl.sum(known * known, 1)
        top = tl.maximum(top, tl.max(scores, 1))
        bottom = tl.minimum(bottom, tl.min(tl.where(there, scores, float("inf")), 1))
    bad = bad > 0
    many = tl.maximum(live, 1).to(tl.float32)
    mean = total / many
    spread = tl.sqrt(tl.maximum(squares / many - mean * mean, 0.0))

    easy, low, high, at_low, at_high = start(live, bad, bottom, top, rows, n, topk)
    guess, density = normal_guess(live, mean, spread, topk)
    rose = easy
    step = 0
    while searching(easy, low, high, at_low, topk) > 0:
        at = pivot(step, rose, low, high, at_low, at_high, topk, guess, density)
        count = tl.zeros([ROWS], tl.int32)
        for first in range(0, m, KEYS):
            scores = _scores(
                queries, k, bias, first, rows, scale, n, m, k_row, b_row, b_column, width, D, ROWS, KEYS, BIAS
            )
            count += tl.sum((scores >= number(at)[:, None]).to(tl.int32), 1)
        rose, low, high, at_low, at_high = narrow(at, count, low, high, at_low, at_high, topk)
        step += 1

    final = tl.zeros_like(live) + m
    tied = (at_low > topk) & (easy == 0)
    if tl.max(tied.to(tl.int32), 0) > 0:
        wanted, seen, before = topk - at_high, tl.zeros([ROWS], tl.int32), tl.zeros([ROWS], tl.int32)
        for first in range(0, m, KEYS):
            scores = _scores(
                queries, k, bias, first, rows, scale, n, m, k_row, b_row, b_column, width, D, ROWS, KEYS, BIAS
            )
            found = tl.cumsum((scores == number(low)[:, None]).to(tl.int32), 1) + seen[:, None]
            before += tl.sum((found < wanted[:, None]).to(tl.int32), 1)
            seen = tl.max(found, 1)
        final = tl.where(tied, before, m)
    _finish(threshold, last, highest, unit.to(tl.int64) * n + rows, rows < n, easy, bad, live, low, top, final)
