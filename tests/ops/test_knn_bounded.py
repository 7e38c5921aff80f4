"""k-NN attention in bounded memory: blocks, gradients, compilers, autocast, and what it refuses."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from second_derivatives import compare_second_derivatives
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from fewpairs.ops import knn_attention
from fewpairs.ops.dispatch import explain
from fewpairs.ops.knn import KERNELS, blocks, run_masked


def heads(*lengths: int, d: int = 4, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(2, 2, length, d, dtype=dtype, requires_grad=True) for length in lengths]


@pytest.fixture(params=[1, 20, 100, 250])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row at a time, some rows of a head, whole heads, whole images."""
    monkeypatch.setitem(blocks.SCORES_AT_ONCE, "cpu", request.param)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("shape", [None, (2, 2), (1, 2), (2, 1), (1, 1)])
def test_gradients_are_those_of_finite_differences(shape: tuple[int, int] | None, metric: Any) -> None:
    inputs = heads(5, 7, 7, d=3)
    if shape is not None:
        inputs.append(torch.randn(*shape, 5, 7, dtype=torch.float64, requires_grad=True))

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        return knn_attention(q, k, v, topk=3, bias=bias, scale=0.7, metric=metric, kernel="bounded")

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_change_no_choice_and_no_gradient(dtype: torch.dtype) -> None:
    """Whole numbers, whose scores are exact and full of ties."""
    q, k = torch.randint(-2, 3, (2, 2, 2, 25, 8)).to(dtype).unbind(0)
    v = torch.randint(-8, 9, (2, 2, 25, 8)).to(dtype)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    out = knn_attention(*inputs, topk=7, scale=0.25, kernel="bounded")
    whole = knn_attention(*(t.double() for t in inputs), topk=7, scale=0.25, kernel="reference")
    close = {"rtol": 2 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps * 8}
    torch.testing.assert_close(out.double(), whole, **close)
    ours, theirs = (torch.autograd.grad(y.double().square().sum(), inputs) for y in (out, whole))
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.double() - other.double()).norm() <= 8 * torch.finfo(dtype).eps * other.double().norm()


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor holds that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, Tensor):
                self.numel = max(self.numel, each.untyped_storage().nbytes() // each.element_size())
        return made


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_no_tensor_of_all_pairs_is_ever_made(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocks.SCORES_AT_ONCE, "cpu", 2048)
    q, k, v, grad = (torch.randn(1, 2, 128, 4) for _ in range(4))
    with Largest() as largest:
        out, *kept = blocks.forward(q, k, v, None, 60, 0.5, metric)
        gradients = blocks.backward(grad, q, k, v, None, out, *kept, 0.5, metric, False)
    assert out.shape == gradients[0].shape == q.shape
    assert 0 < largest.numel <= 2048 < 2 * 128 * 128
    with Largest() as largest:
        run_masked(q, k, v, topk=60, bias=None, scale=0.5, metric=metric)
    assert largest.numel >= 2 * 128 * 128


def test_three_numbers_a_row_are_kept_for_the_backward_pass() -> None:
    q, k, v = heads(64, 64, 64, dtype=torch.float32)
    saved: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.update({t.data_ptr(): t.numel()}) or t, lambda t: t):
        out = knn_attention(q, k, v, topk=0.5, kernel="bounded")
    for tensor in (q, k, v, out):
        saved.pop(tensor.data_ptr())
    assert sum(saved.values()) == 3 * 2 * 2 * 64


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
def test_registration_is_sound() -> None:
    q, k, v = heads(5, 7, 7)
    bias = torch.randn(1, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.fewpairs.knn_forward, (q, k, v, bias, 3, 0.5, "dot"))


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_a_second_derivative_is_the_references(metric: str) -> None:
    by_blocks, written_out = (
        partial(knn_attention, topk=3, metric=metric, kernel=kernel) for kernel in ("bounded", "reference")
    )
    compare_second_derivatives(by_blocks, written_out, *heads(5, 7, 7))
    assert torch.autograd.gradgradcheck(
        lambda *t: knn_attention(*t, topk=3, kernel="masked"), heads(5, 7, 7), fast_mode=True
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kernel", ["bounded", "masked"])
@pytest.mark.parametrize("option", ["plain", "bias", "mask", "all"])
def test_compiled_without_a_graph_break(kernel: str, option: str) -> None:
    torch.compiler.reset()
    q, k, v = heads(6, 9, 9, dtype=torch.float32)
    bias = {"bias": torch.randn(1, 2, 6, 9, requires_grad=True), "mask": torch.rand(2, 1, 6, 9) > 0.2}.get(option)
    topk, learned = 9 if option == "all" else 4, [q, k, v] + ([bias] if option == "bias" else [])

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return knn_attention(q, k, v, topk=topk, bias=bias, kernel=kernel).square()

    out, expected = torch.compile(run, fullgraph=True, backend="aot_eager")(q, k, v, bias), run(q, k, v, bias)
    torch.testing.assert_close(out, expected)
    ours, theirs = (torch.autograd.grad(y.sum(), learned) for y in (out, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("topk", [0.5, 8])
def test_one_compiled_graph_serves_every_length(topk: float) -> None:
    torch.compiler.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    run = torch.compile(lambda *t: knn_attention(*t, topk=topk), fullgraph=True, dynamic=True, backend=graphs)
    made = []
    for n, m in ((6, 9), (7, 11), (13, 12)):
        q, k, v = heads(n, m, m, dtype=torch.float32)
        torch.testing.assert_close(run(q, k, v), knn_attention(q, k, v, topk=topk))
        made.append(graphs.frame_count)
    assert made[0] == made[-1]


@pytest.mark.usefixtures("unchecked")
def test_a_compiled_graph_gives_zeros_for_an_empty_row() -> None:
    torch.compiler.reset()
    q, k, v = heads(6, 9, 9, dtype=torch.float32)
    mask = torch.ones(1, 1, 6, 9, dtype=torch.bool)
    mask[..., 2, :] = False
    out = torch.compile(lambda *t: knn_attention(*t, topk=4, bias=mask), fullgraph=True, backend="eager")(q, k, v)
    assert (out[:, :, 2] == 0).all()
    assert out.isfinite().all()


@pytest.mark.parametrize("kernel", ["bounded", "masked"])
def test_meta_tensors_have_shapes_and_gradients(kernel: str) -> None:
    q, k, v = (torch.randn(2, 2, n, 4, device="meta", requires_grad=True) for n in (5, 7, 7))
    bias = torch.zeros(1, 2, 5, 7, device="meta", requires_grad=True)
    out = knn_attention(q, k, v, topk=3, bias=bias, kernel=kernel)
    assert out.shape == (2, 2, 5, 4)
    out.sum().backward()
    assert [t.grad.shape for t in (q, k, v, bias)] == [t.shape for t in (q, k, v, bias)]


@pytest.mark.parametrize("kernel", ["bounded", "masked"])
def test_autocast_runs_in_its_dtype(kernel: str) -> None:
    q, k, v = heads(6, 9, 9, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = knn_attention(q, k.bfloat16(), v, topk=4, kernel=kernel)  # norms leave some roles in float32
    by_hand = knn_attention(*(t.bfloat16() for t in (q, k, v)), topk=4, kernel=kernel)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, by_hand)
    out.float().sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in (q, k, v))


def test_which_kernel_is_taken() -> None:
    q, k, v = heads(6, 9, 9)
    options = {"bias": None, "scale": 1.0, "metric": "dot"}
    lines = dict(explain(KERNELS, q, k, v, topk=4, **options))
    assert list(lines) == ["native", "triton", "bounded", "masked", "gathered", "reference"]
    assert lines["bounded"] == "chosen"
    assert lines["masked"].startswith("could run")


def test_an_exported_graph_holds_pytorchs_own_operators() -> None:
    class Attend(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return knn_attention(q, k, v, topk=4)

    q, k, v = (t.detach() for t in heads(6, 9, 9, dtype=torch.float32))
    program = torch.export.export(Attend(), (q, k, v))
    assert not [node for node in program.graph.nodes if "fewpairs" in str(node.target)]
    torch.testing.assert_close(program.module()(q, k, v), knn_attention(q, k, v, topk=4))
