"""Correctness check of every contender: output and each gradient are compared with float64 before timing.

The tolerance is that of the contract tests: twice the largest error of plain PyTorch in the same dtype, plus one
rounding of the largest value, of a parameter's sum in float32, and of the log-sum-exp. Large cases are reduced to
at most 2 images, 2 heads and 16.8 million pairs.

k-NN attention is compared for one selection of keys, with two kinds of inputs. Scores of whole numbers are exact in
every dtype and have many ties, of which the lower index is kept. Scores of normal inputs (float32) differ; rows whose
last kept and first dropped score are equal up to rounding are skipped by a zero upstream gradient. The published
arithmetic decides ties as `torch.topk` does, so it is compared for its own selection, which must be optimal up to
rounding.
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
"""The maximum number of query-key pairs, over all images and heads, that a check computes in float64."""
MIN_ROWS = 0.5
"""The minimum fraction of rows that must remain for the comparison."""


class CheckFailed(FewpairsError):  # noqa: N818  (the name reads as what happened)
    """A contender computes a wrong result, so its case is not reported (exit status 1)."""


@dataclass(frozen=True)
class CheckResult:
    """The result of a check: `share` is the largest error of any result as a fraction of its tolerance."""

    share: float
    rows: float = 1.0
    """The fraction of query rows that were compared."""


@dataclass(frozen=True)
class _Draw:
    tensors: list[Tensor]
    scale: float
    keep: Tensor | None
    """The keys that each query keeps, `[b h n m]` bool; None keeps all."""
    counted: Tensor
    """The rows to compare, `[b h n]` bool."""


def check(case: OperatorCase, method: Method, *, training: bool) -> CheckResult | None:
    """Check `method` at the reduced shape of the case; return None for copies, which have no reference.

    Raises:
        CheckFailed: an error exceeds its tolerance; the message says which and by how much.
    """
    if method.computes == "copy":
        return None
    small = reduced(case)
    found = [_compare(small, method, draw, training=training) for draw in _draws(small, method)]
    return CheckResult(max(one.share for one in found), min(one.rows for one in found))


def reduced(case: OperatorCase) -> OperatorCase:
    """Reduce the case to at most 2 images and 2 heads, and further until its pairs are at most `PAIRS`."""
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
    """Draw integer queries and keys from -2 to 2, whose scores are exact in every dtype, and normal values."""
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
    """Find rows in which last kept and first dropped score differ by more than the rounding error of float32."""
    q, k = (t.double() for t in tensors[:2])
    d, m = q.shape[-1], k.shape[-2]
    if topk >= m:
        return torch.ones_like(scores[..., 0], dtype=torch.bool)
    last = scores.topk(topk + 1, dim=-1, sorted=True).values[..., topk - 1 :]
    longest = k.norm(dim=-1).amax(dim=-1, keepdim=True)
    rounding = torch.finfo(torch.float32).eps * d**0.5 * scale * q.norm(dim=-1) * longest
    return last[..., 0] - last[..., 1] > rounding


def _check_choice(keep: Tensor, scores: Tensor, topk: int, dtype: torch.dtype) -> None:
    """Check that the published arithmetic keeps `topk` keys per row, none below the k-th best up to rounding."""
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
    """Return the reference operator, restricted to the kept keys."""
    if method.computes == "key_only":
        return lambda k, v, w, *, scale: key_only_reference.key_only_attention(k, v, w)
    if method.computes == "kv":
        return lambda k, v, *, scale: softmax_reference.softmax_attention(k, k, v, bias=None, scale=scale)
    return lambda q, k, v, *, scale: softmax_reference.softmax_attention(q, k, v, bias=keep, scale=scale)


def _letters(method: Method) -> tuple[str, ...]:
    return {"kv": ("k", "v"), "key_only": ("k", "v", "saliency")}.get(method.computes, ("q", "k", "v"))


def _logit(draw: _Draw, method: Method) -> float:
    """Bound the largest logit, and so the log-sum-exp up to the log of the number of keys."""
    first, second = (t.double() for t in draw.tensors[:2])
    if method.computes == "key_only":
        return float((first * draw.tensors[2].double().unsqueeze(1)).sum(-1).abs().max())
    keys = first if method.computes == "kv" else second
    return float(first.norm(dim=-1).amax() * keys.norm(dim=-1).amax() * draw.scale)


def _rounding(exact: Tensor, output: Tensor, largest: Tensor, logit: float, dtype: torch.dtype) -> Tensor:
    """Add one rounding to the dtype, the rounding of a parameter's sum, and that of the log-sum-exp."""
    size = exact.abs().max()
    size = size if size > 1e-9 else largest  # this gradient is exactly zero
    single = torch.finfo(torch.float32).eps
    summed = max(1.0, output.numel() / exact.numel())
    return size * (torch.finfo(dtype).eps + single * summed**0.5 + single / 2 * logit)
