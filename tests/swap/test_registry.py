"""Adapters that anybody registers: the door that fewpairs' own come in by."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange
from swapping import ALL, same
from timm_zoo import tiny
from torch import Tensor, nn

from fewpairs import KNN, KV, swap_attention
from fewpairs.errors import InputError
from fewpairs.swap import Adapter, SwappedModule, Unsupported, describe, register_adapter, registry, unregister_adapter
from fewpairs.swap.adapter import type_name
from fewpairs.swap.module import without_rows

pytestmark = pytest.mark.usefixtures("uncounted", "forgotten")


class Mixer(nn.Module):
    """Somebody's attention, `[b n c] -> [b n c]`."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qkv, self.to_out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.to_qkv(x), "b n (r h d) -> r b h n d", r=3, h=3)
        mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        return self.to_out(rearrange(mixed, "b h n d -> b n (h d)"))

    def count(self) -> int:
        return 3


class SwappedMixer(SwappedModule):
    def __init__(self, old: Mixer, variant: Any) -> None:
        super().__init__(old, variant, heads=3, dim_head=4)
        if not self.queries:
            self.to_qkv = without_rows(old.to_qkv, 12)

    def forward(self, x: Tensor) -> Tensor:
        roles = rearrange(self.to_qkv(x), "b n (r h d) -> r b h n d", h=3, d=4)
        return self.to_out(rearrange(self.mix(*roles), "b h n d -> b n (h d)"))


MINE = Adapter("Mixer (mine)", (type_name(Mixer),), lambda _layer: (3, 4), SwappedMixer)


def mixers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Mixer(), Mixer()).eval()


def test_a_layer_that_is_registered_is_swapped_and_can_be_copied_and_pickled() -> None:
    assert register_adapter(MINE) is MINE
    model, x = mixers(), torch.randn(2, 5, 12)
    wanted = model(x)
    new = copy.deepcopy(model)
    receipt = swap_attention(new, ALL)
    assert receipt.family == "Mixer (mine)"
    assert list(new.state_dict()) == list(model.state_dict())
    assert same(new(x), wanted)
    assert isinstance(new[0], Mixer)
    assert new[0].count() == 3
    few = swap_attention(model, KNN(2)) and model
    for other in (copy.deepcopy(few), pickle.loads(pickle.dumps(few))):
        assert type(other[0]) is type(few[0])
        assert torch.equal(other(x), few(x))
        assert not same(other(x), wanted, 1e-3)


def test_without_queries_its_own_rules_hold() -> None:
    register_adapter(replace(MINE, queries=lambda layer: "the test says so" if layer is model[1] else None))
    model = mixers()
    receipt = swap_attention(model, KV())
    assert [layer.name for layer in receipt.swapped] == ["0"]
    assert receipt.left[0].reason.endswith("has no queries, and the test says so")


def test_a_name_serves_for_a_library_that_is_not_there() -> None:
    register_adapter(replace(MINE, matches=("nobodys_library.layers.Attention",)))
    assert "Mixer (mine)" in registry.families()
    assert "nobodys_library.layers.Attention" in registry._BY_TYPE


def test_a_type_is_claimed_once_unless_the_second_says_so() -> None:
    register_adapter(MINE)
    twin = replace(MINE, family="Twin")
    with pytest.raises(InputError, match=r"Mixer has the adapter 'Mixer \(mine\)' already; pass override=True"):
        register_adapter(twin)
    assert describe(mixers())[0].family == "Mixer (mine)"
    register_adapter(twin, override=True)
    assert describe(mixers())[0].family == "Twin"
    assert unregister_adapter(Mixer) is twin
    with pytest.raises(InputError, match="has no adapter that could be removed"):
        unregister_adapter(Mixer)


def test_one_of_fewpairs_own_can_be_replaced_and_removed() -> None:
    model, _ = tiny("vit")
    known = unregister_adapter("timm.layers.attention.Attention")
    reason = "there is no adapter for timm.layers.attention.Attention"
    assert [layer.reason_left_alone for layer in describe(model)] == [reason] * 2
    register_adapter(Unsupported("ViT (mine)", ("timm.layers.attention.Attention",), "it is not wanted"))
    assert [layer.reason_left_alone for layer in describe(model)] == ["it is not wanted"] * 2
    register_adapter(known, override=True)
    assert len(swap_attention(model, "knn").swapped) == 2


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (SwappedMixer, "takes an Adapter or an Unsupported; type is neither"),
        (replace(MINE, matches=()), r"'Mixer \(mine\)' has matches=\(\); allowed: a tuple of layer types"),
        (replace(MINE, matches="library.Attention"), "has matches='library.Attention'; allowed: a tuple"),
        (replace(MINE, matches=("Attention",)), "matches 'Attention'; allowed: a type as 'module.Class'"),
        (replace(MINE, matches=("a.b-c.Attention",)), "matches 'a.b-c.Attention'"),
        (replace(MINE, matches=(None,)), "matches None"),
    ],
)
def test_what_is_no_adapter_is_refused(adapter: Any, message: str) -> None:
    known = dict(registry._BY_TYPE)
    with pytest.raises(InputError, match=message):
        register_adapter(adapter)
    assert known == registry._BY_TYPE


def test_types_themselves_may_stand_for_their_names() -> None:
    register_adapter(replace(MINE, matches=(Mixer,)))
    assert len(swap_attention(mixers(), "knn").swapped) == 2


def test_errors_name_the_layer_and_its_class() -> None:
    model = nn.Sequential(Mixer(), nn.Linear(2, 2))
    register_adapter(Unsupported("Mixer (mine)", (type_name(Mixer),), "it is not wanted"))
    with pytest.raises(InputError, match=rf"can be swapped \(0 \({type_name(Mixer)}\): it is not wanted\); supported"):
        swap_attention(model, "knn")
    register_adapter(replace(MINE, strided=lambda _layer: "there are none"), override=True)
    with pytest.raises(InputError, match=rf"0 cannot be swapped: .*there are none \(a {type_name(Mixer)}\)"):
        swap_attention(model, "kv", where="0")
    with pytest.raises(InputError, match=rf"can be swapped: 0 \({type_name(Mixer)}, and 1 more\): .*there are none$"):
        swap_attention(mixers(), "kv")
