"""Every kernel of every operator against its reference: the output and each gradient.

The yardstick is what the dtype itself can do: against float64, a kernel may be off by at most twice what the plain
PyTorch reference is off in the same dtype, plus one rounding of the largest value (where the reference happens to be
exact) and one of the log-sum-exp, from which a kernel that keeps no weights computes them again in its backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewpairs.ops import key_only, knn, kv, softmax
from fewpairs.ops.dispatch import Kernel

LENGTHS = (1, 17, 196, 197)
DTYPES = (torch.float32, torch.bfloat16)
DRAWS = 6  # a gradient that is one number (the gain's) is off by luck; its mean error over draws is not


def softmax_case(n: int, d: int, option: str) -> tuple[list[Tensor], dict[str, Any]]:
    m = n + 3 if option == "longer_keys" else n
    tensors = [torch.randn(2, 3, length, d, dtype=torch.float64) for length in (n, m, m)]
    options: dict[str, Any] = {"bias": None, "scale": d**-0.5}
    if option == "bias":
        options["bias"] = torch.randn(1, 3, n, m, dtype=torch.float64)
    if option == "mask":
        options["bias"] = torch.rand(2, 1, n, m) > 0.4
        options["bias"][..., 0, :] = False
    if option == "strided":
        tensors = [torch.randn(2, length, 3, d, dtype=torch.float64).transpose(1, 2) for length in (n, m, m)]
    return tensors, options


def kv_case(n: int, d: int, option: str) -> tuple[list[Tensor], dict[str, Any]]:
    tensors = [torch.randn(2, 3, n, d, dtype=torch.float64), torch.randn(2, 3, n, d, dtype=torch.float64)]
    options: dict[str, Any] = {"gain": None, "key_bias": None, "scale": d**-0.5}
    if option in ("gain", "position"):
        options["gain"] = torch.tensor(-0.7, dtype=torch.float64)
    if option == "position":
        options["key_bias"] = torch.randn(n, dtype=torch.float64)
    if option == "by_head":
        options |= {"gain": torch.randn(3, dtype=torch.float64), "key_bias": torch.randn(3, n, dtype=torch.float64)}
    if option == "wide_values":
        tensors[1] = torch.randn(2, 3, n, d + 5, dtype=torch.float64)
        options["key_bias"] = torch.randn(n, dtype=torch.float64)
    return tensors, options


def knn_case(n: int, d: int, option: str) -> tuple[list[Tensor], dict[str, Any]]:
    """Small whole numbers, whose scores every dtype holds exactly: all kernels see the same scores, and many ties."""
    m = n + 3 if option == "longer_keys" else n
    shapes = [(2, 3, length, d) for length in (n, m, m)]
    if option == "strided":
        shapes = [(2, length, 3, d) for length in (n, m, m)]
    tensors = [torch.randint(-2, 3, shape).double() for shape in shapes[:2]]
    tensors.append(torch.randn(shapes[2], dtype=torch.float64))
    if option == "strided":
        tensors = [t.transpose(1, 2) for t in tensors]
    metric = "euclidean" if option == "euclidean" else "dot"
    options: dict[str, Any] = {"topk": (m + 1) // 2, "bias": None, "scale": 0.125, "metric": metric}
    if option in ("bias", "euclidean"):
        options["bias"] = torch.randint(-8, 9, (1, 3, n, m)).double() / 8
    if option == "mask":
        options["bias"] = torch.rand(2, 1, n, m) > 0.6
        options["bias"][..., 0, :] = False
    if option == "one":
        options["topk"] = 1
    if option == "all":
        options["topk"] = m
    return tensors, options


def key_only_case(n: int, d: int, option: str) -> tuple[list[Tensor], dict[str, Any]]:
    shape = (2, n, 3, d) if option == "strided" else (2, 3, n, d)
    k, v = torch.randn(2, *shape, dtype=torch.float64)
    if option == "strided":
        k, v = k.transpose(1, 2), v.transpose(1, 2)
    options: dict[str, Any] = {"mask": None, "gate": None}
    saliency = {"logits": torch.randn(2, 3, n), "channels": torch.randn(2, 3, n, d)}.get(option, torch.randn(3, d))
    if option == "mask":
        options["mask"] = (torch.rand(2, 1, n) > 0.4).expand(2, 3, n).clone()
        options["mask"][0] = False
    if option == "gate":
        options["gate"] = torch.randn(2, 3, n, d, dtype=torch.float64)
    return [k, v, saliency.double()], options


def global_key_case(n: int, d: int, option: str) -> tuple[list[Tensor], dict[str, Any]]:
    tensors, options = key_only_case(n, d, option)
    return tensors, {**options, "scale": d**-0.5}


CASES: dict[str, tuple[tuple[Kernel, ...], Callable[..., Any], tuple[str, ...]]] = {
    "softmax": (softmax.KERNELS, softmax_case, ("plain", "bias", "mask", "longer_keys", "strided")),
    "knn": (
        tuple(kernel for kernel in knn.KERNELS if kernel.name != "gathered"),  # see tests/ops
        knn_case,
        ("plain", "bias", "mask", "longer_keys", "strided", "euclidean", "one", "all"),
    ),
    "key_only": (
        key_only.KERNELS,
        key_only_case,
        ("plain", "logits", "channels", "mask", "gate", "strided"),
    ),
    "global_key": (key_only.GLOBAL_KERNELS, global_key_case, ("plain", "logits", "mask", "gate", "strided")),
    "kv": (kv.KERNELS, kv_case, ("plain", "gain", "position", "by_head", "wide_values")),
}
GRID = [
    pytest.param(kernel, case, option, id=f"{op}-{kernel.name}-{option}")
    for op, (kernels, case, names) in CASES.items()
    for kernel in kernels[:-1]
    for option in names
]


def errors(got: list[Tensor], truth: list[Tensor]) -> Tensor:
    """The largest error of each result, `[results]`."""
    return torch.stack([(a - b).abs().max() for a, b in zip(got, truth, strict=True)])


def largest_logit(case: Callable[..., Any], tensors: list[Tensor], options: dict[str, Any]) -> Tensor:
    """A bound of every row's log-sum-exp, up to the log of the number of keys, `[]`."""
    if case in (key_only_case, global_key_case):
        keys, _, saliency = (t.double() for t in tensors)
        return ((keys * saliency.unsqueeze(1)).sum(-1) if saliency.ndim == 2 else saliency).abs().max()
    queries, keys = tensors[0], tensors[-2]
    logits = queries.double() @ keys.double().mT * options["scale"]
    if options.get("gain") is not None:
        logits = logits * options["gain"].double().reshape(-1, 1, 1)
    if options.get("key_bias") is not None:
        logits = logits + options["key_bias"].double().unsqueeze(-2)
    return logits.abs().max()


def results(kernel: Kernel, tensors: list[Tensor], options: dict[str, Any], dtype: torch.dtype) -> list[Tensor]:
    """Output, then the gradient of every floating input, in float64."""

    def leaf(value: Any) -> Any:
        learned = isinstance(value, Tensor) and value.is_floating_point()
        return value.detach().to(dtype).requires_grad_() if learned else value

    inputs, named = [leaf(t) for t in tensors], {key: leaf(value) for key, value in options.items()}
    output = kernel.run(*inputs, **named)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
    (output.double() * weights).sum().backward()
    leaves = [t for t in (*inputs, *named.values()) if isinstance(t, Tensor) and t.requires_grad]
    return [output.detach().double(), *(leaf.grad.double() for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("kernel", "case", "option"), GRID)
def test_kernel_is_as_exact_as_its_dtype(
    kernel: Kernel, case: Callable[..., Any], option: str, n: int, dtype: torch.dtype
) -> None:
    def rounded(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    reference = next(kernels for kernels, made, _ in CASES.values() if made is case)[-1]
    ours, peers, sizes, logits = [], [], [], []
    for _ in range(DRAWS):
        tensors, options = case(n, 24, option)
        tensors, options = [rounded(t) for t in tensors], {key: rounded(value) for key, value in options.items()}
        refusal = kernel.refuse(*tensors, **options)
        if refusal is not None:
            pytest.skip(refusal)
        truth = results(reference, tensors, options, torch.float64)
        ours.append(errors(results(kernel, tensors, options, dtype), truth))
        peers.append(errors(results(reference, tensors, options, dtype), truth))
        sizes.append(torch.stack([exact.abs().max() for exact in truth]))
        logits.append(largest_logit(case, tensors, options))
    mean_error, mean_peer, size = (torch.stack(rows).mean(0) for rows in (ours, peers, sizes))
    # A gradient that is zero by mathematics (one key has weight 1 whatever its score) is judged by the output's size.
    size = torch.where(size > 1e-9, size, size[0])
    # One rounding to the dtype, and the random walk of the float32 sum that a shared parameter's gradient is.
    summed = torch.tensor([max(1.0, truth[0].numel() / exact.numel()) for exact in truth])
    single = torch.finfo(torch.float32).eps
    floor = size * (torch.finfo(dtype).eps + single * summed.sqrt() + single / 2 * torch.stack(logits).mean())
    assert (mean_error <= 2 * mean_peer + floor).all(), (mean_error / (2 * mean_peer + floor)).tolist()


@pytest.mark.parametrize(("kernel", "case", "option"), GRID)
def test_kernel_has_the_same_shapes_on_the_meta_device(kernel: Kernel, case: Callable[..., Any], option: str) -> None:
    """Shapes on the meta device agree, so that costs can be traced without data."""
    tensors, options = case(17, 24, option)
    if kernel.refuse(*tensors, **options) is not None:
        pytest.skip("refused")
    real = kernel.run(*tensors, **options)
    meta = kernel.run(
        *[t.to("meta") for t in tensors],
        **{key: value.to("meta") if isinstance(value, Tensor) else value for key, value in options.items()},
    )
    assert meta.shape == real.shape
    assert meta.dtype == real.dtype
