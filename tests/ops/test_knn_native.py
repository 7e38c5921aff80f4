"""k-NN attention in C++: the keys it keeps, its gradients, its two ways to remember them, equal bits by any threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from second_derivatives import compare_second_derivatives
from torch import Tensor

from fewpairs.ops import knn_attention
from fewpairs.ops.knn import kept, native, reference

pytestmark = pytest.mark.skipif(bool(native.LIBRARY.unavailable()), reason=str(native.LIBRARY.unavailable()))


@pytest.fixture(params=["lists", "cut"])
def remembered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the forward pass leaves the backward one: lists always, or the cut always."""
    monkeypatch.setattr(native, "LISTS_AT_LEAST", 2**40 if request.param == "lists" else 0)
    monkeypatch.setattr(native, "LISTS_AT_MOST", 0.0)
    return str(request.param)


@pytest.fixture(autouse=True)
def _as_many_threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def whole_numbers(n: int, m: int, d: int, *, b: int = 2, h: int = 2) -> list[Tensor]:
    """Queries and keys whose scores are exact, so that there are ties and no rounding decides; values of any kind."""
    q, k = (torch.randint(-2, 3, (b, h, length, d)).float() for length in (n, m))
    return [q, k, torch.randn(b, h, m, d)]


def results(run: Callable[..., Tensor], tensors: list[Tensor], bias: Tensor | None, **options: Any) -> list[Tensor]:
    """Output, then the gradients of q, k, v and a floating bias."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    learned = bias is not None and bias.is_floating_point()
    bias = bias.detach().requires_grad_() if bias is not None and learned else bias
    out = run(*leaves, bias=bias, **options)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
    wanted = [*leaves, bias] if learned else leaves
    return [out.detach(), *torch.autograd.grad((out.double() * weights).sum(), wanted)]


def as_exact(tensors: list[Tensor], bias: Tensor | None, topk: int) -> None:
    """Output and gradients are as near to float64 as plain PyTorch in float32 is, times two, and one rounding."""
    options = {"topk": topk, "scale": 0.125, "metric": "dot"}
    floating = bias is not None and bias.is_floating_point()
    wide = results(reference.masked, [t.double() for t in tensors], bias.double() if floating else bias, **options)
    plain = results(reference.masked, tensors, bias, **options)
    ours = results(native.run_native, tensors, bias, **options)
    for got, peer, truth in zip(ours, plain, wide, strict=True):
        size = max(truth.abs().max().item(), wide[0].abs().max().item() * 1e-3)
        allowed = 2 * (peer - truth).abs().max().item() + 4e-6 * size
        assert (got - truth).abs().max().item() <= allowed


@pytest.mark.parametrize("topk", ["1", "7", "half", "all"])
@pytest.mark.parametrize("n", [1, 17, 49, 196, 197, 1025])
@pytest.mark.parametrize("option", ["plain", "bias", "mask"])
def test_lengths_and_numbers_of_keys(n: int, topk: str, option: str, remembered: str) -> None:
    count = min(n, {"1": 1, "7": 7, "half": max(1, n // 2), "all": n}[topk])
    rows = min(n, 130)  # a thousand queries would only repeat themselves
    bias: Tensor | None = None
    if option == "bias":
        bias = torch.randint(-8, 9, (1, 2, rows, n)) / 8
    if option == "mask":
        bias = torch.rand(2, 1, rows, n) > 0.6
        bias[..., 0] = True
    as_exact(whole_numbers(rows, n, 32), bias, count)


@pytest.mark.parametrize("d", [1, 5, 16, 32, 48, 64, 96, 128, 160])
def test_widths_of_heads(d: int, remembered: str) -> None:
    as_exact(whole_numbers(33, 70, d), None, 20)


@pytest.mark.parametrize("e", [1, 24, 80])
def test_values_of_another_width(e: int, remembered: str) -> None:
    q, k, _ = whole_numbers(33, 70, 16)
    as_exact([q, k, torch.randn(2, 2, 70, e)], None, 20)


@pytest.mark.parametrize("shape", [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_a_bias_that_images_or_heads_share(shape: tuple[int, int], remembered: str) -> None:
    bias = torch.randint(-8, 9, (*shape, 33, 70)) / 8
    as_exact(whole_numbers(33, 70, 16), bias, 20)


def test_a_bias_that_is_a_view(remembered: str) -> None:
    """As relative positions are: permuted, and the rows of a larger table."""
    bias = (torch.randint(-8, 9, (70, 40, 2)) / 8).permute(2, 1, 0)[None, :, :33]
    as_exact(whole_numbers(33, 70, 16), bias, 20)
    as_exact(
        whole_numbers(33, 70, 16), (torch.rand(1, 1, 1, 70) > 0.5).expand(1, 1, 33, 70) | torch.eye(33, 70).bool(), 9
    )


def test_inputs_as_a_model_has_them(remembered: str) -> None:
    """Heads side by side, as a linear map leaves them; one image expanded; columns that lie apart."""
    q, k, v = torch.randint(-2, 3, (2, 33, 3, 2, 16)).float().permute(2, 0, 3, 1, 4)
    as_exact([q, k, v], None, 7)
    as_exact([q, k[:1].expand(2, -1, -1, -1), v[:1].expand(2, -1, -1, -1)], None, 7)
    as_exact([x.transpose(2, 3).contiguous().transpose(2, 3) for x in (q, k, v)], None, 7)


@pytest.mark.parametrize("b", [1, 5])
def test_few_heads_and_many_rows(b: int, remembered: str) -> None:
    """A head's rows are divided among several tasks where heads are few."""
    as_exact(whole_numbers(2100, 40, 8, b=b, h=1), None, 11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_thread_counts_give_the_same_bits(dtype: torch.dtype, remembered: str) -> None:
    for tensors in (whole_numbers(2100, 40, 8, b=1, h=1), [torch.randn(2, 3, 130, 24) for _ in range(3)]):
        bias = torch.randn(1, 1, tensors[0].shape[2], tensors[1].shape[2])
        for each in (None, bias):
            found = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                inputs, given_ = [t.to(dtype) for t in tensors], None if each is None else each.to(dtype)
                found.append(results(native.run_native, inputs, given_, topk=9, scale=0.3, metric="dot"))
            for other in found[1:]:
                assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_both_ways_to_remember_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.randn(2, 3, 90, 40) for _ in range(3)]
    found = []
    for least in (0, 2**40):
        monkeypatch.setattr(native, "LISTS_AT_LEAST", least)
        monkeypatch.setattr(native, "LISTS_AT_MOST", 0.0)
        found.append(results(native.run_native, tensors, None, topk=31, scale=0.3, metric="dot"))
    assert torch.equal(found[0][0], found[1][0])
    for lists, cut in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(lists, cut, rtol=1e-4, atol=1e-6)


def test_what_is_remembered_is_bounded() -> None:
    """Lists where they are small, else three numbers a row; nothing without a gradient."""

    def sizes(n: int, topk: int, keep: bool) -> list[int]:
        q = torch.empty(1, 12, n, 64, device="meta")
        return [t.numel() for t in torch.ops.fewpairs.knn_native_forward(q, q, q, None, topk, 1.0, keep)[1:]]

    assert sizes(197, 100, True) == [12 * 197 * 100] * 2 + [0] * 3
    assert sizes(16384, 8192, True) == [0, 0] + [12 * 16384] * 3
    assert sizes(65536, 16, True) == [0, 0] + [12 * 65536] * 3  # an index of 16 bits cannot name so many keys
    assert sizes(197, 100, False) == [0] * 5


# The selection, read off the weights: values are the unit vectors.


def chosen(scores: Tensor, topk: int) -> Tensor:
    """The keys that the kernel keeps of a row of scores, `[m]` bool."""
    m = scores.numel()
    q, k = torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, m, 8)
    out = native.run_native(
        q, k, torch.eye(m)[None, None], topk=topk, bias=scores.view(1, 1, 1, m), scale=1.0, metric="dot"
    )
    return out.flatten() > 0


NUMBERS = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-80, 0, width=32, allow_subnormal=False),
    st.sampled_from([-torch.inf, -0.0, 0.0, 1.0, torch.finfo(torch.float32).eps + 1]),
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_row_keeps_its_best(data: st.DataObject) -> None:
    values = data.draw(st.lists(NUMBERS, min_size=1, max_size=150))
    scores = torch.tensor(values, dtype=torch.float32)
    topk = data.draw(st.integers(1, len(values)))
    if (scores == -torch.inf).all():
        scores[0] = 0.0
    assert torch.equal(chosen(scores, topk), kept(scores, topk))


@pytest.mark.parametrize("m", [5, 197, 1025, 4096])
@pytest.mark.parametrize("kind", ["normal", "heavy", "two", "constant", "one_high", "far", "steps", "masked"])
def test_rows_that_are_not_normal(kind: str, m: int) -> None:
    """The first guess takes scores for normal; whatever they are, the kept ones are the best."""
    normal = torch.randn(m)
    scores = {
        "normal": normal,
        "heavy": -(normal.abs() ** 4).clamp(max=80),
        "two": torch.where(torch.rand(m) < 0.1, normal - 50, normal / 1000),
        "constant": torch.full((m,), -2.5),
        "one_high": torch.where(torch.arange(m) == m // 3, 0.0, -70.0),
        "far": normal * 1e-6 + 5,
        "steps": (normal * 2).round(),
        "masked": torch.where(torch.rand(m) < 0.7, -torch.inf, normal),
    }[kind]
    scores[0] = scores[0].clamp(min=-80)
    for topk in {1, 2, m // 16 + 1, m // 4 + 1, m // 2, m - 1, m} - {0}:
        assert torch.equal(chosen(scores, topk), kept(scores, topk)), topk


def test_large_scores_do_not_overflow_the_statistics() -> None:
    scores = torch.randn(300) * 1e30
    q, k = torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, 300, 8)
    out = native.run_native(
        q, k, torch.eye(300)[None, None], topk=3, bias=scores.view(1, 1, 1, -1), scale=1.0, metric="dot"
    )
    assert out.flatten()[scores.argmax()] == pytest.approx(1.0)


# As an operator of PyTorch.


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
@pytest.mark.parametrize("option", ["plain", "bias", "mask"])
def test_operator_is_registered_as_it_behaves(option: str, remembered: str) -> None:
    q, k, v = (torch.randn(2, 2, 9, 16, requires_grad=True) for _ in range(3))
    bias = {"plain": None, "bias": torch.randn(1, 2, 9, 9, requires_grad=True), "mask": torch.eye(9).bool()[None, None]}
    torch.library.opcheck(torch.ops.fewpairs.knn_native_forward, (q, k, v, bias[option], 4, 0.25, True))


@pytest.mark.usefixtures("unchecked")
def test_compiled_without_a_graph_break() -> None:
    torch.compiler.reset()
    q, k, v = (torch.randn(2, 2, 40, 16, requires_grad=True) for _ in range(3))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return knn_attention(q * 2, k, v, topk=0.3, kernel="native").square()

    out, expected = torch.compile(attend, fullgraph=True, backend="aot_eager")(q, k, v), attend(q, k, v)
    torch.testing.assert_close(out, expected)
    ours, theirs = (torch.autograd.grad(y.sum(), (q, k, v)) for y in (out, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_second_derivative_is_the_references() -> None:
    ours, truth = (partial(knn_attention, topk=3, kernel=kernel) for kernel in ("native", "reference"))
    compare_second_derivatives(ours, truth, *torch.randn(3, 1, 2, 6, 8))


def test_inputs_that_need_no_gradient_get_none() -> None:
    q, k, v = (torch.randn(1, 2, 20, 8) for _ in range(3))
    v.requires_grad_()
    out = knn_attention(q.detach(), k, v, topk=3, kernel="native")
    out.sum().backward()
    assert q.grad is None
    assert v.grad is not None
    assert v.grad.sum().item() == pytest.approx(out.numel(), rel=1e-5)
    assert not knn_attention(q, k, v.detach(), topk=3, kernel="native").requires_grad


def test_heads_lie_side_by_side_so_that_joining_them_copies_nothing() -> None:
    q, k, v = (torch.randn(2, 3, 20, 8) for _ in range(3))
    assert knn_attention(q, k, v, topk=3, kernel="native").transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("sizes", [(0, 2, 5), (2, 0, 5), (2, 2, 0)])
def test_no_images_heads_or_queries(sizes: tuple[int, int, int]) -> None:
    b, h, n = sizes
    q, k, v = (torch.randn(b, h, length, 8, requires_grad=True) for length in (n, 6, 6))
    out = knn_attention(q, k, v, topk=3, kernel="native")
    assert out.shape == (b, h, n, 8)
    out.sum().backward()
    assert k.grad is not None
    assert (k.grad == 0).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.double(), "it takes float32 and bfloat16, not torch.float64"),
        (lambda t: t.to("meta"), "it runs on a CPU, and the tensors are on meta"),
    ],
)
def test_what_it_cannot_run_it_says(change: Callable[[Tensor], Tensor], sentence: str) -> None:
    q, k, v = (change(torch.randn(1, 1, 6, 8)) for _ in range(3))
    assert native.refuse_native(q, k, v, topk=3, bias=None, scale=1.0, metric="dot") == sentence
