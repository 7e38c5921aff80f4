"""Padded batches: real tokens get what they get alone, and a token that sees no key gets zeros, as PyTorch gives it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from fewpairs import KNN, KV, Softmax, swap_attention
from fewpairs.swap import register_transformers
from fewpairs.swap.module import SwappedModule

pytestmark = pytest.mark.usefixtures("uncounted")

sides = pytest.mark.parametrize("side", ["left", "right"])


def padded(side: str, length: int = 9, real: int = 5) -> Tensor:
    """1 for the real tokens of two texts, the second of which is padded on one side."""
    mask = torch.ones(2, length, dtype=torch.long)
    if side == "left":
        mask[1, : length - real] = 0
    else:
        mask[1, real:] = 0
    return mask


def text_model(implementation: str) -> nn.Module:
    config = transformers.CLIPTextConfig(
        vocab_size=20,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    model = transformers.CLIPTextModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.set_attn_implementation(implementation)
    return model


def hidden(model: nn.Module, words: Tensor, mask: Tensor) -> Tensor:
    positions = (mask.cumsum(-1) - 1).clamp(min=0)  # whatever the side, real tokens are counted from 0
    with torch.no_grad():
        state: Tensor = model(words, attention_mask=mask, position_ids=positions).last_hidden_state
    return state


@sides
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("variant", ["by name", KNN(3), KV(), Softmax()], ids=["named", "knn", "kv", "softmax"])
def test_real_tokens_of_transformers_are_those_of_texts_alone(side: str, implementation: str, variant: Any) -> None:
    model = text_model(implementation)
    if variant == "by name":
        register_transformers(3, name="three")
        model.set_attn_implementation("three")
    else:
        swap_attention(model, variant)
    words, mask = torch.randint(3, 20, (2, 9)), padded(side)
    got = hidden(model, words, mask)
    assert got.isfinite().all()
    for one in range(2):
        real = mask[one].bool()
        alone = hidden(model, words[one, real][None], torch.ones(1, int(real.sum()), dtype=torch.long))
        torch.testing.assert_close(got[one, real], alone[0], atol=1e-5, rtol=1e-5)


@sides
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_with_all_keys_every_token_is_that_of_transformers_sdpa(side: str, implementation: str) -> None:
    words, mask = torch.randint(3, 20, (2, 9)), padded(side)
    wanted = hidden(text_model("sdpa"), words, mask)
    model = text_model(implementation)
    swap_attention(model, KNN(100))
    torch.testing.assert_close(hidden(model, words, mask), wanted, atol=1e-5, rtol=1e-5)


LOWEST = torch.finfo(torch.float32).min


@pytest.mark.parametrize("lowest", ["bool", -torch.inf, LOWEST])
@pytest.mark.parametrize("topk", [3, 100])
@pytest.mark.parametrize("by", ["name", "swap"])
def test_a_row_without_keys_is_zeros_however_transformers_says_so(lowest: Any, topk: int, by: str) -> None:
    register_transformers(topk, name="some")
    q, k, v = torch.randn(3, 2, 2, 5, 16)
    there = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    there[1, :, :, :2] = False
    mask = there if lowest == "bool" else torch.zeros(2, 1, 5, 5).masked_fill(~there, lowest)
    attend = transformers.AttentionInterface._global_mapping["some" if by == "name" else "fewpairs"]
    layer: Any = nn.Module()
    if by == "swap":
        model = text_model("sdpa")
        swap_attention(model, KNN(topk))
        layer = next(module for module in model.modules() if isinstance(module, SwappedModule))
    got, _ = attend(layer, q, k, v, mask)
    few = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=there).transpose(1, 2)
    assert (got[1, :2] == 0).all()
    if topk == 100:
        torch.testing.assert_close(got, few)


def encoder() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    return nn.ModuleList([layer]), torch.randn(2, 9, 32)


@sides
@pytest.mark.parametrize("form", ["bool", "-inf"])
@pytest.mark.parametrize("variant", [KNN(3), KNN(100), KV(), Softmax()], ids=["few", "all", "kv", "softmax"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.usefixtures("unchecked")
def test_pytorchs_own_layer_on_padded_batches(side: str, form: str, variant: Any, compiled: bool) -> None:
    model, x = encoder()
    dense = copy.deepcopy(model[0])
    swap_attention(model, variant)
    out: Tensor = padded(side) == 0  # True for padding, as PyTorch has it
    causal = torch.ones(9, 9, dtype=torch.bool).triu(1)
    if form == "-inf":
        out, causal = (torch.zeros(mask.shape).masked_fill(mask, -torch.inf) for mask in (out, causal))
    attend: Any = torch.compile(model[0], backend="eager") if compiled else model[0]
    torch.compiler.reset()
    with torch.no_grad():
        got, _ = attend(x, x, x, key_padding_mask=out, attn_mask=causal, need_weights=False)
        mapped, weights = model[0](x, x, x, key_padding_mask=out, attn_mask=causal)
        real = padded(side).bool()
        one = x[1:, real[1]]
        alone, _ = model[0](one, one, one, attn_mask=causal[:5, :5])
    torch.testing.assert_close(got, mapped, atol=1e-5, rtol=1e-5)
    assert got.isfinite().all()
    assert weights.isfinite().all()
    torch.testing.assert_close(got[1, real[1]], alone[0], atol=1e-5, rtol=1e-5)
    if side == "left":
        assert (weights[1, :4] == 0).all()
        torch.testing.assert_close(got[1, :4], dense.out_proj.bias.expand(4, -1))
    if variant in (KNN(100), Softmax()):
        with torch.no_grad():
            wanted = dense(x, x, x, key_padding_mask=out, attn_mask=causal, need_weights=False)[0]
        torch.testing.assert_close(got[real], wanted[real], atol=1e-5, rtol=1e-5)
