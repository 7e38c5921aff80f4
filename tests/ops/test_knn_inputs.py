"""What k-NN attention does with numbers that are none, and with calls that do not fit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops import knn_attention
from fewpairs.ops.knn import KERNELS, native

ABSENT = {"triton", "native" if native.LIBRARY.unavailable() else ""}
ALL = [kernel.name for kernel in KERNELS if kernel.name not in ABSENT]
"""On a CPU; Triton's are tested in `test_triton_*.py`."""


def heads(n: int = 6, m: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, 2, n, 8), torch.randn(2, 2, m, 8), torch.randn(2, 2, m, 8)


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("topk", [1, 4, 10])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_logit_that_is_no_number_spoils_its_own_row_only(kernel: str, topk: int, bad: float) -> None:
    q, k, v = heads()
    bias = torch.zeros(2, 2, 6, 10)
    bias[0, 1, 3, 4] = bad
    out = knn_attention(q, k, v, topk=topk, bias=bias, kernel=kernel)
    spoilt = out.isnan().all(-1)
    assert spoilt.sum() == 1
    assert spoilt[0, 1, 3]
    clean = knn_attention(q, k, v, topk=topk, kernel=kernel)
    torch.testing.assert_close(out[~spoilt], clean[~spoilt])


@pytest.mark.parametrize("topk", [4, 10])
def test_a_query_of_nan_spoils_its_row_by_default(topk: int) -> None:
    q, k, v = heads()
    q[1, 0, 2, 5] = math.nan
    out = knn_attention(q, k, v, topk=topk)
    assert out.isnan().all(-1).nonzero().tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("kernel", ALL)
def test_gradients_of_other_rows_survive_a_spoilt_query(kernel: str) -> None:
    q, k, v = heads()
    q[1, 0, 2] = math.nan
    q.requires_grad_()
    knn_attention(q, k, v, topk=4, kernel=kernel).sum().backward()
    assert q.grad.isnan().any(-1).nonzero().tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("kernel", ALL)
def test_huge_logits_do_not_overflow(kernel: str) -> None:
    q = torch.full((1, 1, 3, 4), 1e15)
    out = knn_attention(q, q, torch.eye(4)[None, None, :3], topk=2, kernel=kernel)
    torch.testing.assert_close(out, torch.tensor([0.5, 0.5, 0.0, 0.0]).expand(1, 1, 3, 4))


@pytest.mark.parametrize("kernel", [name for name in ALL if name != "native"])
def test_a_key_far_outside_the_set_may_have_the_largest_logit(kernel: str) -> None:
    """By distance a long key is far away although its product, which is then left out, would overflow exp."""
    q, v = torch.ones(1, 1, 1, 4, requires_grad=True), torch.eye(4)[None, None, :3]
    k = torch.tensor([[1.0] * 4, [1e3] * 4, [0.9] * 4])[None, None]
    out = knn_attention(q, k, v, topk=2, scale=1.0, metric="euclidean", kernel=kernel)
    assert out[..., 1] == 0
    assert out.sum().item() == pytest.approx(1)
    out.square().sum().backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("boolean", [True, False])
@pytest.mark.parametrize("topk", [3, 1.0])
def test_a_bias_that_empties_a_row_is_refused_by_its_first_row_if_strict(
    boolean: bool, topk: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWPAIRS_STRICT", "1")
    q, k, v = heads()
    mask = torch.ones(1, 2, 6, 10, dtype=torch.bool)
    mask[0, 1, 4], mask[0, 1, 5] = False, False
    bias = mask if boolean else torch.where(mask, 0.0, -math.inf)
    with pytest.raises(InputError, match=r"no key to query n=4 \(b=0, h=1 of the bias\), and 2 such rows"):
        knn_attention(q, k, v, topk=topk, bias=bias)


@pytest.mark.parametrize("kernel", ALL)
def test_an_empty_row_that_is_not_looked_for_gives_zeros(kernel: str) -> None:
    q, k, v = (t.requires_grad_() for t in heads())
    mask = torch.ones(1, 1, 6, 10, dtype=torch.bool)
    mask[..., 4, :] = False
    run = next(each.run for each in KERNELS if each.name == kernel)
    out = run(q, k, v, topk=3, bias=mask, scale=1.0, metric="dot")
    assert (out[..., 4, :] == 0).all()
    assert (out[..., :4, :] != 0).all()
    out.square().sum().backward()
    assert q.grad[:, :, 4].abs().max() == 0
    assert all(t.grad.isfinite().all() for t in (q, k, v))


def changed(**changes: object) -> dict[str, object]:
    q, k, v = heads()
    return {"q": q, "k": k, "v": v, "topk": 3, **changes}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q": torch.randn(2, 6, 8)}, r"q must have the four dimensions \[b h n d\]; its shape is \[2, 6, 8\]"),
        ({"v": torch.randn(1, 2, 2, 10, 8)}, r"v must have the four dimensions \[b h m e\]"),
        ({"k": torch.randn(2, 2, 10, 9)}, r"q \[b h n d\] and k \[b h m d\] must agree in b, h and d"),
        ({"k": torch.randn(1, 2, 10, 8)}, r"must agree in b, h and d; .* \[2, 2, 6, 8\] and \[1, 2, 10, 8\]"),
        ({"v": torch.randn(2, 2, 9, 8)}, r"k \[b h m d\] and v \[b h m e\] must agree in b, h and m"),
        ({"k": torch.randn(2, 2, 0, 8), "v": torch.randn(2, 2, 0, 8)}, r"no keys \(m = 0\)"),
        ({"k": torch.randn(2, 2, 10, 8).double()}, "share one dtype, not torch.float32, torch.float64"),
        ({"v": torch.randn(2, 2, 10, 8, device="meta")}, "on one device, not cpu, cpu and meta"),
        (
            {name: torch.ones(2, 2, 6, 8, dtype=torch.int64) for name in "qkv"},
            "floating-point numbers, not torch.int64",
        ),
        ({"bias": torch.zeros(2, 2, 6, 9)}, r"bias must be \[b h n m\] = \[2 2 6 10\], with 1 for b or h"),
        ({"bias": torch.zeros(3, 1, 6, 10)}, r"its shape is \[3, 1, 6, 10\]"),
        ({"bias": torch.zeros(2, 6, 10)}, r"its shape is \[2, 6, 10\]"),
        ({"bias": torch.zeros(1, 1, 6, 10, dtype=torch.int32)}, "or boolean .*, not torch.int32"),
        (
            {"bias": torch.zeros(1, 1, 6, 10, device="meta")},
            "bias must lie on the device of q, k and v, cpu, not on meta",
        ),
        ({"scale": math.nan}, "scale=nan must be a finite number"),
        ({"scale": math.inf}, "scale=inf must be a finite number"),
        ({"topk": 0}, "topk=0"),
        ({"topk": 1.5}, "topk=1.5"),
        ({"kernel": "bounde"}, "did you mean 'bounded'"),
    ],
)
def test_calls_that_do_not_fit_are_refused_in_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        knn_attention(**changed(**options))


def test_no_queries_and_no_images_are_no_mistake() -> None:
    q, k, v = heads()
    for kernel in ALL:
        assert knn_attention(q[:, :, :0], k, v, topk=3, kernel=kernel).shape == (2, 2, 0, 8)
        assert knn_attention(q[:0], k[:0], v[:0], topk=3, kernel=kernel).shape == (0, 2, 6, 8)
