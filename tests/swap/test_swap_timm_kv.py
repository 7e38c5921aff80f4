"""Attention without queries in timm's families: what it keeps, and what it cannot take the place of."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from swapping import are_rows_of, tie
from timm.layers import AttentionRope
from timm_zoo import FAMILIES, tiny
from torch import Tensor, nn

from fewpairs import KV, KVPos, swap_attention
from fewpairs.attention import pair_terms
from fewpairs.errors import InputError
from fewpairs.ops import kv_attention

NEVER = ("pvt-linear", "levit", "levit-conv", "efficientformerv2", "cait", "mobilenet")
"""Families of which no layer can do without queries."""

families = pytest.mark.parametrize("family", [name for name in FAMILIES if name not in NEVER])
pytestmark = pytest.mark.usefixtures("uncounted")


@families
@pytest.mark.parametrize(("variant", "size"), [(KV(), 0), (KV(), 1), (KVPos(), 0)], ids=["kv", "kv-wide", "kvpos"])
def test_with_tied_weights_it_is_the_original(family: str, variant: Any, size: int) -> None:
    model, image = tiny(family, size)
    loose = copy.deepcopy(model)
    tie(model, [layer.name for layer in swap_attention(model, variant, dry_run=True).swapped])
    with torch.no_grad():
        wanted, untied = model(image), loose(image)
        swap_attention(model, variant)
        swap_attention(loose, variant)
        assert torch.allclose(model(image), wanted, atol=1e-5, rtol=1e-5)
        assert torch.allclose(loose(image), wanted, atol=1e-5, rtol=1e-5), "keys, values and output weights stay"
        assert not torch.allclose(untied, wanted, atol=1e-2, rtol=1e-2)


@families
def test_every_key_is_accounted_for(family: str) -> None:
    model, _ = tiny(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receipt = swap_attention(model, KVPos(d_pos=7))
    after = model.state_dict()
    kept = {old: new for old, new in receipt.key_map.items() if new is not None}
    inside = tuple(f"{layer.name}." for layer in receipt.swapped)
    assert set(receipt.key_map) == {name for name in before if name.startswith(inside)}
    assert set(kept.values()) | set(receipt.new_keys) == {name for name in after if name.startswith(inside)}
    assert receipt.new_keys == tuple(f"{layer.name}.core.mix.weight" for layer in receipt.swapped)
    for old, new in kept.items():
        assert are_rows_of(after[new], before[old]) if after[new].ndim else torch.equal(after[new], before[old]), old
    gone = sum(before[old].numel() for old, new in receipt.key_map.items() if new is None)
    cut = sum(before[old].numel() - after[new].numel() for old, new in kept.items())
    added = 7 * len(receipt.swapped)
    assert gone + cut > 0
    assert receipt.parameters_after - receipt.parameters_before == added - gone - cut
    assert receipt.parameters_after == sum(p.numel() for p in model.parameters())


LEFT = {
    "pvt": {
        "stages.0.blocks.0.attn": "one key for 8 x 8 queries",
        "stages.1.blocks.0.attn": "one key for 4 x 4 queries",
        "stages.2.blocks.0.attn": "one key for 2 x 2 queries",
    },
    "twins": {f"blocks.{stage}.1.attn": "queries" for stage in range(3)},
    "volo": {
        "network.0.0.attn": "no queries and keys",
        "post_network.0.attn": "one query, the class token",
        "post_network.1.attn": "one query, the class token",
    },
    "hiera": {f"blocks.{block}.attn": "one query for 4 keys" for block in (1, 2)},
    "sam2": {f"blocks.{block}.attn": "queries are pooled and keys are not" for block in (1, 3)},
    "mvitv2": {
        "stages.0.blocks.0.attn": "one place in 1 x 1 is a query, and one in 4 x 4 is a key",
        "stages.2.blocks.0.attn": "one place in 2 x 2 is a query, and one in 1 x 1 is a key",
    },
    "gcvit": {f"stages.{stage}.blocks.1.attn": "those of the image, the same in all windows" for stage in range(4)},
    "crossvit": {f"blocks.{block}.fusion.{side}.attn": "the class token" for block in (0, 1) for side in (0, 1)},
    "pooled-vit": {"attn_pool": "its queries are learned"},
    "nextvit": {"layers.0": "one key for 4 queries"},
    "davit": {f"stages.{stage}.blocks.0.1.attn": "channels against channels" for stage in (0, 1)},
}


@pytest.mark.parametrize("family", LEFT)
def test_layers_whose_keys_are_elsewhere_are_left_alone_with_the_reason(family: str) -> None:
    model, _ = tiny(family)
    receipt = swap_attention(model, "kv")
    assert {left.name for left in receipt.left} == set(LEFT[family])
    for left in receipt.left:
        assert LEFT[family][left.name] in left.reason
    assert receipt.swapped


@pytest.mark.parametrize("where", ["stages.0.blocks.0.attn", 0, ["*", 0]])
def test_asking_for_such_a_layer_by_name_is_an_error(where: Any) -> None:
    model, _ = tiny("pvt")
    with pytest.raises(InputError, match=r"stages.0.blocks.0.attn cannot be swapped: KV\(.*one key for 8 x 8 queries"):
        swap_attention(model, "kv", where=where)


def test_when_nothing_can_be_swapped_that_is_an_error_with_the_reason() -> None:
    model, _ = tiny("pvt-linear")
    keys = list(model.state_dict())
    with pytest.raises(InputError, match=r"none of the 4 selected layers can be swapped.*7 x 7 keys"):
        swap_attention(model, "kv")
    assert list(model.state_dict()) == keys


REFUSED = {
    "levit": "share one batch norm.*one query for 2 x 2 keys",
    "efficientformerv2": "one query for 2 x 2 keys",
    "cait": "mixes the scores of all heads.*one query, the class token",
    "mobilenet": "all heads have one key",
}


@pytest.mark.parametrize("family", REFUSED)
def test_families_that_cannot_do_without_queries_say_why_for_each_layer(family: str) -> None:
    with pytest.raises(InputError, match=REFUSED[family]):
        swap_attention(tiny(family)[0], "kv")


@dataclass(frozen=True)
class Plain:
    """Keys attend to keys, and nothing may join the scores."""

    roles: ClassVar[str] = "kv"
    takes_bias: ClassVar[bool] = False
    keys_are_queries: ClassVar[bool] = True

    def build(self, heads: int, dim_head: int) -> Any:
        return kv_attention

    def terms(self, n: int, m: int, heads: int, dim_head: int) -> dict[str, int]:
        return pair_terms(n, m, heads, dim_head)

    def macs(self, n: int, m: int, heads: int, dim_head: int) -> int:
        return sum(self.terms(n, m, heads, dim_head).values())


BIASED = {
    "swin": "a table of relative positions",
    "swinv2": "relative positions",
    "beit": "a table of relative positions",
    "vit-relpos": "a bias of relative positions",
    "sam": "depends on the queries",
    "mvitv2": "depends on the queries",
    "maxvit": "a bias of relative positions",
    "tinyvit": "a table of relative positions",
    "swinv2-cr": "a network computes from relative positions",
}


@pytest.mark.parametrize("family", BIASED)
def test_a_variant_that_takes_no_bias_is_refused_where_there_is_one(family: str) -> None:
    model, _ = tiny(family)
    with pytest.raises(InputError, match=f"adds .*{BIASED[family]}.* to its scores"):
        swap_attention(model, Plain())


def test_a_bias_that_comes_with_the_call_is_refused_then() -> None:
    model, _ = tiny("vit")
    swap_attention(model, Plain())
    x = torch.randn(2, 5, 32)
    layer = model.blocks[0].attn
    assert layer(x).shape == x.shape
    with pytest.raises(InputError, match=r"called with a bias or mask on its scores, and Plain\(\) accepts none"):
        layer(x, is_causal=True)


def test_positions_that_layers_share_are_a_bias_before_any_call() -> None:
    for name in ("vit-shared-relpos", "beit-shared"):
        shared, _ = tiny(name)
        with pytest.raises(InputError, match="relative positions that all layers share"):
            swap_attention(shared, Plain())


def test_both_masks_at_once_are_refused() -> None:
    model, _ = tiny("vit")
    swap_attention(model, "knn")
    with pytest.raises(InputError, match="exclude one another"):
        model.blocks[0].attn(torch.randn(1, 4, 32), attn_mask=torch.ones(4, 4, dtype=torch.bool), is_causal=True)


@pytest.mark.parametrize("variant", ["knn", "kv"])
def test_heads_that_share_keys_go_on_sharing_them(variant: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = AttentionRope(32, num_heads=4, num_kv_heads=2, qkv_fused=False, num_prefix_tokens=1)

        def forward(self, x: Tensor, rope: Tensor) -> Tensor:
            return self.attn(x, rope=rope)

    model, x, rope = Model(), torch.randn(2, 7, 32), torch.randn(6, 16)
    with torch.no_grad():
        heads = model.attn.k_proj.weight.unflatten(0, (2, 8)).repeat_interleave(2, dim=0)
        model.attn.q_proj.weight.copy_(heads.flatten(0, 1))
        model.attn.q_proj.bias.copy_(model.attn.k_proj.bias.unflatten(0, (2, 8)).repeat_interleave(2, dim=0).flatten())
        wanted = model(x, rope)
        swap_attention(model, {"name": "knn", "topk": 7} if variant == "knn" else variant)
        assert torch.allclose(model(x, rope), wanted, atol=1e-5)
        assert not torch.allclose(model(x, rope.flip(0)), wanted, atol=1e-3)


def test_a_projection_that_is_no_plain_map_cannot_lose_its_queries() -> None:
    class Adapted(nn.Linear):
        """As low-rank adapters make of a linear map."""

    model, _ = tiny("vit")
    model.blocks[0].attn.qkv.__class__ = Adapted
    with pytest.raises(
        InputError, match=r"rows of its projection 'qkv' cannot be separated: it is a .*Adapted; swap before"
    ):
        swap_attention(model, "kv", where=0)
    assert len(swap_attention(model, "knn").swapped) == 2
