"""Key-only attention on the study page: saliency and gates of every position, in place of maps of queries."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fewpairs import swap_attention
from fewpairs.attention import KNN, Core, KeyOnly, Softmax
from fewpairs.inspection import Inspection, inspect_attention, write_page
from fewpairs.inspection.contact_sheet import layer_contact_sheet
from fewpairs.inspection.maps import OVERLAY, head_maps
from fewpairs.inspection.open_model import open_model
from fewpairs.inspection.page import numbers, page
from fewpairs.inspection.page_text import what_to_see
from fewpairs.inspection.tables import heads_table, layers_table
from fewpairs.models.classifiers import create_classifier

FORMS = [KeyOnly(), KeyOnly("R1c"), KeyOnly("R2"), KeyOnly("R3"), KeyOnly("R3-R2", gate="conv")]


def made(name: str, attention: Any, **options: Any) -> nn.Module:
    """With weights large enough that heads prefer some positions."""
    torch.manual_seed(0)
    model = create_classifier(name, attention=attention, classes=5, **options)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model.eval()


def study(name: str, attention: Any = None, **options: Any) -> Inspection:
    return inspect_attention(made(name, attention or KeyOnly()), torch.randn(3, 28, 28), **options)


@pytest.fixture(scope="module")
def linglo() -> Inspection:
    return study("linglo_pico")


def test_one_map_a_head_for_every_layer(linglo: Inspection) -> None:
    assert [layer.name for layer in linglo.layers] == [
        "stages.0.blocks.1.attn",
        "stages.1.blocks.1.attn",
        "stages.1.blocks.3.attn",
    ]
    assert [layer.grid for layer in linglo.layers] == [(14, 14), (7, 7), (7, 7)]
    for layer in linglo.layers:
        assert not layer.pairs
        assert [(row.label, row.what) for row in layer.rows] == [
            ("all positions", "saliency"),
            ("all positions", "gate"),
        ]
        assert all(row.weights.shape == (layer.heads, layer.queries) for row in layer.rows)
        assert all(row.position.cell is None and len(row.position.rows) == layer.grid[0] for row in layer.rows)
        np.testing.assert_allclose(layer.rows[0].weights.sum(-1), 1, rtol=1e-5)
        assert layer.entropy.all.high < math.log(layer.keys)
        assert (layer.distance, layer.dropped, layer.kept, layer.entropy_kept) == (None,) * 4
        assert set(layer.gradient.roles) == {"k", "v"}


@pytest.mark.parametrize("attention", FORMS, ids=str)
@pytest.mark.parametrize("name", ["linglo_pico", "vit_pico"])
def test_maps_are_those_of_the_attention(name: str, attention: KeyOnly) -> None:
    """By hand from the keys that enter the last layer."""
    model, image, seen = made(name, attention), torch.randn(3, 28, 28), {}
    core = [module for module in model.modules() if isinstance(module, Core)][-1]

    def note(_core: nn.Module, roles: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        seen.update(k=roles[0], grid=kwargs["grid"])

    hook = core.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        model(image[None])
    hook.remove()
    saliency, gate = inspect_attention(model, image, gradients=False).layers[-1].rows
    k, mix = seen["k"].detach(), core.mix
    logits = k if attention.form == "R1c" else torch.einsum("bhnd,hd->bhn", k, mix.saliency.detach())[..., None]
    weights = logits.softmax(2)
    torch.testing.assert_close(torch.from_numpy(saliency.weights), weights.mean(-1)[0])
    opened = k
    if attention.gate == "conv":
        prefix, h = seen["grid"].prefix, seen["grid"].h
        places = k[:, :, prefix:].transpose(2, 3).flatten(1, 2).unflatten(2, (h, -1))
        mapped = mix.gate(places).flatten(2).unflatten(1, (k.shape[1], -1)).transpose(2, 3)
        opened = torch.cat([k[:, :, :prefix], mapped], dim=2).detach()
    if attention.gates_values:
        pooled = (weights * k).sum(2, keepdim=True)
        expected = torch.sigmoid((opened * pooled).sum(-1) * k.shape[-1] ** -0.5)
    else:
        expected = torch.sigmoid(opened).mean(-1)
    torch.testing.assert_close(torch.from_numpy(gate.weights), expected[0], atol=1e-5, rtol=1e-4)


def test_gates_of_r2_are_what_lets_values_through() -> None:
    core = Core(KeyOnly("R2"), 2, 4)
    nn.init.normal_(core.mix.saliency)
    k, v = torch.randn(1, 2, 9, 4), torch.randn(1, 2, 9, 4)
    torch.testing.assert_close(core(k, v), core.mix.gates(k).unsqueeze(-1) * v)


def test_a_class_token_is_told_beside_the_map() -> None:
    layer = study("vit_pico").layers[0]
    saliency, gate = layer.rows
    assert saliency.weights.shape == (3, 50)
    assert saliency.position.prefix == 1
    maps = head_maps(saliency)[1]
    assert maps.dense.shape == (7, 7, 4)
    assert maps.prefix_dense == pytest.approx(saliency.weights[1, 0])
    assert "class token" in page(study("vit_pico"))
    assert head_maps(gate)[0].highest == 1


def test_maps_have_a_scale_on_which_equal_shares_are_in_the_middle(linglo: Inspection) -> None:
    row = linglo.layers[0].rows[0]
    (maps,) = head_maps(row)
    assert maps.highest == max(row.weights.max(), 2 / 196)
    assert maps.note == f"×{row.weights.min() * 196:.2f} to ×{row.weights.max() * 196:.2f}"
    assert maps.dense[..., 3].max() == OVERLAY
    assert (maps.veil, maps.truncated, maps.dropped) == (None, None, None)
    torch.manual_seed(0)
    flat = inspect_attention(create_classifier("linglo_pico", classes=5), torch.randn(3, 28, 28)).layers[0]
    assert head_maps(flat.rows[0])[0].note == "×1.00 to ×1.00"
    assert "weigh alike" in what_to_see(flat)


def test_queries_are_left_out_where_nothing_asks(linglo: Inspection) -> None:
    text = page(linglo)
    assert "no queries" in text
    assert "chosen queries" not in text
    assert "For each query" not in text
    assert "×" in text
    assert [layers_table(linglo).columns, heads_table(linglo.layers[1]).columns] == [
        ("Layer", "Heads", "Keys", "Entropy", "Gradient", "Similarity"),
        ("Head", "Entropy"),
    ]
    assert heads_table(linglo.layers[1]).caption == "Saliency of every head"
    assert "sharpest" in what_to_see(linglo.layers[1])
    assert what_to_see(linglo.layers[0]).startswith("Entropy ")


def test_both_kinds_in_one_model() -> None:
    both = study("linglo_pico", [KeyOnly("R2"), Softmax()])
    assert [layer.pairs for layer in both.layers] == [False, True, True]
    assert [row.label for row in both.layers[1].rows] == ["1: 14, 14", "2: 7, 7", "3: 21, 21"]
    assert {row.what for row in both.layers[1].rows} == {"weights"}
    text = page(both)
    assert "For each query" in text
    assert "Key-only attention has no queries" in text
    assert "chosen queries" in text


def test_windows_of_the_queries() -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("tnt_s_legacy_patch16_224", img_size=32, depth=1, num_classes=3)
    swap_attention(model, KeyOnly())
    inner, outer = inspect_attention(model, torch.randn(3, 32, 32), queries=[(3, 3), (20, 20)]).layers
    assert inner.windowed
    assert not outer.windowed
    assert [(row.label, row.what) for row in inner.rows] == [
        ("window of 1: 3, 3", "saliency"),
        ("window of 1: 3, 3", "gate"),
        ("window of 2: 20, 20", "saliency"),
        ("window of 2: 20, 20", "gate"),
    ]
    assert len(inner.entropy.heads) == inner.heads
    assert len(outer.rows) == 2


def test_files(linglo: Inspection, tmp_path: Path) -> None:
    written = write_page(linglo, tmp_path)
    assert len(written.pictures) == 4
    content = json.loads(numbers(linglo))
    assert [row["what"] for row in content["layers"][0]["rows"]] == ["saliency", "gate"]
    assert content["layers"][0]["pairs"] is False
    assert layer_contact_sheet(linglo, linglo.layers[1]).width > 3 * 112


def test_a_named_linglo_keeps_its_own_attention() -> None:
    def variants(*arguments: Any) -> set[Any]:
        model = open_model(*arguments, size=(28, 28), classes=3).model
        return {core.variant for core in model.modules() if isinstance(core, Core)}

    assert variants("linglo_pico") == {KeyOnly()}
    assert variants("linglo_pico", {"name": "keyonly", "form": "R2"}) == {KeyOnly("R2")}
    assert variants("linglo_pico", "softmax") == {Softmax()}


def test_beside_attention_that_drops_keys() -> None:
    both = study("linglo_pico", [KeyOnly(), KNN(0.5)])
    assert both.truncates
    assert [layer.kept for layer in both.layers] == [None, 25, 25]
    text = page(both)
    assert "τ" in text
    assert "Key-only attention has no queries" in text
    assert both.layers[0].gradient_dense is None
