"""The C++ layer refuses by itself what does not fit, whatever Python hands over: an error, and no memory of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.key_only import native as key_only
from fewpairs.ops.knn import native as knn
from fewpairs.ops.kv import native as kv

pytestmark = pytest.mark.skipif(kv.LIBRARY.unavailable() is not None, reason="there is no C++ compiler here")
assert key_only.LIBRARY
assert knn.LIBRARY

B, H, N, D = 2, 3, 10, 8
OPS = torch.ops.fewpairs


def heads(n: int = N, d: int = D, h: int = H, b: int = B) -> Tensor:
    return torch.randn(b, h, n, d)


def run_kv(k: Tensor, v: Tensor, *terms: Tensor | None) -> Tensor:
    return OPS.kv_native_forward(k, v, *terms, *(None,) * (3 - len(terms)), 0.5)[0]


def run_knn(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, topk: int = 3) -> Tensor:
    return OPS.knn_native_forward(q, k, v, bias, topk, 0.5, False)[0]


def run_key_only(k: Tensor, v: Tensor, saliency: Tensor, *rest: Tensor | None) -> Tensor:
    return OPS.key_only_native_forward(k, v, saliency, *rest, *(None,) * (2 - len(rest)))[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: run_kv(heads(), heads(5)),
        lambda: run_kv(heads(), heads(h=1)),
        lambda: run_kv(heads(h=1), heads()),
        lambda: run_kv(heads(), heads(b=1)),
        lambda: run_kv(heads(), heads().bfloat16()),
        lambda: run_kv(heads().double(), heads().double()),
        lambda: run_kv(heads(0), heads(0)),
        lambda: run_kv(heads(), heads(), None, torch.zeros(2, N)),
        lambda: run_kv(heads(), heads(), None, None, torch.zeros(1, 2, N, N)),
        lambda: run_kv(heads(), heads(), None, None, torch.zeros(4, 1, N, N)),
        lambda: run_kv(heads(), heads(), None, None, torch.zeros(1, 1, N, 4)),
        lambda: run_kv(heads(), heads(), None, None, torch.zeros(1, 1, 1, N)),
        lambda: run_knn(heads(), heads(5), heads(6)),
        lambda: run_knn(heads(), heads(), heads(h=1)),
        lambda: run_knn(heads(), heads(d=9), heads()),
        lambda: run_knn(heads(), heads(), heads().bfloat16()),
        lambda: run_knn(heads(), heads(), heads(), topk=N + 1),
        lambda: run_knn(heads(), heads(), heads(), topk=0),
        lambda: run_knn(heads(), heads(), heads(), torch.zeros(1, 2, N, N)),
        lambda: run_knn(heads(), heads(), heads(), torch.zeros(1, 1, 1, N)),
        lambda: run_key_only(heads(), heads(5), torch.randn(H, D)),
        lambda: run_key_only(heads(), heads(), torch.randn(2, D)),
        lambda: run_key_only(heads(), heads(), torch.randn(B, H, 4)),
        lambda: run_key_only(heads(), heads(), torch.randn(H, D), torch.ones(B, H, 4, dtype=torch.bool)),
        lambda: run_key_only(heads(), heads(), torch.randn(H, D), torch.ones(B, H, N)),
        lambda: run_key_only(heads(), heads(), torch.randn(H, D), None, heads(h=1)),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], Tensor]) -> None:
    with pytest.raises(InputError, match=r"the C\+\+ kernel refuses its arguments.*\(check \d+\)"):
        call()


def test_gradients_that_do_not_fit_are_refused() -> None:
    k = heads()
    out, highest, totals = OPS.kv_native_forward(k, k, None, None, None, 0.5)
    learns = (0.5, False, False, False)
    OPS.kv_native_backward(out, k, k, None, None, None, out, highest, totals, *learns)
    for grad, rest in ((out[:, :, :4], totals), (out, totals[..., :4])):
        with pytest.raises(InputError, match="backward pass: the C"):
            OPS.kv_native_backward(grad, k, k, None, None, None, out, highest, rest, *learns)


def test_a_list_of_keys_that_there_are_not_is_refused() -> None:
    q = heads()
    out, index, *rest = OPS.knn_native_forward(q, q, q, None, 3, 0.5, True)
    index[0, 1, 2, 0] = N
    with pytest.raises(InputError, match="refuses its arguments"):
        OPS.knn_native_backward(out, q, q, q, None, out, index, *rest, 3, 0.5, False)


SHAPES = st.lists(st.integers(0, 4), min_size=4, max_size=4)


@given(shapes=st.lists(SHAPES, min_size=3, max_size=3), topk=st.integers(-1, 5), half=st.booleans())
def test_any_shapes_are_computed_or_refused(shapes: list[list[int]], topk: int, half: bool) -> None:
    tensors = [torch.randn(shape) for shape in shapes]
    tensors[2] = tensors[2].bfloat16() if half else tensors[2]
    calls: list[tuple[Callable[..., Tensor], list[Any], bool]] = [
        (run_kv, tensors[1:], tensors[1].shape[:3] == tensors[2].shape[:3]),
        (run_key_only, [*tensors[1:], tensors[0]], tensors[0].shape == tensors[1].shape == tensors[2].shape),
        (
            lambda *x: run_knn(*x, topk=topk),
            tensors,
            shapes[0][:2] == shapes[1][:2]
            and shapes[0][3] == shapes[1][3]
            and shapes[1][:3] == shapes[2][:3]
            and 0 < topk <= shapes[1][2],
        ),
    ]
    for call, arguments, fits in calls:
        whole = all(x.numel() for x in arguments)
        if fits and whole and not half:
            assert call(*arguments).isfinite().all()
        elif whole:
            with pytest.raises(InputError):
                call(*arguments)
