"""Key-value attention in C++: as exact as plain PyTorch, whatever the shape, the layout and the numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from second_derivatives import compare_second_derivatives
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops import kv_attention
from fewpairs.ops.dispatch import KernelRefused
from fewpairs.ops.kv import native, reference

OPTIONS = ("plain", "gain", "negative", "zero", "by_head", "gone", "bias", "mask", "all")


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


def keys_and_values(n: int, d: int, *, e: int | None = None, b: int = 2, h: int = 3, norm: float = 1.0) -> list[Tensor]:
    return [torch.randn(b, h, n, d) * norm, torch.randn(b, h, n, d if e is None else e)]


def terms(option: str, h: int, n: int) -> dict[str, Any]:
    """What joins the scores; floats all learn."""
    found: dict[str, Any] = {"gain": None, "key_bias": None, "bias": None}
    if option in ("gain", "negative", "zero"):
        found["gain"] = torch.tensor({"gain": 1.3, "negative": -0.7, "zero": 0.0}[option])
    if option in ("by_head", "all"):
        found |= {"gain": torch.randn(h), "key_bias": torch.randn(h, n)}
    if option == "gone":
        found["key_bias"] = torch.randn(n).masked_fill(torch.arange(n) % 3 == 1, -torch.inf)
    if option in ("bias", "all"):
        found["bias"] = torch.randn(1, h, n, n)
    if option == "mask":
        found["bias"] = (torch.rand(2, 1, n, n) > 0.4) & (torch.arange(n) != n // 2)[:, None]
    return found


def results(run: Any, tensors: list[Tensor], options: dict[str, Any], scale: float, dtype: torch.dtype) -> list[Tensor]:
    """The output, then the gradient of every floating input, in float64. Layouts stay."""

    def leaf(value: Any) -> Any:
        learned = isinstance(value, Tensor) and value.is_floating_point()
        return value.detach().to(dtype).requires_grad_() if learned else value

    inputs, named = [leaf(t) for t in tensors], {key: leaf(value) for key, value in options.items()}
    output = run(*inputs, scale=scale, **named)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    output.backward(upstream.to(dtype))
    leaves = [t for t in (*inputs, *named.values()) if isinstance(t, Tensor) and t.requires_grad]
    return [output.detach().double(), *(leaf.grad.double() for leaf in leaves)]


def check(tensors: list[Tensor], options: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32) -> None:
    """The output and each gradient are off by at most thrice what the reference is off in the same dtype.

    And by some roundings of the largest number: of the dtype, of the scores, of the sums over keys and over what shares
    a number. The gain's is a sum over all pairs, each multiplied by its score.
    """
    scale, options = tensors[0].shape[-1] ** -0.5, options or {"gain": None, "key_bias": None, "bias": None}
    ours = results(native.run_native, tensors, options, scale, dtype)
    truth = results(reference.kv_attention, tensors, options, scale, torch.float64)
    peers = results(reference.kv_attention, tensors, options, scale, dtype)
    logit = float((tensors[0].double() @ tensors[0].double().mT).abs().max()) * scale
    for name, got, exact, peer in zip(("out", "k", "v", "1", "2", "3"), ours, truth, peers, strict=False):
        summed = tensors[0].shape[2] ** 0.5 + (truth[0].numel() / exact.numel()) ** 0.5
        floor = torch.finfo(dtype).eps + 1.2e-7 * (4 + summed + 2 * logit)
        size = max(exact.abs().max(), truth[0].abs().max())
        if name == "1" and options["gain"] is not None:
            size *= 1 + logit
        assert (got - exact).abs().max() <= 3 * (peer - exact).abs().max() + floor * size, name


@pytest.mark.parametrize("d", [32, 48, 64, 96, 128])
@pytest.mark.parametrize("n", [1, 17, 49, 196, 197, 1025])
def test_lengths_and_heads(n: int, d: int) -> None:
    check(keys_and_values(n, d, b=1, h=1 if n > 1000 else 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("n", [17, 197])
def test_what_joins_the_scores(n: int, option: str, dtype: torch.dtype) -> None:
    options = {
        key: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in terms(option, 3, n).items()
    }
    check([t.to(dtype) for t in keys_and_values(n, 24, e=21)], options, dtype)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_bias_may_be_shared_and_lie_as_it_likes(shape: tuple[int, int], turned: bool) -> None:
    bias = torch.randn(*shape, 101, 101)
    options = {"gain": None, "key_bias": torch.randn(101), "bias": bias.mT if turned else bias}
    check(keys_and_values(101, 16), options)
    check(keys_and_values(101, 16), {**options, "bias": options["bias"] > -0.5})


def test_layouts() -> None:
    empty_heads_last = [torch.randn(2, 50, 3, 16).transpose(1, 2) for _ in range(2)]
    parts = list(torch.randn(2, 50, 2, 3, 16).permute(2, 0, 3, 1, 4))
    turned = [torch.randn(2, 3, 16, 50).mT for _ in range(2)]
    every_second = [torch.randn(2, 3, 100, 32)[:, :, ::2, ::2] for _ in range(2)]
    for tensors in (empty_heads_last, parts, turned, every_second):
        check(tensors)
    one = [torch.randn(1, 3, 50, 16).expand(2, 3, 50, 16) for _ in range(2)]
    wanted = reference.kv_attention(*one, gain=None, key_bias=None, scale=0.25)
    torch.testing.assert_close(kv_attention(*one, kernel="native"), wanted)


def test_heads_of_the_output_lie_side_by_side() -> None:
    k, v = (t.requires_grad_() for t in keys_and_values(20, 16))
    out = kv_attention(k, v, kernel="native")
    assert out.transpose(1, 2).is_contiguous()
    out.sum().backward()  # an expanded gradient comes in
    torch.testing.assert_close(v.grad.sum(), torch.tensor(float(v.numel())))


@pytest.mark.parametrize("norm", [0.0, 1e-20, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_norms(norm: float, gain: float) -> None:
    """From those for which the symmetric form serves to those for which it would not."""
    tensors = keys_and_values(150, 32, norm=norm)
    check(tensors, {"gain": torch.tensor(gain), "key_bias": None, "bias": None})
    tensors[0][:, :, 40] *= 50
    check(tensors)


def test_both_forms_agree_at_their_border() -> None:
    k, v = keys_and_values(120, 16)
    k = k / k.norm(dim=-1, keepdim=True)
    for spread in (29.0, 31.0):  # of the exponents scale * |k|^2 / 2, whose limit is 30
        norms = torch.linspace(0, 1, 120).sqrt()[:, None] * (2 * spread * 4) ** 0.5
        check([k * norms, v])


def test_equal_keys_average_the_values() -> None:
    for norm in (0.0, 1.0, 1e4):
        k, v = torch.full((1, 1, 130, 16), norm), torch.randn(1, 1, 130, 24)
        torch.testing.assert_close(kv_attention(k, v, kernel="native"), v.mean(2, keepdim=True).expand_as(v))


@pytest.mark.parametrize("shape", [(2, 6, 200, 16), (1, 1, 700, 16), (1, 2, 97, 17)])
@pytest.mark.parametrize("option", OPTIONS)
def test_the_number_of_threads_changes_no_bit(threads: Any, shape: tuple[int, int, int, int], option: str) -> None:
    b, h, n, d = shape
    tensors, options = keys_and_values(n, d, b=b, h=h), terms(option, h, n)
    if option == "mask":
        options["bias"] = options["bias"][:b]
    found = []
    for count in (1, 2):
        threads(count)
        found.append(results(native.run_native, tensors, options, 0.25, torch.float32))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", ["k", "v"])
def test_what_is_not_finite_spreads_as_in_the_reference(number: float, place: str) -> None:
    k, v = keys_and_values(110, 16)
    (k if place == "k" else v)[0, 1, 100, 3] = number
    got = kv_attention(k, v, kernel="native")
    wanted = kv_attention(k, v, kernel="reference")
    torch.testing.assert_close(got, wanted, equal_nan=True)
    assert got[0, 0].isfinite().all()
    learned = [t.requires_grad_() for t in (k, v)]
    for grad, expected in zip(
        torch.autograd.grad(kv_attention(k, v, kernel="native").sum(), learned),
        torch.autograd.grad(kv_attention(k, v, kernel="reference").sum(), learned),
        strict=True,
    ):
        assert grad[0, 0].isfinite().all()
        assert grad[1].isfinite().all()
        assert not (expected.isnan() & ~grad.isnan()).any()


def test_a_masked_key_may_be_anything() -> None:
    k, v = keys_and_values(30, 16)
    k[:, :, 7] = torch.nan
    mask = (torch.arange(30) != 7).expand(1, 1, 30, 30)
    rows = [i for i in range(30) if i != 7]
    got = kv_attention(k, v, bias=mask, kernel="native")[:, :, rows]
    torch.testing.assert_close(got, kv_attention(k[:, :, rows], v[:, :, rows], kernel="reference"))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 230),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(OPTIONS),
    st.sampled_from([0.1, 1.0, 5.0]),
    st.integers(0, 10**6),
)
def test_any_shape(b: int, h: int, n: int, d: int, e: int, option: str, norm: float, seed: int) -> None:
    torch.manual_seed(seed)
    options = terms(option, h, n)
    if option == "mask":
        options["bias"] = options["bias"][:b]
    check(keys_and_values(n, d, e=e, b=b, h=h, norm=norm), options)


def test_refusals() -> None:
    k, v = keys_and_values(5, 16)
    for tensors, reason in (
        ((k.double(), v.double()), "float32 and bfloat16|float32 or both in bfloat16"),
        ((k[:0], v[:0]), "size zero"),
        ((k.to("meta"), v.to("meta")), "on meta"),
    ):
        with pytest.raises(KernelRefused, match=reason):
            kv_attention(*tensors, kernel="native")
    with pytest.raises(InputError, match="k and v must share one dtype"):
        kv_attention(k, v.bfloat16(), kernel="native")
    assert "both in float32" in str(native.refuse_native(k, v.bfloat16(), gain=None, key_bias=None, scale=1.0))
    assert kv_attention(k[:0], v[:0]).shape == (0, 3, 5, 16)
    assert kv_attention(k[:, :0], v[:, :0]).shape == (2, 0, 5, 16)
    assert kv_attention(k.to("meta"), v.to("meta")).shape == (2, 3, 5, 16)


def test_an_exported_graph_holds_pytorchs_own_operators() -> None:
    class Module(torch.nn.Module):
        def forward(self, k: Tensor, v: Tensor) -> Tensor:
            return kv_attention(k, v)

    program = torch.export.export(Module(), tuple(keys_and_values(9, 16)))
    assert "fewpairs" not in str(program.graph)


def test_a_second_derivative_is_the_references() -> None:
    ours, truth = (partial(kv_attention, kernel=kernel) for kernel in ("native", "reference"))
    compare_second_derivatives(ours, truth, *keys_and_values(5, 16))


def test_inputs_that_do_not_learn() -> None:
    k, v = keys_and_values(40, 16)
    gain, moved = torch.tensor(1.5, requires_grad=True), torch.randn(40)
    out = kv_attention(k, v, gain=gain, key_bias=moved, kernel="native")
    (got,) = torch.autograd.grad(out.square().sum(), gain)
    expected = kv_attention(k.double(), v.double(), gain=gain.double(), key_bias=moved.double(), kernel="reference")
    torch.testing.assert_close(got, torch.autograd.grad(expected.square().sum(), gain)[0], rtol=1e-4, atol=1e-4)
    assert not kv_attention(k, v, kernel="native").requires_grad


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's own
@pytest.mark.parametrize("option", ["plain", "all", "mask"])
def test_the_operators_keep_pytorchs_contract(option: str) -> None:
    k, v = (t.requires_grad_() for t in keys_and_values(9, 16, e=8, b=2, h=2))
    options = [
        x.requires_grad_() if x is not None and x.is_floating_point() else x for x in terms(option, 2, 9).values()
    ]
    torch.library.opcheck(torch.ops.fewpairs.kv_native_forward.default, (k, v, *options, 0.25))
    with torch.no_grad():
        out, *kept = torch.ops.fewpairs.kv_native_forward(k, v, *options, 0.25)
        learns = [x is not None and x.is_floating_point() for x in options]
        inputs = (torch.randn_like(out), k, v, *options, out, *kept, 0.25, *learns)
        torch.library.opcheck(
            torch.ops.fewpairs.kv_native_backward.default,
            tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs),
            test_utils=("test_schema", "test_faketensor"),
        )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dynamic", [False, True])
def test_one_graph_when_compiled(dynamic: bool) -> None:
    torch.compiler.reset()

    def run(k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return kv_attention(k, v, key_bias=bias, kernel="native").transpose(1, 2).flatten(2)

    compiled = torch.compile(run, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n in (21, 33):
        learned = [t.requires_grad_() for t in (*keys_and_values(n, 16), torch.randn(n))]
        expected, got = run(*learned), compiled(*learned)
        torch.testing.assert_close(got, expected)
        ours, theirs = (torch.autograd.grad(y.square().sum(), learned) for y in (got, expected))
        torch.testing.assert_close(ours, theirs)
