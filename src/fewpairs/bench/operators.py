"""The methods that compute operator cases: kernels of fewpairs by name, and baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from fewpairs import ops
from fewpairs.bench.baselines import (
    copy_gradients,
    flash,
    flex,
    key_only_plain,
    keys_as_queries,
    plain,
    published,
    read_and_write,
    sdpa,
)
from fewpairs.bench.cases import OperatorCase, Pass
from fewpairs.bench.machine import free_memory
from fewpairs.bench.timing import Step
from fewpairs.numbers import size
from fewpairs.ops import dispatch, key_only, knn, kv, softmax

Computes = Literal["knn", "kv", "key_only", "softmax", "copy"]

BASELINES = ("sdpa", "flash", "copy", "copy_new", "dense", "published", "flex")
"""All baselines; ratios use the first one that is present."""


@dataclass(frozen=True)
class Method:
    """One method to compute cases: `make(case)` returns `run(*tensors, scale=...)` on the tensors of `inputs`."""

    name: str
    role: Literal["kernel", "baseline"]
    computes: Computes
    make: Callable[[OperatorCase], Callable[..., Tensor]]
    refuse: Callable[[OperatorCase, Pass], str | None] = lambda _case, _pass: None


def tables() -> dict[str, tuple[dispatch.Kernel, ...]]:
    """Return the kernels of each operator, in order of preference."""
    return {"knn": knn.KERNELS, "kv": kv.KERNELS, "key_only": key_only.KERNELS, "softmax": softmax.KERNELS}


def input_shapes(case: OperatorCase) -> list[tuple[int, ...]]:
    """Return the shapes of q, k, v `[b h n d]`; of k, v for KV; of k, v and saliency `[h d]` for key-only."""
    shape = (case.b, case.h, case.n, case.d)
    if case.op == "key_only":
        return [shape, shape, (case.h, case.d)]
    return [shape] * (2 if case.op == "kv" else 3)


def inputs(case: OperatorCase, *, learned: bool, seed: int = 0) -> list[Tensor]:
    """Draw normally distributed inputs for the case."""
    draw, dtype = torch.Generator(case.device).manual_seed(seed), getattr(torch, case.dtype)
    tensors = [torch.randn(each, generator=draw, device=case.device).to(dtype) for each in input_shapes(case)]
    return [tensor.requires_grad_(learned) for tensor in tensors]


def prepare(case: OperatorCase, method: Method, pass_: Pass) -> Step:
    """Return a function that runs a forward pass, or forward and backward, and discards the gradients."""
    learned = pass_ == "training"
    tensors = inputs(case, learned=learned)
    run = partial(method.make(case), *tensors, scale=case.d**-0.5)
    if not learned:
        return lambda: _forward(run)
    upstream = torch.randn_like(tensors[0], requires_grad=False)
    if method.computes == "copy":
        return lambda: copy_gradients(run, tensors, upstream, kept=method.name == "copy")
    return lambda: _training(run, tensors, upstream)


def _forward(run: Callable[[], Tensor]) -> None:
    with torch.no_grad():
        run()


def _training(run: Callable[[], Tensor], tensors: list[Tensor], upstream: Tensor) -> None:
    torch.autograd.grad(run(), tensors, upstream)


def bind_operator(case: OperatorCase, *, kernel: str | None) -> Callable[..., Tensor]:
    """Return the public operator with the named kernel; None lets the operator choose."""
    if case.op == "knn":
        topk = case.keys or case.n
        return lambda q, k, v, *, scale: ops.knn_attention(q, k, v, topk=topk, scale=scale, kernel=kernel)
    if case.op == "kv":
        return lambda k, v, *, scale: ops.kv_attention(k, v, scale=scale, kernel=kernel)
    if case.op == "key_only":
        return lambda k, v, w, *, scale: ops.key_only_attention(k, v, w, kernel=kernel)
    return lambda q, k, v, *, scale: ops.softmax_attention(q, k, v, scale=scale, kernel=kernel)


def explain_kernels(case: OperatorCase, pass_: Pass) -> list[tuple[str, str | None]]:
    """Return each kernel in order of preference with the reason of its refusal, or None if it can run."""
    place = {"dtype": getattr(torch, case.dtype), "device": case.device}
    tensors = [torch.zeros(each, **place).requires_grad_(pass_ == "training") for each in input_shapes(case)]
    scale = case.d**-0.5
    options: dict[str, dict[str, Any]] = {
        "knn": {"topk": case.keys, "bias": None, "scale": scale, "metric": "dot"},
        "kv": {"gain": None, "key_bias": None, "bias": None, "scale": scale},
        "key_only": {"mask": None, "gate": None},
        "softmax": {"bias": None, "scale": scale},
    }
    with torch.set_grad_enabled(pass_ == "training"):
        return [(each.name, each.refuse(*tensors, **options[case.op])) for each in tables()[case.op]]


def kernel(case: OperatorCase, name: str) -> Method:
    """Return the named kernel as a method; it refuses with its own reason."""

    def refuse(case: OperatorCase, pass_: Pass) -> str | None:
        return dict(explain_kernels(case, pass_))[name]

    return Method(name, "kernel", case.op, partial(bind_operator, kernel=name), refuse)  # type: ignore[arg-type]  # an operator's name


def chosen(case: OperatorCase, pass_: Pass) -> str:
    """Return the name of the kernel that the operator chooses by default."""
    return next(name for name, refusal in explain_kernels(case, pass_) if refusal is None)


def baselines(case: OperatorCase) -> list[Method]:
    """Return the baselines of the operator, which use only PyTorch's operators."""
    half_on_gpu = case.device == "cuda" and case.dtype == "bfloat16"
    fused = _method("flash", "softmax", flash) if half_on_gpu else _method("sdpa", "softmax", sdpa)
    if case.op == "knn":
        return [fused, Method("published", "baseline", "knn", _published, _no_memory)]
    if case.op == "key_only":
        copies = [
            _method("copy", "copy", partial(read_and_write, kept=True)),
            _method("copy_new", "copy", partial(read_and_write, kept=False)),
        ]
        return [*copies, _method("published", "key_only", key_only_plain)]
    methods = [fused, _method("published", "softmax", plain, _no_memory), _method("flex", "softmax", flex, _no_flex)]
    if case.op == "softmax":
        return methods
    return [_method(m.name, "kv", partial(keys_as_queries, m.make(case)), m.refuse) for m in methods]


def _method(
    name: str,
    computes: Computes,
    run: Callable[..., Tensor],
    refuse: Callable[[OperatorCase, Pass], str | None] = lambda _case, _pass: None,
) -> Method:
    """Create a baseline that uses the same function for all cases."""
    return Method(name, "baseline", computes, lambda _case: run, refuse)


def _published(case: OperatorCase) -> Callable[..., Tensor]:
    return partial(published, topk=case.keys or case.n)


def _no_flex(case: OperatorCase, pass_: Pass) -> str | None:
    if case.device == "cpu" and pass_ == "training":
        return "FlexAttention has no backward pass on a CPU"
    return None


SCORES_AT_ONCE = 5
"""The number of score-sized tensors that the published arithmetic holds at its peak (scores, mask, indices...)."""


def _no_memory(case: OperatorCase, _pass: Pass) -> str | None:
    """Refuse arithmetic that holds all scores if they do not fit into the free memory."""
    bytes_each = getattr(torch, case.dtype).itemsize
    needed, free = SCORES_AT_ONCE * bytes_each * case.b * case.h * case.n**2, free_memory(case.device)
    if free is not None and needed > free:
        return f"it holds {SCORES_AT_ONCE} times its scores, {size(needed)}, and {size(free)} are free"
    return None
