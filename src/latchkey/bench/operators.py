"""What computes an operator's case: latchkey's kernels by name, and what they are held against."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from latchkey import ops
from latchkey.bench.cases import OperatorCase, Pass
from latchkey.bench.machine import available, size
from latchkey.bench.timing import Step
from latchkey.ops import dispatch, key_only, knn, kv, softmax
from latchkey.ops.key_only import reference

Computes = Literal["knn", "kv", "key_only", "softmax", "copy"]

BASELINES = ("sdpa", "flash", "copy", "copy_new", "dense", "published", "flex")
"""What kernels are held against, the first of those present being the one that ratios are about."""


@dataclass(frozen=True)
class Method:
    """One way to compute cases: `make(case)` gives `run(*tensors, scale=...)` on the tensors of `inputs`."""

    name: str
    role: Literal["kernel", "baseline"]
    computes: Computes
    make: Callable[[OperatorCase], Callable[..., Tensor]]
    refuse: Callable[[OperatorCase, Pass], str | None] = lambda _case, _pass: None


def tables() -> dict[str, tuple[dispatch.Kernel, ...]]:
    """The kernels of each operator, in order of preference."""
    return {"knn": knn.KERNELS, "kv": kv.KERNELS, "key_only": key_only.KERNELS, "softmax": softmax.KERNELS}


def inputs(case: OperatorCase, *, learned: bool, seed: int = 0) -> list[Tensor]:
    """Normal draws: q, k, v `[b h n d]`; of KV k, v; of key-only attention k, v and the saliency vectors `[h d]`."""
    generator = torch.Generator().manual_seed(seed)
    shape = (case.b, case.h, case.n, case.d)
    shapes: list[tuple[int, ...]] = [shape] * (2 if case.op in ("kv", "key_only") else 3)
    if case.op == "key_only":
        shapes.append((case.h, case.d))
    dtype = getattr(torch, case.dtype)
    return [torch.randn(each, generator=generator).to(case.device, dtype).requires_grad_(learned) for each in shapes]


def prepare(case: OperatorCase, method: Method, passed: Pass) -> Step:
    """A function that does one forward pass, or one forward and backward pass; gradients are let go."""
    learned = passed == "training"
    tensors = inputs(case, learned=learned)
    run = partial(method.make(case), *tensors, scale=case.d**-0.5)
    if not learned:
        return lambda: _forward(run)
    upstream = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1)).to(tensors[0])
    if method.computes == "copy":
        return lambda: _copy_gradients(run, tensors, upstream, kept=method.name == "copy")
    return lambda: _training(run, tensors, upstream)


def _forward(run: Callable[[], Tensor]) -> None:
    with torch.no_grad():
        run()


def _training(run: Callable[[], Tensor], tensors: list[Tensor], upstream: Tensor) -> None:
    torch.autograd.grad(run(), tensors, upstream)


def _copy_gradients(run: Callable[[], Tensor], tensors: list[Tensor], upstream: Tensor, *, kept: bool) -> None:
    """Forward: k and v in, one tensor out. Backward: k, v and the upstream gradient in, two tensors out."""
    k, v, _ = tensors
    with torch.no_grad():
        run()
        torch.add(k, upstream, out=_scratch(k, 1) if kept else None)
        (_scratch(v, 2) if kept else torch.empty_like(v)).copy_(v)


def call(case: OperatorCase, *, kernel: str | None) -> Callable[..., Tensor]:
    """The public operator with a kernel by its name, or with the one that it chooses."""
    if case.op == "knn":
        topk = case.keys or case.n
        return lambda q, k, v, *, scale: ops.knn_attention(q, k, v, topk=topk, scale=scale, kernel=kernel)
    if case.op == "kv":
        return lambda k, v, *, scale: ops.kv_attention(k, v, scale=scale, kernel=kernel)
    if case.op == "key_only":
        return lambda k, v, w, *, scale: ops.key_only_attention(k, v, w, kernel=kernel)
    return lambda q, k, v, *, scale: ops.softmax_attention(q, k, v, scale=scale, kernel=kernel)


def explained(case: OperatorCase, passed: Pass) -> list[tuple[str, str | None]]:
    """Each kernel of the operator with the sentence of its refusal, or None where it can run, in order."""
    tensors = inputs(case, learned=passed == "training")
    scale = case.d**-0.5
    options: dict[str, dict[str, Any]] = {
        "knn": {"topk": case.keys, "bias": None, "scale": scale, "metric": "dot"},
        "kv": {"gain": None, "key_bias": None, "bias": None, "scale": scale},
        "key_only": {"mask": None, "gate": None},
        "softmax": {"bias": None, "scale": scale},
    }
    with torch.set_grad_enabled(passed == "training"):
        return [(each.name, each.refuse(*tensors, **options[case.op])) for each in tables()[case.op]]


def kernel(case: OperatorCase, name: str) -> Method:
    """A kernel as a contender; it refuses in its own sentence."""

    def refuse(case: OperatorCase, passed: Pass) -> str | None:
        return dict(explained(case, passed))[name]

    return Method(name, "kernel", case.op, partial(call, kernel=name), refuse)  # type: ignore[arg-type]  # an operator's name


def chosen(case: OperatorCase, passed: Pass) -> str:
    """The kernel that the operator takes when none is named."""
    return next(name for name, refusal in explained(case, passed) if refusal is None)


def baselines(case: OperatorCase) -> list[Method]:
    """What the operator is held against, by PyTorch's operators alone."""
    half_on_gpu = case.device == "cuda" and case.dtype == "bfloat16"
    fused = _method("flash", "softmax", flash) if half_on_gpu else _method("sdpa", "softmax", sdpa)
    if case.op == "knn":
        return [fused, Method("published", "baseline", "knn", _published, _no_room)]
    if case.op == "key_only":
        copies = [
            _method("copy", "copy", partial(read_and_write, kept=True)),
            _method("copy_new", "copy", partial(read_and_write, kept=False)),
        ]
        return [*copies, _method("published", "key_only", key_only_plain)]
    methods = [fused, _method("published", "softmax", plain, _no_room), _method("flex", "softmax", flex, _no_flex)]
    if case.op == "softmax":
        return methods
    return [_method(m.name, "kv", partial(_keys_twice, m.make(case)), m.refuse) for m in methods]


def _method(
    name: str,
    computes: Computes,
    run: Callable[..., Tensor],
    refuse: Callable[[OperatorCase, Pass], str | None] = lambda _case, _pass: None,
) -> Method:
    """A baseline that is the same function whatever the case."""
    return Method(name, "baseline", computes, lambda _case: run, refuse)


def _published(case: OperatorCase) -> Callable[..., Tensor]:
    return partial(published, topk=case.keys or case.n)


def _keys_twice(run: Callable[..., Tensor], k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    return run(k, k, v, scale=scale)


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """PyTorch's fused attention, over all keys, by whichever of its ways PyTorch takes."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def flash(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """PyTorch's flash attention and nothing else."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, scale=scale)


def plain(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Softmax attention as models write it: all scores, softmax, product."""
    return ((q * scale) @ k.mT).softmax(dim=-1) @ v


def published(q: Tensor, k: Tensor, v: Tensor, topk: int, *, scale: float) -> Tensor:
    """The released KVT code's arithmetic, from its description: int64 indices, a float mask, a tensor of -inf."""
    scores = (q @ k.transpose(-2, -1)) * scale
    mask = published_choice(scores, topk)
    scores = torch.where(mask > 0, scores, torch.full_like(scores, -math.inf))
    return torch.softmax(scores, dim=-1) @ v


def published_choice(scores: Tensor, topk: int) -> Tensor:
    """1 where a key is kept, `[b h n m]`, in the scores' dtype; ties as `torch.topk` settles them."""
    mask = torch.zeros_like(scores)
    return mask.scatter_(-1, torch.topk(scores, topk, dim=-1, largest=True).indices, 1.0)


def key_only_plain(k: Tensor, v: Tensor, saliency: Tensor, *, scale: float) -> Tensor:
    """Key-only attention by PyTorch's operators one by one; it has no scale."""
    return reference.key_only_attention(k, v, saliency)


def read_and_write(k: Tensor, v: Tensor, saliency: Tensor, *, scale: float, kept: bool) -> Tensor:
    """Reads what key-only attention reads and writes what it writes, once: into memory kept, or into new memory."""
    return torch.add(k, v, out=_scratch(k, 0) if kept else None)


_KEPT: dict[tuple[Any, ...], Tensor] = {}


def _scratch(like: Tensor, number: int) -> Tensor:
    """Memory kept from run to run; that of the last shape alone."""
    key = (number, like.shape, like.dtype, like.device)
    if key not in _KEPT:
        for other in [each for each in _KEPT if each[0] == number]:
            del _KEPT[other]
        _KEPT[key] = torch.empty_like(like, requires_grad=False)
    return _KEPT[key]


def flex(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """FlexAttention, compiled as it is meant to be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _compiled_flex()(q, k, v, scale=scale)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _no_flex(case: OperatorCase, passed: Pass) -> str | None:
    if case.device == "cpu" and passed == "training":
        return "FlexAttention has no backward pass on a CPU"
    return None


SCORES_AT_ONCE = 5
"""How many tensors of the scores' size the published arithmetic holds at its peak: scores, mask, indices, -inf..."""


def _no_room(case: OperatorCase, _passed: Pass) -> str | None:
    """Whether arithmetic that holds all scores fits into the memory that is free."""
    bytes_each = getattr(torch, case.dtype).itemsize
    needed, free = SCORES_AT_ONCE * bytes_each * case.b * case.h * case.n**2, available(case.device)
    if free is not None and needed > free:
        return f"it holds {SCORES_AT_ONCE} times its scores, {size(needed)}, and {size(free)} are free"
    return None
