"""What k-NN attention is: its three written forms, its identities, and its exact distance from dense attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewpairs.ops import knn_attention, softmax_attention
from fewpairs.ops.knn import KERNELS, kept, native

ALL = [kernel.name for kernel in KERNELS if kernel.name not in ("native", "triton")]
"""Those that take float64; the others stand to their tests in `test_knn_native.py` and `test_triton_*.py`."""
FORMS = ["bounded", "masked", "gathered"]


def heads(*lengths: int, b: int = 2, h: int = 3, d: int = 8) -> list[Tensor]:
    return [torch.randn(b, h, length, d, dtype=torch.float64, requires_grad=True) for length in lengths]


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
    return torch.autograd.grad((out.double() * weights).sum(), inputs)


def exact(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("option", ["plain", "bias", "mask", "shared"])
@pytest.mark.parametrize("kernel", FORMS)
def test_every_form_is_masked_dense_attention(kernel: str, option: str, metric: str) -> None:
    q, k, v = heads(9, 13, 13)
    inputs = [q, k, v]
    bias: Tensor | None = None
    if option == "bias":
        bias = torch.randn(2, 3, 9, 13, dtype=torch.float64, requires_grad=True)
    if option == "shared":
        bias = torch.randn(1, 3, 9, 13, dtype=torch.float64, requires_grad=True)
    if option == "mask":
        bias = torch.rand(2, 1, 9, 13) > 0.6
        bias[..., 0] = True
    if bias is not None and bias.is_floating_point():
        inputs.append(bias)
    expected = knn_attention(q, k, v, topk=5, bias=bias, metric=metric, kernel="reference")
    got = knn_attention(q, k, v, topk=5, bias=bias, metric=metric, kernel=kernel)
    exact(got, expected)
    for mine, theirs in zip(gradients(got, *inputs), gradients(expected, *inputs), strict=True):
        exact(mine, theirs)


@pytest.mark.parametrize("kernel", ALL)
def test_all_keys_are_dense_attention(kernel: str) -> None:
    q, k, v = heads(9, 13, 13)
    bias = torch.randn(1, 3, 9, 13, dtype=torch.float64)
    dense = softmax_attention(q, k, v, bias=bias)
    expected = gradients(dense, q, k, v)
    for topk in (13, 500, 1.0):
        for metric in ("dot", "euclidean"):
            got = knn_attention(q, k, v, topk=topk, bias=bias, metric=metric, kernel=kernel)
            exact(got, dense)
            for mine, theirs in zip(gradients(got, q, k, v), expected, strict=True):
                exact(mine, theirs)


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_one_key_copies_the_best_value(kernel: str, metric: str) -> None:
    q, k, v = heads(9, 13, 13)
    order = -torch.cdist(q, k) if metric == "euclidean" else q @ k.mT
    expected = v.gather(2, order.argmax(-1, keepdim=True).expand(-1, -1, -1, 8))
    exact(knn_attention(q, k, v, topk=1, metric=metric, kernel=kernel), expected)


@pytest.mark.parametrize("kernel", ALL)
def test_nothing_reaches_what_is_left_out(kernel: str) -> None:
    """One query: keys and values outside its set get a gradient of exactly zero, and moving them changes nothing."""
    q, k, v = heads(1, 13, 13, b=1, h=1)
    out = knn_attention(q, k, v, topk=4, kernel=kernel)
    stays = kept((q @ k.mT).detach(), 4).flatten()
    for gradient in gradients(out, k, v):
        assert (gradient[0, 0][~stays] == 0).all()
        assert (gradient[0, 0][stays] != 0).any(dim=-1).all()
    moved = torch.where(stays[:, None], v, v + 100.0)
    exact(knn_attention(q, k, moved, topk=4, kernel=kernel), out)


@pytest.mark.parametrize("kernel", ALL)
def test_permuting_keys_changes_nothing_and_permuting_queries_permutes(kernel: str) -> None:
    q, k, v = heads(9, 13, 13)
    out = knn_attention(q, k, v, topk=0.4, kernel=kernel)
    keys, queries = torch.randperm(13), torch.randperm(9)
    exact(knn_attention(q, k[:, :, keys], v[:, :, keys], topk=0.4, kernel=kernel), out)
    exact(knn_attention(q[:, :, queries], k, v, topk=0.4, kernel=kernel), out[:, :, queries])


@pytest.mark.parametrize("kernel", [*([] if native.LIBRARY.unavailable() else ["native"]), *ALL])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ties_go_to_the_lower_index(kernel: str, dtype: torch.dtype) -> None:
    q, v = torch.randn(1, 2, 5, 8, dtype=dtype), torch.randn(1, 2, 40, 8, dtype=dtype)
    k = torch.ones(1, 2, 40, 8, dtype=dtype)  # every row of scores is constant
    out = knn_attention(q, k, v, topk=8, kernel=kernel)
    expected = v[:, :, :8].float().mean(2, keepdim=True).expand(-1, -1, 5, -1)
    torch.testing.assert_close(out.float(), expected, rtol=torch.finfo(dtype).eps * 4, atol=torch.finfo(dtype).eps * 2)


@pytest.mark.parametrize("kernel", ALL)
def test_a_row_whose_mask_leaves_fewer_keeps_those(kernel: str) -> None:
    q, k, v = heads(4, 10, 10, b=1, h=1)
    mask = torch.zeros(1, 1, 4, 10, dtype=torch.bool)
    mask[..., [2, 7]] = True
    exact(knn_attention(q, k, v, topk=5, bias=mask, kernel=kernel), softmax_attention(q, k, v, bias=mask))
    added = torch.where(mask, 0.0, -torch.inf).double()
    exact(knn_attention(q, k, v, topk=5, bias=added, kernel=kernel), softmax_attention(q, k, v, bias=mask))


def test_values_may_be_wider_or_narrower() -> None:
    q, k, _ = heads(9, 13, 13)
    for width in (1, 30):
        v = torch.randn(2, 3, 13, width, dtype=torch.float64)
        expected = knn_attention(q, k, v, topk=6, kernel="reference")
        assert expected.shape == (2, 3, 9, width)
        for kernel in FORMS:
            exact(knn_attention(q, k, v, topk=6, kernel=kernel), expected)


@pytest.mark.parametrize("kernel", FORMS)
def test_scale_is_a_factor_of_the_products_alone(kernel: str) -> None:
    q, k, v = heads(9, 13, 13)
    bias = torch.randn(1, 3, 9, 13, dtype=torch.float64)
    for scale in (-0.7, 0.0, 2.0):
        scores = scale * q @ k.mT + bias
        chosen = scores.masked_fill(~kept(scores.detach(), 5), -torch.inf).softmax(-1) @ v
        exact(knn_attention(q, k, v, topk=5, bias=bias, scale=scale, kernel=kernel), chosen)
    exact(knn_attention(q, k, v, topk=5, kernel=kernel), knn_attention(q, k, v, topk=5, scale=8**-0.5))


class TestDistance:
    def test_the_nearest_keys_are_kept_and_weighed_by_their_products(self) -> None:
        q, k, v = heads(9, 13, 13)
        near = torch.cdist(q, k).topk(5, dim=-1, largest=False).indices
        scores = 8**-0.5 * q @ k.mT
        few = scores.gather(-1, near).softmax(-1)
        expected = torch.zeros_like(scores).scatter(-1, near, few) @ v
        exact(knn_attention(q, k, v, topk=5, metric="euclidean", kernel="gathered"), expected)

    def test_equal_norms_make_it_the_dot_product(self) -> None:
        q, k, v = heads(9, 13, 13)
        k = torch.nn.functional.normalize(k, dim=-1) * 3
        for kernel in ALL:
            by_distance = knn_attention(q, k, v, topk=5, metric="euclidean", kernel=kernel)
            exact(by_distance, knn_attention(q, k, v, topk=5, metric="dot", kernel=kernel))

    def test_unequal_norms_make_it_another_operator(self) -> None:
        q, k, v = heads(9, 13, 13)
        k = k * torch.linspace(0.2, 3, 13, dtype=torch.float64)[:, None]
        apart = knn_attention(q, k, v, topk=5, metric="euclidean") - knn_attention(q, k, v, topk=5)
        assert apart.abs().max() > 0.1


class TestTruncation:
    """With p the dense weights and tau their mass outside the kept set: exact, at every row."""

    @pytest.fixture
    def rows(self) -> dict[str, Tensor]:
        q, k, v = (t.detach() for t in heads(40, 60, 60, b=2, h=2))
        scores = 8**-0.5 * q @ k.mT * 3
        stays = kept(scores, 17)
        eye = torch.eye(60, dtype=torch.float64).expand(2, 2, 60, 60)
        options = {"scale": 3 * 8**-0.5}
        return {
            "dense": scores.softmax(-1),
            "sparse": knn_attention(q, k, eye, topk=17, kernel="bounded", **options),
            "stays": stays,
            "v": v,
            "out": knn_attention(q, k, v, topk=17, kernel="bounded", **options),
            "full": softmax_attention(q, k, v, **options),
        }

    def test_the_weights_are_the_dense_ones_divided_by_the_mass_kept(self, rows: dict[str, Tensor]) -> None:
        mass = (rows["dense"] * rows["stays"]).sum(-1, keepdim=True)
        exact(rows["sparse"], rows["dense"] * rows["stays"] / mass)
        assert ((rows["sparse"] > 0) == rows["stays"]).all()

    def test_total_variation_is_the_mass_dropped(self, rows: dict[str, Tensor]) -> None:
        tau = (rows["dense"] * ~rows["stays"]).sum(-1)
        assert tau.min() > 1e-6
        exact((rows["dense"] - rows["sparse"]).abs().sum(-1) / 2, tau)

    def test_divergence_is_minus_the_log_of_the_mass_kept(self, rows: dict[str, Tensor]) -> None:
        tau = (rows["dense"] * ~rows["stays"]).sum(-1)
        ratio = torch.where(rows["stays"], rows["sparse"] / rows["dense"], 1.0)
        exact((rows["sparse"] * ratio.log()).sum(-1), -torch.log1p(-tau))

    def test_output_error_is_the_mass_dropped_times_the_distance_of_the_means(self, rows: dict[str, Tensor]) -> None:
        p, stays, v = rows["dense"], rows["stays"], rows["v"]
        tau = (p * ~stays).sum(-1, keepdim=True)
        head, tail = (p * stays) @ v / (1 - tau), (p * ~stays) @ v / tau
        exact(rows["full"] - rows["out"], tau * (tail - head))

    def test_entropy_is_at_most_the_log_of_k(self, rows: dict[str, Tensor]) -> None:
        entropy = torch.special.entr(rows["sparse"]).sum(-1)
        assert (entropy <= torch.tensor(17.0).log() + 1e-12).all()


def test_the_gradient_of_a_row_is_the_covariance_of_values_and_keys() -> None:
    """do/dq = scale Cov_a(v, k) under the weights of the keys kept, by which truncation changes learning."""
    q, k, v = heads(1, 13, 13, b=1, h=1, d=4)
    jacobian = torch.autograd.functional.jacobian(lambda x: knn_attention(x, k, v, topk=6, scale=0.5), q)
    eye = torch.eye(13, dtype=torch.float64)[None, None]
    a = knn_attention(q, k, eye, topk=6, scale=0.5).flatten().detach()
    keys, values = k.detach()[0, 0], v.detach()[0, 0]
    covariance = values.T @ torch.diag(a) @ keys - (a @ values)[:, None] * (a @ keys)[None]
    exact(jacobian.reshape(4, 4), 0.5 * covariance)
