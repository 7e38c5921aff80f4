"""What a receipt says, printed and as JSON, after a swap and before one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from timm_zoo import tiny
from torch import nn

from fewpairs import KNN, KV, Softmax, swap_attention
from fewpairs.cost import cost_breakdown
from fewpairs.swap import Receipt, describe
from fewpairs.swap.receipt import table


def snapshot(model: nn.Module) -> tuple[list[int], list[str], list[type]]:
    return (
        [id(module) for module in model.modules()],
        list(model.state_dict()),
        [type(module) for module in model.modules()],
    )


def test_a_dry_run_says_what_the_swap_then_does_and_leaves_the_model_alone() -> None:
    model, _ = tiny("swin")
    before, state = snapshot(model), torch.get_rng_state()
    dry = swap_attention(model, ["kvpos", KNN(5)], dry_run=True)
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    done = swap_attention(model, ["kvpos", KNN(5)])
    assert snapshot(model) != before
    assert dry.dry_run
    assert not done.dry_run
    assert {**dry.to_dict(), "dry_run": False} == done.to_dict()
    assert str(dry).replace("would swap", "swapped") == str(done)


@pytest.mark.parametrize(
    ("family", "size"),
    [
        ("vit", (32, 32)),
        ("swin", (56, 56)),
        pytest.param("twins", (64, 64), marks=pytest.mark.slow),
        pytest.param("tnt", (32, 32), marks=pytest.mark.slow),
    ],
)
def test_costs_before_and_after_are_the_ledgers(family: str, size: tuple[int, int]) -> None:
    model, _ = tiny(family)
    before = cost_breakdown(model, size)
    receipt = swap_attention(model, "kv")
    after = cost_breakdown(model, size)
    assert receipt.input_size == size
    assert (receipt.parameters_before, receipt.parameters_after) == (before.parameters, after.parameters)
    assert (receipt.macs_before, receipt.macs_after) == (before.macs, after.macs)
    assert after.macs < before.macs
    assert after.parameters < before.parameters


def test_knn_attention_costs_what_softmax_costs() -> None:
    model, _ = tiny("swinv2")
    receipt = swap_attention(model, KNN(3))
    assert receipt.macs_before == receipt.macs_after
    assert receipt.parameters_before == receipt.parameters_after == sum(p.numel() for p in model.parameters())
    assert all(old == new for old, new in receipt.key_map.items())
    assert not receipt.new_keys


def test_costs_are_unknown_where_the_size_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 8, 8), nn.Flatten(2), tiny("vit")[0].blocks[0].attn)
    receipt = swap_attention(model, "kv", where="2")
    assert (receipt.macs_before, receipt.macs_after, receipt.input_size) == (None, None, None)
    assert receipt.swapped[0].queries is None
    assert "multiply-adds" not in str(receipt)
    assert receipt.parameters_after < receipt.parameters_before


def test_queries_and_keys_of_each_layer_are_those_of_its_input_size() -> None:
    model, _ = tiny("pvt")
    pairs = {layer.name: (layer.queries, layer.keys) for layer in swap_attention(model, "knn").swapped}
    assert pairs == {f"stages.{stage}.blocks.0.attn": ((56 >> stage) ** 2, 49) for stage in range(4)}


def test_the_table_names_every_layer_and_every_reason() -> None:
    model, _ = tiny("twins")
    receipt = swap_attention(model, "kv", where=["blocks.0.*", "blocks.3.*"])
    text = str(receipt)
    assert text.startswith("Twins (Twins, local (timm), Twins, global (timm)): swapped 3 of 8 attention layers")
    for layer in describe(model):
        assert layer.name in text
    assert "blocks.1.0.attn  not selected" in text
    assert "blocks.0.1.attn  KV(scale_by='head') uses keys as queries, and here there is one key for" in text
    assert "state_dict: 4 keys renamed, 2 gone, 0 new" in text
    assert max(map(len, text.splitlines())) < 160


def test_json_holds_everything_and_the_file_is_the_same(tmp_path: Path) -> None:
    model, _ = tiny("volo")
    receipt = swap_attention(model, {"name": "knn", "topk": 0.25, "metric": "euclidean"})
    receipt.save(tmp_path / "receipt.json")
    content = json.loads((tmp_path / "receipt.json").read_text())
    assert content == json.loads(receipt.to_json()) == json.loads(json.dumps(receipt.to_dict()))
    assert content["model"] == "VOLO"
    assert content["family"] == "VOLO (timm), VOLO's class attention (timm)"
    assert [layer["name"] for layer in content["swapped"]] == [layer.name for layer in receipt.swapped]
    assert content["swapped"][0]["variant"] == {
        "name": "knn",
        "topk": 0.25,
        "metric": "euclidean",
        "scale_by": "head",
    }
    assert content["left"] == [{"name": left.name, "reason": left.reason} for left in receipt.left]
    assert "outlooker" in content["left"][0]["reason"]


def test_a_receipt_knows_its_variants() -> None:
    model, _ = tiny("swin")
    receipt = swap_attention(model, [KNN(2), "kv", KNN(2), Softmax()])
    assert receipt.variants == (KNN(2), KV(), Softmax())
    assert [layer.variant for layer in receipt.swapped] == [KNN(2), KV(), KNN(2), Softmax()]
    assert isinstance(receipt, Receipt)


def test_describe_lists_what_there_is_before_and_after() -> None:
    model, _ = tiny("volo")
    before = describe(model)
    assert [layer.name for layer in before] == [
        "network.0.0.attn",
        "network.2.0.attn",
        "network.3.0.attn",
        "network.4.0.attn",
        "network.4.1.attn",
        "post_network.0.attn",
        "post_network.1.attn",
    ]
    assert [layer.index for layer in before] == list(range(7))
    assert [layer.stage for layer in before] == [0, 1, 2, 3, 3, 4, 4]
    assert [(layer.heads, layer.dim_head) for layer in before[:2]] == [(None, None), (4, 8)]
    assert "neighbours" in str(before[0].reason_left_alone)
    assert all(layer.variant is None for layer in before)
    swap_attention(model, KNN(2), where=2)
    assert [layer.variant for layer in describe(model)] == [None, None, KNN(2), None, None, None, None]


def test_tables_are_aligned() -> None:
    lines = list(table(("name", "n"), [("a", "1,000"), ("long name", "1")], numbers=(1,)))
    assert lines == ["name           n", "a          1,000", "long name      1"]
