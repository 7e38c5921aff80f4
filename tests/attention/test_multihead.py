from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewpairs import KV, KVPos, MultiHead, Softmax
from fewpairs.attention import VARIANTS, ConvProjection, LinearProjection, has_pairs, parse_variant, variant_name
from fewpairs.errors import InputError
from fewpairs.types import Grid

VARIANT_NAMES = sorted(VARIANTS)


@pytest.mark.parametrize("name", VARIANT_NAMES)
@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("convolution", [False, True])
def test_shape_and_every_parameter_learns(name: str, prefix: int, convolution: bool) -> None:
    project = ConvProjection.with_(stride_kv=1) if convolution else LinearProjection
    layer, grid = MultiHead(16, 4, parse_variant(name), project=project), Grid(3, 5, prefix)
    x = torch.randn(2, grid.tokens, 16)
    y = layer(x, grid)
    assert y.shape == x.shape
    y.square().sum().backward()
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("convolution", [False, True])
def test_kv_has_no_query_parameters(convolution: bool) -> None:
    project = ConvProjection.with_(stride_kv=1) if convolution else LinearProjection
    count = {v: sum(p.numel() for p in MultiHead(16, 4, v, project=project).parameters()) for v in (Softmax(), KV())}
    per_role = 16 * 16 + 16 + (9 * 16 + 2 * 16 if convolution else 0)
    assert count[Softmax()] - count[KV()] == per_role
    assert not [key for key, _ in MultiHead(16, 4, KV(), project=project).named_parameters() if ".q." in key]


def test_linear_rows_follow_the_roles() -> None:
    qkv, kv = MultiHead(16, 4, Softmax()), MultiHead(16, 4, KV())
    with torch.no_grad():
        qkv.project.linear.weight[:16] = qkv.project.linear.weight[16:32]
        qkv.project.linear.bias[:16] = qkv.project.linear.bias[16:32]
    kv.project.linear.load_state_dict({k: v[16:] for k, v in qkv.project.linear.state_dict().items()})
    kv.out.load_state_dict(qkv.out.state_dict())
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(kv(x, Grid(3, 3)), qkv(x, Grid(3, 3)))


@pytest.mark.parametrize("variant", [KV(), KVPos()])
def test_strided_keys_are_refused_with_the_remedy(variant: KV | KVPos) -> None:
    with pytest.raises(InputError, match="set stride_kv equal to stride_q"):
        MultiHead(16, 4, variant, project=ConvProjection.with_(stride_kv=2))
    MultiHead(16, 4, variant, project=ConvProjection.with_(stride_q=2, stride_kv=2))


def test_bias_joins_the_scores_or_is_refused() -> None:
    def last_key_only(grid: Grid) -> Tensor:
        bias = torch.full((4, grid.tokens, grid.tokens), -torch.inf)
        bias[..., -1] = 0
        return bias

    layer, x = MultiHead(16, 4, Softmax(), bias=last_key_only), torch.randn(1, 9, 16)
    y = layer(x, Grid(3, 3))
    torch.testing.assert_close(y, y[:, :1].expand_as(y))
    layer = MultiHead(16, 4, KV(), bias=last_key_only)
    y = layer(x, Grid(3, 3))
    torch.testing.assert_close(y, y[:, :1].expand_as(y))

    class Unbiased(Softmax):
        takes_bias = False

    with pytest.raises(InputError, match=r"takes no \[h n m\] bias"):
        MultiHead(16, 4, Unbiased(), bias=last_key_only)


def test_the_layer_hands_one_tensor_a_role_to_the_variant() -> None:
    """The seam is clean enough for a bare function to stand in for a variant."""
    seen = {}

    class Spy:
        roles, takes_bias, keys_are_queries = "kqv", False, False

        def build(self, heads: int, dim_head: int):
            def core(*heads_of_roles: Tensor) -> Tensor:
                seen["shapes"] = [tuple(t.shape) for t in heads_of_roles]
                return heads_of_roles[-1]

            return core

        def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
            return {}

        def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
            return 0

    MultiHead(16, 4, Spy())(torch.randn(2, 6, 16), Grid(2, 3))
    assert seen["shapes"] == [(2, 4, 6, 4)] * 3


def test_class_tokens_pass_by_the_convolution() -> None:
    project = ConvProjection(16, 4, "kv", stride_kv=1).eval()
    x = torch.randn(1, 7, 16)
    keys = project(x, Grid(2, 3, prefix=1))[0]
    torch.testing.assert_close(keys[0, :, 0].flatten(), project.linear["k"](x[0, 0]))


def test_wrong_widths_and_kernels_are_refused() -> None:
    with pytest.raises(InputError, match="heads=3 must divide the width dim=16"):
        MultiHead(16, 3, Softmax())
    with pytest.raises(InputError, match="kernel=4"):
        ConvProjection(16, 4, "qkv", kernel=4)
    with pytest.raises(InputError, match="stride_kv=3 must be a multiple"):
        ConvProjection(16, 4, "qkv", stride_q=2, stride_kv=3)


@pytest.mark.parametrize("name", VARIANT_NAMES)
def test_names_and_objects_round_trip(name: str) -> None:
    assert variant_name(parse_variant(name)) == name
    assert parse_variant(parse_variant(name)) == parse_variant(name)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sofmax", "did you mean 'softmax'"),
        ({"name": "kvpos", "dpos": 3}, "did you mean 'd_pos'"),
        ({"name": "kvpos", "d_pos": "3"}, "must be of type int"),
        ({"name": "kvpos", "d_pos": True}, "must be of type int"),
        ({"name": "kv", "scale_by": "heads"}, "allowed: 'head', 'width'"),
    ],
)
def test_wrong_specifications_are_explained(spec: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_variant(spec)


def test_scale_by_width_is_scale_by_head_of_smaller_logits() -> None:
    k, v = torch.randn(2, 1, 4, 6, 8).unbind(0)
    torch.testing.assert_close(KV("width").build(4, 8)(k, v), KV().build(4, 8)(k * 4**-0.25, v))


@pytest.mark.parametrize("name", VARIANT_NAMES)
def test_macs_are_the_sum_of_terms(name: str) -> None:
    variant = parse_variant(name)
    pairs = 10 * 10 if has_pairs(variant) else 10
    assert variant.macs(10, 10, 2, 8) == sum(variant.terms(10, 10, 2, 8).values()) >= 2 * 2 * pairs * 8
