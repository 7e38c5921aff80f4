"""Functions for Triton kernels: a tile of a matrix, a product, the logits of a tile.

Scores must equal those of an earlier kernel bit by bit, so all kernels compute them in one way: `product` in the input
dtype with float32 sums (without TF32), then `logits`, whose rounding is fixed as one multiplication or one fused
multiply-add, which no compiler may contract otherwise.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from fewpairs.ops.triton.refusal import INTERPRETED

WIDEN = tl.constexpr(INTERPRETED)
"""Whether to multiply in float32: the interpreter would multiply the integers that represent bfloat16."""


@triton.jit
@no_type_check
def tile(pointer, rows, columns, stride, n, width):
    """Load rows and columns of a matrix `[n width]`, zero beyond its edges."""
    inside = (rows < n)[:, None] & (columns < width)[None, :]
    return tl.load(pointer + rows.to(tl.int64)[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
@no_type_check
def put(pointer, values, rows, columns, stride, n, width):
    """Store a tile, within the edges of a matrix `[n width]`."""
    inside = (rows < n)[:, None] & (columns < width)[None, :]
    place = pointer + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(place, values.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def product(a, b, total):
    """Return `total + a @ b`, summed in float32."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
@no_type_check
def logits(products, scale, bias, rows, columns, n, m, row_stride, column_stride, BIAS: tl.constexpr):
    """Return `scale * products + bias`, and -inf where a boolean bias is False and beyond the last key."""
    inside = (rows < n)[:, None] & (columns < m)[None, :]
    place = bias + rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    scores = products * scale
    if BIAS == 1:
        term = tl.load(place, mask=inside, other=0.0).to(tl.float32)
        scores = tl.fma(products, tl.zeros_like(products) + scale, term)
    if BIAS == 2:
        scores = tl.where(tl.load(place, mask=inside, other=0) != 0, scores, -float("inf"))
    return tl.where((columns < m)[None, :], scores, -float("inf"))


@triton.jit
@no_type_check
def head_base(pointer, image, head, image_stride, head_stride):
    """Return the pointer to one head of one image."""
    return pointer + image.to(tl.int64) * image_stride + head.to(tl.int64) * head_stride


@triton.jit
@no_type_check
def log_sums(log_sum, first_row, rows, n):
    """Load log-sum-exps of float64 as float32, and the factors of the weights which that rounding takes away."""
    exact = tl.load(log_sum + first_row + rows, mask=rows < n, other=0.0)
    rounded = exact.to(tl.float32)
    return rounded, tl.exp((rounded.to(tl.float64) - exact).to(tl.float32))


@triton.jit
@no_type_check
def slopes_of(weights, arriving, mean):
    """Compute `weights * (arriving - mean)`; 0 for a key that has all the weight, whatever is rounded in the mean."""
    return tl.where(weights == 1.0, 0.0, weights * (arriving - mean))
