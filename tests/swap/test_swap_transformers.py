"""transformers' models: with all keys kept they are the models that were there, with `swap_attention` and by name."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from swapping import (
    compiles_like_eager,
    gradients_agree,
    rounds_like_the_original,
    same,
    swapped,
    tie,
    trained,
)
from torch import nn
from transformers_zoo import FAMILIES, tiny

from fewpairs import KNN, KV, swap_attention
from fewpairs.errors import InputError
from fewpairs.swap import register_transformers
from fewpairs.swap.adapters.transformers import LAYERS
from fewpairs.swap.interface import CORE

families = pytest.mark.parametrize("family", FAMILIES)


def layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__name__.removeprefix("Swapped") in LAYERS]


@families
@pytest.mark.parametrize("size", [0, 1])
def test_with_all_keys_kept_the_answer_is_the_originals(family: str, size: int) -> None:
    model, image = tiny(family, size)
    with torch.no_grad():
        wanted = model(image)
        assert same(swapped(model)(image), wanted)
        assert not same(swapped(model, KNN(topk=1))(image), wanted, 1e-2)


@families
def test_in_training_the_same_seed_gives_the_same_output_and_gradients(family: str) -> None:
    model, image = tiny(family, drop=0.4)
    wanted, gradients = trained(copy.deepcopy(model), image, seed=3)
    got, got_gradients = trained(swapped(model), image, seed=3)
    assert same(got, wanted)
    if FAMILIES[family].drop:
        assert not same(trained(copy.deepcopy(model), image, seed=4)[0], wanted, 1e-3), "nothing was dropped"
    gradients_agree(got_gradients, gradients)


@families
def test_autocast_rounds_as_the_original_does(family: str) -> None:
    model, image = tiny(family)
    rounds_like_the_original(model, image)


@families
def test_copies_pickles_and_checkpoints_go_to_and_fro(family: str) -> None:
    model, image = tiny(family)
    replaced = swapped(model, KNN(topk=3))
    assert list(replaced.state_dict()) == list(model.state_dict())
    stored = pickle.dumps(replaced)
    with torch.no_grad():
        wanted = replaced(image)
        assert torch.equal(copy.deepcopy(replaced)(image), wanted)
        assert torch.equal(pickle.loads(stored)(image), wanted)
        other = pickle.loads(stored)
        for parameter in other.parameters():
            parameter.zero_()
        assert not torch.equal(other(image), wanted)
        other.load_state_dict(model.state_dict(), strict=True)
        assert torch.equal(other(image), wanted)


QUICK = ("vit",)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("family", QUICK)
def test_compiles_without_a_graph_break(family: str) -> None:
    model, image = tiny(family)
    assert compiles_like_eager(swapped(model, KNN(topk=3)), image)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in QUICK])
def test_every_other_family_compiles_without_a_graph_break(family: str) -> None:
    model, image = tiny(family)
    assert compiles_like_eager(swapped(model, KNN(topk=3)), image)


@families
@pytest.mark.parametrize("size", [0, 1])
def test_kv_is_the_original_where_queries_are_keys(family: str, size: int) -> None:
    model, image = tiny(family, size)
    query = "query" if family in ("dpt", "yolos") else "q_proj"
    where = "*.layers.*" if family.startswith("siglip") else None  # their pooling is cross-attention
    tie(model, [layer.name for layer in swap_attention(model, "kv", where=where, dry_run=True).swapped])
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, "kv", where=where)
        assert same(model(image), wanted)
    gone = [key for key, now in receipt.key_map.items() if now is None]
    assert gone
    assert all(key.split(".")[-2] == query for key in gone)
    assert all(now in (key, None) for key, now in receipt.key_map.items())
    assert not receipt.new_keys
    assert receipt.parameters_before - receipt.parameters_after == sum(
        tiny(family)[0].state_dict()[key].numel() for key in gone
    )


def test_keys_that_are_reduced_cannot_do_without_queries() -> None:
    model, _ = tiny("segformer")
    receipt = swap_attention(model, "kv", dry_run=True)
    assert [layer.reason for layer in receipt.left] == [
        "KV(scale_by='head') uses keys as queries, and here there is one key for 2 x 2 queries"
    ]
    assert len(receipt.swapped) == 1


def test_the_receipt_counts_what_kv_spares() -> None:
    model, _ = tiny("vit")
    receipt = swap_attention(model.model, "kv")
    assert receipt.family == "ViT (transformers)"
    assert receipt.input_size == (32, 32)
    assert receipt.macs_before - receipt.macs_after == 2 * 17 * 32 * 32
    assert receipt.parameters_before - receipt.parameters_after == 2 * (32 * 32 + 32)


@families
def test_attention_maps_are_given_when_asked_for(family: str) -> None:
    eager, image = tiny(family, implementation="eager")
    asked = {**eager.inputs(image), "output_attentions": True}
    with torch.no_grad():
        wanted = eager.model(**asked).attentions
        got = swapped(eager).model(**asked).attentions
        kept = swapped(eager, KNN(topk=3)).model(**asked).attentions
        assert not swapped(eager).model(**eager.inputs(image)).get("attentions")
    assert len(got) == len(wanted) == len(kept) > 0
    for ours, theirs, few in zip(got, wanted, kept, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert ((few > 0).sum(-1) == 3).all()
        torch.testing.assert_close(few.sum(-1), torch.ones(few.shape[:-1]))


def test_attention_dropout_draws_what_the_eager_layer_draws() -> None:
    model, image = tiny("vit", implementation="eager")
    for layer in layers(model):
        layer.attention_dropout = 0.5
    replaced = swapped(model)
    assert all(layer.core.attn_drop.p == 0.5 for layer in layers(replaced))
    with torch.no_grad():
        quiet = model(image)
        torch.manual_seed(1)
        wanted = model.train()(image)
        torch.manual_seed(1)
        assert same(replaced.train()(image), wanted)
        assert not same(quiet, wanted, 1e-2)
        assert same(replaced.eval()(image), quiet)


def test_some_layers_of_a_model_may_be_swapped() -> None:
    model, image = tiny("vit")
    inner = model.model
    receipt = swap_attention(inner, [KNN(topk=2)], where=1)
    assert [layer.name for layer in receipt.swapped] == ["vit.layers.1.attention"]
    assert inner.vit.layers[0].attention.config._attn_implementation == inner.config._attn_implementation == "sdpa"
    assert inner.vit.layers[1].attention.config._attn_implementation == CORE
    with torch.no_grad():
        before = model(image)
        inner.set_attn_implementation("eager")
        assert same(model(image), before), "the swapped layer keeps its attention"
    swap_attention(inner, "kv")
    swap_attention(inner, "kvpos", where=0)


def test_the_dense_model_is_loaded_from_a_swapped_one_by_will(tmp_path: Any) -> None:
    model, image = tiny("vit")
    with torch.no_grad():
        wanted = model(image)
        swap_attention(model.model, KNN(topk=2))
        model.model.save_pretrained(tmp_path)
        model.model = transformers.ViTForImageClassification.from_pretrained(tmp_path, attn_implementation="sdpa")
        assert same(model(image), wanted)


def test_a_stored_model_runs_where_nothing_was_swapped_yet() -> None:
    model, image = tiny("vit")
    replaced = swapped(model, KNN(topk=3))
    stored = pickle.dumps(replaced)
    interface = transformers.AttentionInterface._global_mapping
    known = interface.pop(CORE)
    try:
        with torch.no_grad():
            assert torch.equal(pickle.loads(stored)(image), replaced(image))
    finally:
        interface[CORE] = known


def test_layers_that_compute_their_own_scores_are_named_with_the_reason() -> None:
    config = transformers.PvtConfig(
        image_size=32, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, depths=[1] * 4, mlp_ratios=[2] * 4
    )
    with pytest.raises(InputError, match="not through transformers' AttentionInterface"):
        swap_attention(transformers.PvtModel(config), "knn")


@pytest.fixture
def names() -> Iterator[None]:
    """Names that a test registers are forgotten after it."""
    from fewpairs.swap import interface

    kept = [dict(each._global_mapping) for each in (transformers.AttentionInterface, masks())]
    ours = set(interface._REGISTERED)
    yield
    for each, before in zip((transformers.AttentionInterface, masks()), kept, strict=True):
        each._global_mapping.clear()
        each._global_mapping.update(before)
    interface._REGISTERED.clear()
    interface._REGISTERED.update(ours)


def masks() -> Any:
    return transformers.AttentionMaskInterface


@families
@pytest.mark.usefixtures("names")
def test_the_attention_called_knn_does_what_the_swap_does(family: str) -> None:
    assert register_transformers(topk=3) == ("knn", "knn3")
    model, image = tiny(family)
    named = copy.deepcopy(model)
    named.model.set_attn_implementation("knn")
    where = "*.layers.*" if family.startswith("siglip") else None  # their pooling is an nn.MultiheadAttention
    with torch.no_grad():
        assert same(named(image), swapped(model, KNN(topk=3), where=where)(image))
        assert not same(named(image), model(image), 1e-3)


@pytest.mark.usefixtures("names")
def test_a_model_may_be_built_with_a_registered_name() -> None:
    assert register_transformers(10_000, name="all") == ("all",)
    register_transformers(2)
    model, image = tiny("vit")
    everything, _ = tiny("vit", implementation="all")
    few, _ = tiny("vit", implementation="knn2")
    with torch.no_grad():
        wanted = model(image)
        assert same(everything(image), wanted)
        assert not same(few(image), wanted, 1e-2)
        register_transformers(1.0)
        everything.model.set_attn_implementation("knn")
        assert same(everything(image), wanted)


@pytest.mark.usefixtures("names")
def test_a_registered_attention_gives_maps_and_drops_weights_in_training() -> None:
    register_transformers(3)
    model, image = tiny("vit", implementation="knn")
    with torch.no_grad():
        maps = model.model(image, output_attentions=True).attentions
        assert len(maps) == 2
        assert all(((one > 0).sum(-1) == 3).all() for one in maps)
        quiet = model(image)
        for layer in layers(model):
            layer.attention_dropout = 0.5
        torch.manual_seed(1)
        dropped = model.train()(image)
        swap = tiny("vit")[0]
        for layer in layers(swap):
            layer.attention_dropout = 0.5
        torch.manual_seed(1)
        assert same(swapped(swap, KNN(topk=3)).train()(image), dropped)
        assert not same(dropped, quiet, 1e-2)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("padded", [False, True])
def test_causal_and_padding_masks_of_a_text_model_are_honoured(padded: bool) -> None:
    config = transformers.CLIPTextConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    model = transformers.CLIPTextModel(config).eval()
    words = torch.randint(3, 20, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.long)
    if padded:
        mask[1, 5:] = 0
    register_transformers(1.0)
    named, replaced = copy.deepcopy(model), swapped(model)
    named.set_attn_implementation("knn")
    with torch.no_grad():
        wanted = model(words, attention_mask=mask).last_hidden_state
        later = words.index_fill(1, torch.tensor(8), 1)
        assert same(model(later, attention_mask=mask).last_hidden_state[:, :8], wanted[:, :8])
        for each in (named, replaced):
            assert same(each(words, attention_mask=mask).last_hidden_state, wanted)


@pytest.mark.usefixtures("names")
def test_mistakes_in_registering_are_told() -> None:
    with pytest.raises(InputError, match=r"topk"):
        register_transformers(0)
    with pytest.raises(InputError, match=r"metric"):
        register_transformers(metric="cosine")
    with pytest.raises(InputError, match="'sdpa' belongs to transformers"):
        register_transformers(name="sdpa")


@pytest.mark.usefixtures("names")
def test_scores_that_knn_attention_has_not_are_refused() -> None:
    register_transformers(3)
    attend = transformers.AttentionInterface._global_mapping["knn"]
    heads = torch.randn(1, 2, 5, 4)
    layer = nn.Module()
    with pytest.raises(InputError, match="softcap"):
        attend(layer, heads, heads, heads, None, softcap=30.0)
    with pytest.raises(InputError, match=r"attention mask is \[5\]"):
        attend(layer, heads, heads, heads, torch.ones(5))
    position = torch.randn(1, 2, 5, 5)
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    got, _ = attend(layer, heads, heads, heads, mask, position_bias=position)
    explicit = torch.where(mask, position, -torch.inf)
    assert torch.equal(got, attend(layer, heads, heads, heads, explicit)[0])
    causal, _ = attend(layer, heads, heads, heads, None, is_causal=True)
    assert torch.equal(causal, attend(layer, heads, heads, heads, mask)[0])
    by_key, _ = attend(layer, heads, heads, heads, torch.tensor([[1, 1, 1, 0, 1]]))
    assert torch.equal(
        by_key, attend(layer, heads, heads, heads, mask.new_tensor([1, 1, 1, 0, 1]).expand(1, 1, 5, 5))[0]
    )


@pytest.mark.usefixtures("names")
def test_fewer_heads_of_keys_than_of_queries_are_shared() -> None:
    register_transformers(1.0)
    attend = transformers.AttentionInterface._global_mapping["knn"]
    q, (k, v) = torch.randn(1, 4, 5, 8), torch.randn(2, 1, 2, 5, 8)
    got, _ = attend(nn.Module(), q, k, v, None, is_causal=False)
    wanted = nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(got, wanted)


def test_kv_prints_what_stands_where_the_query_projection_was() -> None:
    model, _ = tiny("vit")
    swap_attention(model, KV())
    assert "(q_proj): NoQuery(out_features=32)" in str(model)


@pytest.mark.slow
def test_importing_the_swap_does_not_import_transformers() -> None:
    code = "import sys, fewpairs.swap; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_transformers_a_name_cannot_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"transformers 5 or newer is needed .*pip install 'transformers>=5.23'"):
        register_transformers()


@pytest.mark.usefixtures("names")
def test_the_pages_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "swap-transformers.md"
    found = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) == 4
    names: dict[str, Any] = {}
    for code in found:
        exec(compile(code, page.name, "exec", dont_inherit=True), names)
