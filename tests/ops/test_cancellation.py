"""Gradients where the softmax is saturated: what cancels leaves no more error than it leaves plain PyTorch.

The right values are the written-out references in float64, the yardstick is what their autograd is off in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewpairs.ops import key_only, knn, kv
from fewpairs.ops.dispatch import Kernel

DRAWS = 4


def gradients(
    run: Callable[..., Tensor], tensors: dict[str, Tensor], options: dict[str, Any], dtype: torch.dtype
) -> dict[str, Tensor]:
    """The gradient of every tensor by name, in float64."""
    leaves = {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in tensors.items()}
    out = run(**leaves, **options)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    found = torch.autograd.grad(out, list(leaves.values()), upstream.to(dtype), materialize_grads=True)
    return {name: grad.double() for name, grad in zip(leaves, found, strict=True)}


def named(kernels: tuple[Kernel, ...], name: str, **arguments: Any) -> Kernel:
    kernel = next(kernel for kernel in kernels if kernel.name == name)
    reason = kernel.refuse(**arguments)
    if reason is not None:
        pytest.skip(reason)
    return kernel


def assert_twice_as_far_off_at_most(
    kernels: tuple[Kernel, ...], name: str, cases: list[tuple[dict[str, Tensor], dict[str, Any]]]
) -> None:
    """Mean over the draws of the largest error of each gradient; four roundings of the values' gradient are allowed."""
    far: dict[str, Tensor] = {}
    allowed: dict[str, Tensor] = {}
    for tensors, options in cases:
        kernel = named(kernels, name, **tensors, **options)
        truth = gradients(kernels[-1].run, tensors, options, torch.float64)
        plain = gradients(kernels[-1].run, tensors, options, torch.float32)
        ours = gradients(kernel.run, tensors, options, torch.float32)
        rounding = 4 * torch.finfo(torch.float32).eps * truth["v"].abs().max()
        for key, exact in truth.items():
            far[key] = far.get(key, torch.zeros(())) + (ours[key] - exact).abs().max()
            allowed[key] = allowed.get(key, torch.zeros(())) + 2 * (plain[key] - exact).abs().max() + rounding
    assert all(far[key] <= allowed[key] for key in far), {key: (far[key].item(), allowed[key].item()) for key in far}


@pytest.mark.parametrize("size", [10, 100, 1000])
@pytest.mark.parametrize(("n", "d"), [(17, 24), (197, 64), (1000, 24)])
@pytest.mark.parametrize("form", ["logits", "channels"])
@pytest.mark.parametrize("kernel", ["native", "streaming"])
def test_key_only(kernel: str, form: str, n: int, d: int, size: float) -> None:
    cases = []
    for _ in range(DRAWS):
        k, v, gate = torch.randn(3, 1, 2, n, d)
        saliency = size * torch.randn((1, 2, n, d) if form == "channels" else (1, 2, n))
        cases.append(({"k": k, "v": v, "saliency": saliency, "gate": gate}, {"mask": None}))
    assert_twice_as_far_off_at_most(key_only.KERNELS, kernel, cases)


@pytest.mark.parametrize("size", [1, 10, 100])
@pytest.mark.parametrize(("n", "d"), [(17, 64), (197, 33), (300, 24)])
@pytest.mark.parametrize("terms", ["", "gain", "gain key_bias", "gain key_bias bias"])
def test_key_value(terms: str, n: int, d: int, size: float) -> None:
    cases = []
    for _ in range(DRAWS):
        k, v = torch.randn(2, 1, 2, n, d)
        shapes = {"gain": (2,), "key_bias": (n,), "bias": (1, 2, n, n)}
        learned = {name: size * torch.randn(shapes[name]) for name in terms.split()}
        options = dict.fromkeys(set(shapes) - set(learned)) | {"scale": d**-0.5}
        cases.append(({"k": k if learned else size**0.5 * k, "v": v, **learned}, options))
    assert_twice_as_far_off_at_most(kv.KERNELS, "native", cases)


@pytest.mark.parametrize("options", [{"topk": 1}, {"topk": 3, "one": True}], ids=["topk", "mask"])
@pytest.mark.parametrize("d", [8, 16, 24, 33, 64])
@pytest.mark.parametrize("kernel", ["native", "bounded", "masked", "gathered"])
def test_one_key_has_a_constant_weight(kernel: str, d: int, options: dict[str, Any]) -> None:
    q, k, v = torch.randn(3, 2, 3, 70, d)
    bias = torch.randn(1, 3, 70, 70)
    if "one" in options:
        if kernel == "gathered":
            pytest.skip("it mixes keys that the mask leaves out with weight 0")
        bias = torch.where(torch.eye(70).roll(3, 0) > 0, bias, -torch.inf)
    given = {"topk": options["topk"], "scale": d**-0.5, "metric": "dot"}
    chosen = named(knn.KERNELS, kernel, q=q, k=k, v=v, bias=bias, **given)
    found = gradients(chosen.run, {"q": 20 * q, "k": k, "v": v, "bias": bias}, given, torch.float32)
    assert not any(found[name].any() for name in ("q", "k", "bias"))
    assert found["v"].any()


@pytest.mark.parametrize("size", [1, 10, 100])
@pytest.mark.parametrize("kernel", ["native", "bounded", "masked"])
def test_some_nearest_keys(kernel: str, size: float) -> None:
    options = {"topk": 2, "scale": 8**-0.5, "metric": "dot"}
    draws = [torch.randn(3, 1, 2, 17, 8) for _ in range(DRAWS)]
    cases = [({"q": size * q, "k": k, "v": v, "bias": size * torch.randn(1, 2, 17, 17)}, options) for q, k, v in draws]
    assert_twice_as_far_off_at_most(knn.KERNELS, kernel, cases)
