"""A saved model says how it was swapped: with fewpairs it comes back as it was, without it says what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
import transformers_zoo
from safetensors.torch import save_file
from timm.models import save_for_hf
from timm_zoo import tiny
from torch import nn

from fewpairs import KNN, KV, KeyOnly, KVPos, Softmax, swap_attention
from fewpairs.errors import InputError
from fewpairs.swap import load_swapped
from fewpairs.swap.interface import CORE

pytestmark = pytest.mark.usefixtures("uncounted")
variants = pytest.mark.parametrize("variant", [KNN(3), KV(), KVPos(d_pos=20), KeyOnly()], ids=lambda one: str(one)[:5])


def randomised(model: nn.Module) -> nn.Module:
    """Weights of the attention itself start alike in every model, so that a lost one would not show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".core." in name:
                parameter.normal_()
    return model


ZOO = ["vit", "dinov2", "dinov3", "segformer", "dpt", "clip"]


@variants
@pytest.mark.parametrize("family", ZOO)
def test_transformers_models_come_back(family: str, variant: Any, tmp_path: Path) -> None:
    model, image = transformers_zoo.tiny(family)
    swap_attention(model.model, variant)
    randomised(model).model.save_pretrained(tmp_path)
    other, _ = transformers_zoo.tiny(family)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        receipt = load_swapped(other.model, tmp_path)
        assert torch.equal(other(image), model(image))
    assert all(str(layer.variant)[:3] == str(variant)[:3] for layer in receipt.swapped)


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_transformers_alone_refuses_it(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = transformers_zoo.tiny(family)
    kind = type(model.model)
    receipt = swap_attention(model.model, KNN(3))
    model.model.save_pretrained(tmp_path / "swapped")
    config = json.loads((tmp_path / "swapped" / "config.json").read_text())
    assert set(config["fewpairs"]) == {layer.name for layer in receipt.swapped}
    with pytest.raises(InputError, match=r"attn_implementation='sdpa', then call fewpairs.swap.load_swapped"):
        kind.from_pretrained(tmp_path / "swapped").eval()(image)
    monkeypatch.delitem(transformers.AttentionInterface._global_mapping, CORE)
    with pytest.raises(ValueError, match='attn_implementation="fewpairs"` is not supported'):
        kind.from_pretrained(tmp_path / "swapped")
    dense = kind.from_pretrained(tmp_path / "swapped", attn_implementation="sdpa").eval()
    receipt.undo()
    with torch.no_grad():
        model.model.save_pretrained(tmp_path / "undone")
        again = kind.from_pretrained(tmp_path / "undone").eval()
        for each in (dense, again):
            output = each(image)
            assert torch.equal(output.logits if "logits" in output else output.last_hidden_state, model(image))


def test_a_part_of_a_model_of_transformers_is_saved_by_itself(tmp_path: Path) -> None:
    model, image = transformers_zoo.tiny("vit")
    swap_attention(model.model, [KNN(2), KNN(3)])
    part = model.model.vit
    part.save_pretrained(tmp_path)
    config = transformers.ViTConfig.from_pretrained(tmp_path, attn_implementation="sdpa")
    other = transformers.ViTModel(config, add_pooling_layer=False).eval()
    receipt = load_swapped(other, tmp_path)
    assert [layer.variant for layer in receipt.swapped] == [KNN(2), KNN(3)]
    with torch.no_grad():
        assert torch.equal(other(image).last_hidden_state, part(image).last_hidden_state)


ARGUMENTS = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}


@variants
@pytest.mark.parametrize("safe", [True, False])
def test_timm_models_come_back(variant: Any, safe: bool, tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS).eval()
    image = torch.randn(2, 3, 32, 32)
    swap_attention(model, variant, where=1)
    randomised(model)
    save_for_hf(model, str(tmp_path), model_args=ARGUMENTS, safe_serialization=safe)
    other = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS).eval()
    receipt = load_swapped(other, tmp_path)
    assert [layer.name for layer in receipt.swapped] == ["blocks.1.attn"]
    with torch.no_grad():
        assert torch.equal(other(image), model(image))
    with pytest.raises(TypeError, match="fewpairs"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_the_configuration_follows_later_swaps() -> None:
    model = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS)
    another = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS)
    before = dict(model.pretrained_cfg)
    first = swap_attention(model, KNN(3))
    second = swap_attention(model, "kv", where=0)
    names = {name: options["name"] for name, options in model.pretrained_cfg["fewpairs"].items()}
    assert names == {"blocks.0.attn": "kv", "blocks.1.attn": "knn"}
    assert model.default_cfg is model.pretrained_cfg
    second.undo()
    assert {options["topk"] for options in model.pretrained_cfg["fewpairs"].values()} == {3}
    first.undo()
    assert model.pretrained_cfg == before == another.pretrained_cfg


@variants
@pytest.mark.parametrize("form", ["file", "dictionary"])
def test_a_state_dict_says_how_it_was_swapped(variant: Any, form: str, tmp_path: Path) -> None:
    model, image = tiny("vit")
    swap_attention(model, [variant, Softmax()])
    randomised(model)
    source: Any = model.state_dict()
    if form == "file":
        torch.save(source, tmp_path / "weights.pt")
        source = tmp_path / "weights.pt"
    other, _ = tiny("vit")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        load_swapped(other, source)
        assert torch.equal(other(image), model(image))
        if "q" not in variant.roles:
            with pytest.raises(RuntimeError, match=r"(?s)Missing key.*qkv.weight.*Unexpected key.*\.kv\.weight"):
                tiny("vit")[0].load_state_dict(model.state_dict())


def test_sources_that_say_nothing_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, _ = tiny("vit")
    swap_attention(model, KNN(3))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save([1], tmp_path / "list.pt")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    plain, _ = tiny("vit")
    for source, message in (
        (tmp_path / "nothing", "neither a folder nor a file"),
        (tmp_path / "model.safetensors", "says nothing of a swap .safetensors files.*swap_attention as before"),
        (plain.state_dict(), "this state_dict says nothing of a swap"),
        (tmp_path / "list.pt", "holds a list, not a state_dict"),
        (tmp_path, "config.json cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            load_swapped(plain, source)
    swin, _ = tiny("swin")
    with pytest.raises(InputError, match=r"has no attention layer 'blocks.0.attn', which was swapped in the saved"):
        load_swapped(swin, tmp_path / "weights.pt")
    wide = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=5)
    with pytest.raises(InputError, match=r"the weights of .*weights.pt do not fit this model"):
        load_swapped(wide, tmp_path / "weights.pt")
