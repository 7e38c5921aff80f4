"""k-NN attention on a CUDA device: the same choice as on a CPU, and the same bound on memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewpairs.ops import knn_attention
from fewpairs.ops.knn import kept

pytestmark = pytest.mark.gpu


def whole_numbers(n: int, m: int, dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys and values whose scores every dtype holds exactly, with many ties."""
    q, k = (torch.randint(-2, 3, (2, 3, length, 16)).to(dtype) for length in (n, m))
    return [q, k, torch.randn(2, 3, m, 16).to(dtype)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kernel", ["bounded", "masked", "gathered"])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_ties_are_settled_as_on_a_cpu(metric: str, kernel: str, dtype: torch.dtype) -> None:
    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        inputs = [t.to(device).requires_grad_() for t in whole_numbers(50, 70, dtype)]
        out = knn_attention(*inputs, topk=30, scale=0.125, metric=metric, kernel=kernel)
        out.float().square().sum().backward()
        results.append([out.detach().cpu().double(), *(t.grad.cpu().double() for t in inputs)])
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).norm() <= 8 * torch.finfo(dtype).eps * theirs.norm()


def test_a_constant_row_keeps_its_first_keys() -> None:
    for m, topk in ((197, 100), (5000, 7), (5000, 4999)):
        stays = kept(torch.zeros(3, 2, 4, m, device="cuda"), topk)
        assert stays[..., :topk].all()
        assert not stays[..., topk:].any()


def test_sixteen_thousand_tokens_stay_within_their_memory() -> None:
    inputs = [torch.randn(1, 6, 16384, 64, device="cuda", requires_grad=True) for _ in range(3)]
    torch.cuda.reset_peak_memory_stats()
    out = knn_attention(*inputs, topk=256)
    assert torch.cuda.max_memory_allocated() < 1.5 * 2**30
    out.sum().backward()
    assert torch.cuda.max_memory_allocated() < 3 * 2**30


@pytest.mark.usefixtures("unchecked")
def test_compiled_without_a_graph_break() -> None:
    torch.compiler.reset()
    inputs = [t.cuda() for t in whole_numbers(50, 70, torch.float32)]
    run = torch.compile(lambda *t: knn_attention(*t, topk=0.5), fullgraph=True)
    torch.testing.assert_close(run(*inputs), knn_attention(*inputs, topk=0.5))
