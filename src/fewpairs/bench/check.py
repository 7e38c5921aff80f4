"""Nothing is reported of what computes something else: every contender against float64, output and each gradient.

The yardstick is the contract tests': the largest error may be twice that of plain PyTorch in the same dtype, plus one
rounding of the largest value, of a parameter's sum in float32, and of the log-sum-exp. Large cases are reduced to
at most 2 images, 2 heads and 16.8 million pairs.

k-NN attention is compared on one selection of keys, in two draws. Whole numbers have scores that every dtype holds
exactly, with many ties, of which the lower index is kept. Normal draws (float32) have scores that differ; a row whose
last kept and first dropped score lie nearer than rounding can tell is left out, its upstream gradient zero. The
published arithmetic settles ties as `torch.topk` does: it is compared on its own choice, which must be one of the best
up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewpairs.bench.baselines import published_choice
from fewpairs.bench.cases import OperatorCase
from fewpairs.bench.operators import Method, inputs
from fewpairs.errors import FewpairsError
from fewpairs.ops.key_only import reference as key_only_reference
from fewpairs.ops.knn.reference import topk_indices
from fewpairs.ops.softmax import reference as softmax_reference

PAIRS = 2**24
"""Of queries and keys, over all images and heads, that a check computes in float64."""
MIN_ROWS = 0.5
"""Share of rows that must be left to compare."""


class CheckFailed(FewpairsError):  # noqa: N818  (the name reads as what happened)
    """A contender does not compute what it should, so nothing of its case is reported (exit status 1)."""


@dataclass(frozen=True)
class CheckResult:
    """How far a contender was from what it may: the largest share of the allowance that any result used."""

    share: float
    rows: float = 1.0
    """Share of the query rows that could be compared."""


@dataclass(frozen=True)
class _Draw:
    tensors: list[Tensor]
    scale: float
    keep: Tensor | None
    """The keys of each query, `[b h n m]` bool; None: all."""
    counted: Tensor
    """The rows that are compared, `[b h n]` bool."""


def check(case: OperatorCase, method: Method, *, training: bool) -> CheckResult | None:
    """Compares `method` at the case's shape, reduced; None for what computes nothing that could be wrong.

    Raises:
        CheckFailed: it is further off than it may be; the text says what and by how much.
    """
    if method.computes == "copy":
        return None
    small = reduced(case)
    found = [_compare(small, method, draw, training=training) for draw in _draws(small, method)]
    return CheckResult(max(one.share for one in found), min(one.rows for one in found))


def reduced(case: OperatorCase) -> OperatorCase:
    """The same with at most 2 images and 2 heads, fewer or shorter where the pairs would still be too many."""
    for b, h in ((2, 2), (1, 2), (1, 1)):
        small = replace(case, b=min(b, case.b), h=min(h, case.h))
        if case.op == "key_only" or small.b * small.h * case.n**2 <= PAIRS:
            return small
    return replace(small, n=math.isqrt(PAIRS), topk=_same_share(case))


def _same_share(case: OperatorCase) -> int | float | None:
    if not isinstance(case.topk, int):
        return case.topk
    return max(1, round(case.topk * math.isqrt(PAIRS) / case.n))


def _draws(case: OperatorCase, method: Method) -> Iterable[_Draw]:
    tensors, scale = inputs(case, learned=False), case.d**-0.5
    everything = torch.ones(case.b, case.h, case.n, dtype=torch.bool, device=case.device)
    if method.computes != "knn":
        yield _Draw(tensors, scale, None, everything)
        return
    keys = case.keys or case.n
    if method.role == "baseline":
        with torch.no_grad():
            keep = published_choice((tensors[0] @ tensors[1].mT) * scale, keys) > 0
        _check_choice(keep, _exact_scores(tensors, scale), keys, tensors[0].dtype)
        yield _Draw(tensors, scale, keep, everything)
        return
    whole, power = _whole_numbers(case), 2.0 ** round(math.log2(scale))
    yield _Draw(whole, power, _keep(_exact_scores(whole, power), keys), everything)
    if case.dtype == "float32":
        scores = _exact_scores(tensors, scale)
        yield _Draw(tensors, scale, _keep(scores, keys), _clear(scores, tensors, scale, keys))


def _whole_numbers(case: OperatorCase) -> list[Tensor]:
    """Queries and keys from -2 to 2, whose scores every dtype holds exactly; normal values."""
    values = inputs(case, learned=False)[2]
    draw = torch.Generator().manual_seed(2)
    q, k = (torch.randint(-2, 3, values.shape, generator=draw).to(values) for _ in range(2))
    return [q, k, values]


def _exact_scores(tensors: list[Tensor], scale: float) -> Tensor:
    return tensors[0].double() @ tensors[1].double().mT * scale


def _keep(scores: Tensor, topk: int) -> Tensor:
    chosen = topk_indices(scores, topk)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)


def _clear(scores: Tensor, tensors: list[Tensor], scale: float, topk: int) -> Tensor:
    """Rows whose last kept score lies further above the first dropped than float32 rounds a product of that length."""
    q, k = (t.double() for t in tensors[:2])
    d, m = q.shape[-1], k.shape[-2]
    if topk >= m:
        return torch.ones_like(scores[..., 0], dtype=torch.bool)
    last = scores.topk(topk + 1, dim=-1, sorted=True).values[..., topk - 1 :]
    longest = k.norm(dim=-1).amax(dim=-1, keepdim=True)
    rounding = torch.finfo(torch.float32).eps * d**0.5 * scale * q.norm(dim=-1) * longest
    return last[..., 0] - last[..., 1] > rounding


def _check_choice(keep: Tensor, scores: Tensor, topk: int, dtype: torch.dtype) -> None:
    """The published arithmetic keeps `topk` keys in each row, none below the k-th best but for rounding."""
    kth = scores.topk(topk, dim=-1).values[..., -1:]
    worst = scores.masked_fill(~keep, torch.inf).amin(dim=-1, keepdim=True)
    slack = 8 * torch.finfo(dtype).eps * scores.abs().amax()
    if not (keep.sum(-1) == topk).all() or not (worst >= kth - slack).all():
        raise CheckFailed("the published arithmetic keeps other keys than the best")


def _compare(case: OperatorCase, method: Method, draw: _Draw, *, training: bool) -> CheckResult:
    rows = draw.counted.double().mean().item()
    if rows < MIN_ROWS:
        raise CheckFailed(f"{method.name} at {case.name}: only {rows:.0%} of the rows could be compared")
    upstream = torch.randn(draw.tensors[0].shape, generator=torch.Generator().manual_seed(3)).to(draw.tensors[0])
    upstream = upstream * draw.counted.unsqueeze(-1)
    own = getattr(torch, case.dtype)

    def results(run: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.detach().to(dtype).requires_grad_(training) for t in draw.tensors]
        with torch.set_grad_enabled(training):
            out = run(*leaves, scale=draw.scale)
        gradients = torch.autograd.grad(out, leaves, upstream.to(dtype)) if training else ()
        return [(out.detach() * draw.counted.unsqueeze(-1)).double(), *(each.double() for each in gradients)]

    plain = _reference(method, draw.keep)
    truth, ours, peers = results(plain, torch.float64), results(method.make(case), own), results(plain, own)
    largest = truth[0].abs().max()
    names = ["output", *(f"gradient of {name}" for name in _letters(method))]
    share = 0.0
    for what, exact, mine, peer in zip(names, truth, ours, peers, strict=False):
        allowed = 2 * (peer - exact).abs().max() + _rounding(exact, truth[0], largest, _logit(draw, method), own)
        error = (mine - exact).abs().max()
        if not (error <= allowed):
            raise CheckFailed(
                f"{method.name} does not compute {case.name}: its {what} is off by {error:.2e} from float64, where "
                f"{allowed:.2e} is allowed (plain PyTorch in {case.dtype} is off by {(peer - exact).abs().max():.2e})"
            )
        share = max(share, (error / allowed).item())
    return CheckResult(share, rows)


def _reference(method: Method, keep: Tensor | None) -> Callable[..., Tensor]:
    """The specification, restricted to the keys that are kept."""
    if method.computes == "key_only":
        return lambda k, v, w, *, scale: key_only_reference.key_only_attention(k, v, w)
    if method.computes == "kv":
        return lambda k, v, *, scale: softmax_reference.softmax_attention(k, k, v, bias=None, scale=scale)
    return lambda q, k, v, *, scale: softmax_reference.softmax_attention(q, k, v, bias=keep, scale=scale)


def _letters(method: Method) -> tuple[str, ...]:
    return {"kv": ("k", "v"), "key_only": ("k", "v", "saliency")}.get(method.computes, ("q", "k", "v"))


def _logit(draw: _Draw, method: Method) -> float:
    """The largest logit, a bound of the log-sum-exp up to the log of the number of keys."""
    first, second = (t.double() for t in draw.tensors[:2])
    if method.computes == "key_only":
        return float((first * draw.tensors[2].double().unsqueeze(1)).sum(-1).abs().max())
    keys = first if method.computes == "kv" else second
    return float(first.norm(dim=-1).amax() * keys.norm(dim=-1).amax() * draw.scale)


def _rounding(exact: Tensor, output: Tensor, largest: Tensor, logit: float, dtype: torch.dtype) -> Tensor:
    """One rounding to the dtype, the random walk of a parameter's sum, and the log-sum-exp's rounding."""
    size = exact.abs().max()
    size = size if size > 1e-9 else largest  # a gradient that is zero by mathematics
    single = torch.finfo(torch.float32).eps
    summed = max(1.0, output.numel() / exact.numel())
    return size * (torch.finfo(dtype).eps + single * summed**0.5 + single / 2 * logit)
