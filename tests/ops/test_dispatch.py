from __future__ import annotations

import pytest
import torch

from fewpairs.errors import InputError
from fewpairs.ops import kv, kv_attention, softmax, softmax_attention
from fewpairs.ops.dispatch import KernelRefused, choose, explain


def kv_options(**changes: object) -> dict[str, object]:
    return {"gain": None, "key_bias": None, "scale": 1.0, **changes}


def test_the_first_kernel_that_does_not_refuse_is_taken() -> None:
    k = torch.randn(1, 2, 5, 8, dtype=torch.float64)
    assert choose(kv.KERNELS, None, k, k, **kv_options()).name == "fused"
    learned = torch.zeros(5, requires_grad=True)
    assert choose(kv.KERNELS, None, k, k, **kv_options(key_bias=learned)).name == "folded"
    with torch.no_grad():
        assert choose(kv.KERNELS, None, k, k, **kv_options(key_bias=learned)).name == "fused"


def test_a_forced_kernel_refuses_in_a_sentence() -> None:
    k = torch.randn(1, 2, 5, 8)
    with pytest.raises(KernelRefused, match="no key bias to fold"):
        kv_attention(k, k, kernel="folded")


def test_an_unknown_kernel_names_the_nearest() -> None:
    q = torch.randn(1, 2, 5, 8)
    with pytest.raises(InputError, match="did you mean 'fused'"):
        softmax_attention(q, q, q, kernel="fusde")


def test_explain_has_one_sentence_a_kernel() -> None:
    k = torch.randn(1, 2, 5, 8, dtype=torch.float64)
    lines = dict(explain(kv.KERNELS, k, k, **kv_options(key_bias=torch.zeros(5, requires_grad=True))))
    assert list(lines) == ["native", "triton", "fused", "folded", "reference"]
    assert lines["fused"].startswith("refuses: the key bias needs a gradient")
    assert lines["folded"] == "chosen"
    assert lines["reference"].startswith("could run")


def test_no_keys_falls_to_the_reference() -> None:
    q, k = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 0, 8)
    assert choose(softmax.KERNELS, None, q, k, k, bias=None, scale=1.0).name == "reference"


def test_mixed_dtypes_are_refused() -> None:
    q = torch.randn(1, 2, 5, 8)
    with pytest.raises(KernelRefused, match="one dtype"):
        choose(softmax.KERNELS, "fused", q, q.double(), q, bias=None, scale=1.0)
    for kernel in (None, "fused", "reference"):
        with pytest.raises(InputError, match="one dtype"):
            softmax_attention(q, q.double(), q, kernel=kernel)
