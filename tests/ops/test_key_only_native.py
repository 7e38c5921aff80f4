"""Key-only attention in C++: as exact as plain PyTorch, whatever the shape, the layout and the numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from second_derivatives import compare_second_derivatives
from torch import Tensor

from fewpairs.ops import key_only_attention
from fewpairs.ops.dispatch import KernelRefused
from fewpairs.ops.key_only import native, reference

KINDS = ("vector", "logits", "channels")


@pytest.fixture(autouse=True)
def _compiled() -> None:
    reason = native.LIBRARY.unavailable()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def inputs(n: int, d: int, *, b: int = 2, h: int = 3, kind: str = "vector") -> list[Tensor]:
    saliency = {"vector": (h, d), "logits": (b, h, n), "channels": (b, h, n, d)}[kind]
    return [torch.randn(b, h, n, d), torch.randn(b, h, n, d), torch.randn(saliency)]


def some(tensors: list[Tensor], *, mask: bool, gate: bool) -> dict[str, Tensor | None]:
    """A mask that leaves nothing of the first image's first head, and a gate."""
    shape = tensors[0].shape
    kept = torch.rand(shape[:3]) > 0.4
    kept[0, 0] = False
    return {"mask": kept if mask else None, "gate": torch.randn(shape).to(tensors[0].dtype) if gate else None}


def results(run: Any, tensors: list[Tensor], options: dict[str, Any], dtype: torch.dtype) -> list[Tensor]:
    """The output, then the gradient of every floating input that has one, in float64. Layouts stay."""

    def leaf(value: Any) -> Any:
        learned = isinstance(value, Tensor) and value.is_floating_point()
        return value.detach().to(dtype).requires_grad_() if learned else value

    leaves, named = [leaf(t) for t in tensors], {key: leaf(value) for key, value in options.items()}
    output = run(*leaves, **named)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    output.backward(upstream.to(dtype))
    grads = [t.grad for t in (*leaves, named["gate"]) if t is not None and t.grad is not None]
    return [output.detach().double(), *(grad.double() for grad in grads)]


def check(
    tensors: list[Tensor], options: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """The output and each gradient are off by at most thrice what the reference is off in the same dtype.

    And by some roundings of the largest number, of the logits, and of the sums over positions in float32, through which
    each gradient passes.
    """
    options = options or {"mask": None, "gate": None}
    ours = results(native.key_only_attention, tensors, options, dtype)
    truth = results(reference.key_only_attention, tensors, options, torch.float64)
    peers = results(reference.key_only_attention, tensors, options, dtype)
    k, _, saliency = (t.double() for t in tensors)
    logit = float((k * saliency.unsqueeze(1)).sum(-1).abs().max() if saliency.ndim == 2 else saliency.abs().max())
    for i, (got, exact, peer) in enumerate(zip(ours, truth, peers, strict=True)):
        summed = 4 * k.shape[2] ** 0.5 + (truth[0].numel() / exact.numel()) ** 0.5
        floor = torch.finfo(dtype).eps + 1.2e-7 * (4 + summed + 2 * logit)
        size = max(exact.abs().max(), truth[0].abs().max())
        assert (got - exact).abs().max() <= 3 * (peer - exact).abs().max() + floor * size, i
    return ours


@pytest.mark.parametrize("d", [32, 48, 64, 96, 128])
@pytest.mark.parametrize("n", [1, 17, 49, 196, 197, 1025])
def test_lengths_and_heads(n: int, d: int) -> None:
    check(inputs(n, d, b=1, h=2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [16, 21])
def test_saliency_mask_and_gate(kind: str, mask: bool, gate: bool, d: int, dtype: torch.dtype) -> None:
    tensors = [t.to(dtype) for t in inputs(197, d, kind=kind)]
    got = check(tensors, some(tensors, mask=mask, gate=gate), dtype)
    if mask:
        assert not got[0][0, 0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_many_segments(kind: str) -> None:
    """Longer than what one task takes, with the largest logit in the middle of one of the later ones."""
    tensors = inputs(9001, 32, b=1, h=2, kind=kind)
    if kind == "logits":
        tensors[2][:, :, 7000] = 40
    check(tensors, some(tensors, mask=True, gate=True))


def test_many_numbers_go_past_the_caches() -> None:
    tensors = inputs(66000, 64, b=1, h=1)
    tensors[2] *= 0.1
    check(tensors)


def test_layouts() -> None:
    w = torch.randn(3, 16)
    empty_heads_last = [torch.randn(2, 50, 3, 16).transpose(1, 2) for _ in range(2)]
    parts = list(torch.randn(2, 50, 2, 3, 16).permute(2, 0, 3, 1, 4))
    turned = [torch.randn(2, 3, 16, 50).mT for _ in range(2)]
    every_second = [torch.randn(2, 3, 100, 32)[:, :, ::2, ::2] for _ in range(2)]
    for tensors in (empty_heads_last, parts, turned, every_second):
        check([*tensors, w])
        check([*tensors, torch.randn(16, 3).mT])
        check([*tensors, torch.randn(50, 3, 2).permute(2, 1, 0)])
        check([*tensors, torch.randn(2, 3, 16, 50).mT])
        check([*tensors, w], {"mask": (torch.rand(50, 1) > 0.5).T.expand(2, 3, 50), "gate": tensors[1]})
    one = [torch.randn(1, 3, 50, 16).expand(2, 3, 50, 16) for _ in range(2)]
    wanted = reference.key_only_attention(*one, w)
    torch.testing.assert_close(key_only_attention(*one, w, kernel="native"), wanted)


def test_heads_of_the_output_lie_side_by_side() -> None:
    k, v, w = (t.requires_grad_() for t in inputs(20, 16))
    out = key_only_attention(k, v, w, kernel="native")
    assert out.transpose(1, 2).is_contiguous()
    got = torch.autograd.grad(out.sum(), (k, v, w))  # an expanded gradient comes in
    expected = torch.autograd.grad(key_only_attention(k, v, w, kernel="reference").sum(), (k, v, w))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("norm", [0.0, 1e-20, 3.0, 30.0, 1000.0])
def test_norms(norm: float) -> None:
    k, v, w = inputs(150, 32)
    check([k * norm, v, w])
    check([k, v, (k * norm).sum(-1)])
    check([k, v, k * norm])


def test_equal_logits_average_the_values() -> None:
    k, v = torch.zeros(1, 1, 5000, 16), torch.randn(1, 1, 5000, 16)
    out = key_only_attention(k, v, torch.full((1, 1, 5000), 7.0), kernel="native")
    torch.testing.assert_close(out, (v.mean(2, keepdim=True) / 2).expand_as(v))


@pytest.mark.parametrize("shape", [(2, 6, 200, 16), (1, 1, 9000, 16), (1, 2, 5001, 33)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(threads: Any, shape: tuple[int, int, int, int], kind: str) -> None:
    b, h, n, d = shape
    tensors = inputs(n, d, b=b, h=h, kind=kind)
    options = some(tensors, mask=True, gate=False)
    found = []
    for count in (1, 2):
        threads(count)
        found.append(results(native.key_only_attention, tensors, options, torch.float32))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", ["k", "v", "saliency", "gate"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_spreads_as_in_the_reference(number: float, place: str, kind: str) -> None:
    tensors = inputs(110, 16, kind=kind)
    options = some(tensors, mask=False, gate=place == "gate")
    named = dict(zip(("k", "v", "saliency"), tensors, strict=True)) | options
    (named[place] if place != "saliency" or kind != "vector" else tensors[0])[0, 1, 100] = number
    got = key_only_attention(*tensors, **options, kernel="native")
    torch.testing.assert_close(got, key_only_attention(*tensors, **options, kernel="reference"), equal_nan=True)
    assert got[1].isfinite().all()


def test_logits_that_are_all_minus_infinity() -> None:
    k, v, _ = inputs(40, 16, b=1, h=2)
    logits, mask = torch.zeros(1, 2, 40), torch.ones(1, 2, 40, dtype=torch.bool)
    logits[:, 0] = -torch.inf
    mask[:, 1] = False
    got = key_only_attention(k, v, logits, mask=mask, kernel="native")
    torch.testing.assert_close(got, reference.key_only_attention(k, v, logits, mask=mask), equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 300),
    st.integers(1, 70),
    st.sampled_from(KINDS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(0, 10**6),
)
def test_any_shape(b: int, h: int, n: int, d: int, kind: str, mask: bool, gate: bool, dtype: Any, seed: int) -> None:
    torch.manual_seed(seed)
    tensors = [t.to(dtype) for t in inputs(n, d, b=b, h=h, kind=kind)]
    check(tensors, some(tensors, mask=mask, gate=gate), dtype)


def test_the_saliency_may_have_a_dtype_of_its_own() -> None:
    for kind in KINDS:
        k, v, saliency = inputs(40, 16, kind=kind)
        for dtype in (torch.float64, torch.float16, torch.bfloat16):
            s = saliency.to(dtype).requires_grad_()
            got = key_only_attention(k, v, s, kernel="native")
            expected = key_only_attention(k, v, s, kernel="reference")
            torch.testing.assert_close(got, expected)
            ours, theirs = (torch.autograd.grad(y.sum(), s)[0] for y in (got, expected))
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_refusals() -> None:
    k, v, w = inputs(5, 16)
    for tensors, reason in (
        ((k.double(), v.double(), w), "float32 and bfloat16"),
        ((k[:0], v[:0], w), "size zero"),
        ((k.to("meta"), v.to("meta"), w.to("meta")), "on meta"),
    ):
        with pytest.raises(KernelRefused, match=reason):
            key_only_attention(*tensors, kernel="native")
    assert key_only_attention(k[:0], v[:0], w).shape == (0, 3, 5, 16)
    assert key_only_attention(k.to("meta"), v.to("meta"), w.to("meta")).shape == (2, 3, 5, 16)


def test_an_exported_graph_holds_pytorchs_own_operators() -> None:
    class Module(torch.nn.Module):
        def forward(self, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
            return key_only_attention(k, v, w)

    program = torch.export.export(Module(), tuple(inputs(9, 16)))
    assert "fewpairs" not in str(program.graph)


def test_a_second_derivative_is_the_references() -> None:
    ours, truth = (partial(key_only_attention, kernel=kernel) for kernel in ("native", "reference"))
    compare_second_derivatives(ours, truth, *inputs(5, 16))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
@pytest.mark.parametrize(("kind", "gate"), [("vector", False), ("logits", True), ("channels", True)])
def test_the_operators_keep_pytorchs_contract(kind: str, gate: bool) -> None:
    tensors = inputs(9, 16, kind=kind)
    options = some(tensors, mask=True, gate=gate)
    k, v, saliency = (t.requires_grad_() for t in tensors)
    keys = k if kind == "vector" or not gate else None
    torch.library.opcheck(
        torch.ops.fewpairs.key_only_native_forward.default, (keys, v, saliency, options["mask"], options["gate"])
    )
    with torch.no_grad():
        out, *kept = torch.ops.fewpairs.key_only_native_forward(keys, v, saliency, options["mask"], options["gate"])
        given = (torch.randn_like(out), keys, v, saliency, options["mask"], options["gate"], *kept)
        torch.library.opcheck(
            torch.ops.fewpairs.key_only_native_backward.default,
            tuple(x if x is None else x.detach() for x in given),
            test_utils=("test_schema", "test_faketensor"),
        )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dynamic", [False, True])
def test_one_graph_when_compiled(dynamic: bool) -> None:
    torch.compiler.reset()

    def run(k: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return key_only_attention(k, v, w, kernel="native").transpose(1, 2).flatten(2)

    compiled = torch.compile(run, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n in (21, 33):
        learned = [t.requires_grad_() for t in inputs(n, 16)]
        expected, got = run(*learned), compiled(*learned)
        torch.testing.assert_close(got, expected)
        ours, theirs = (torch.autograd.grad(y.square().sum(), learned) for y in (got, expected))
        torch.testing.assert_close(ours, theirs)
