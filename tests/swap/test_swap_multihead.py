"""Any `nn.MultiheadAttention`: every argument means what it means in PyTorch's own layer."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from swapping import ALL, compiles_like_eager, same, swapped
from torch import Tensor, nn

from fewpairs import KNN, KV, swap_attention
from fewpairs.errors import InputError
from fewpairs.swap.module import SwappedModule


def layer(**options: Any) -> nn.MultiheadAttention:
    made = nn.MultiheadAttention(**{"embed_dim": 16, "num_heads": 4, **options}).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape) / 2)
    return made


def replaced(original: nn.MultiheadAttention, variant: Any = ALL) -> nn.MultiheadAttention:
    return swapped(nn.Sequential(original), variant)[0]


def agree(got: tuple[Tensor, Tensor | None], wanted: tuple[Tensor, Tensor | None]) -> None:
    assert len(got) == len(wanted) == 2
    assert got[0].shape == wanted[0].shape
    assert same(got[0], wanted[0])
    assert (got[1] is None) == (wanted[1] is None)
    if wanted[1] is not None:
        torch.testing.assert_close(got[1], wanted[1], atol=1e-6, rtol=1e-5)


def drawn_mask(shape: tuple[int, ...], kind: str) -> Tensor | None:
    """Of the kind; the first key is never masked, so that each query has one."""
    if kind == "none":
        return None
    if kind == "numbers":
        return torch.randn(shape)
    mask = torch.rand(shape) < 0.5
    mask[..., 0] = False
    return mask


masks = st.sampled_from(["none", "bool", "numbers"])


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    masks,
    masks,
    st.booleans(),
    st.booleans(),
)
def test_every_argument_means_what_it_means_in_pytorch(
    batch_first: bool,
    bias: bool,
    cross: bool,
    batched: bool,
    widths: bool,
    pairs: str,
    padding: str,
    need_weights: bool,
    average: bool,
) -> None:
    original = layer(batch_first=batch_first, bias=bias, **({"kdim": 12, "vdim": 20} if cross and widths else {}))
    b, n, m = 3, 5, 7 if cross else 5
    query = torch.randn(b, n, 16)
    key, value = query, query
    if cross:
        key, value = torch.randn(b, m, original.kdim), torch.randn(b, m, original.vdim)
    if not batched:
        b, query, key, value = 1, query[0], key[0], value[0]
        key = value = query if not cross else key
        value = torch.randn(m, original.vdim) if cross else query
    elif not batch_first:
        same_tensor = query is key
        query = query.transpose(0, 1)
        key, value = (query, query) if same_tensor else (key.transpose(0, 1), value.transpose(0, 1))
    attn_mask = drawn_mask((b * 4, n, m) if average else (n, m), pairs)
    key_padding_mask = drawn_mask((b, m) if batched else (m,), padding)
    options = {
        "attn_mask": attn_mask,
        "key_padding_mask": key_padding_mask,
        "need_weights": need_weights,
        "average_attn_weights": average,
    }
    with torch.no_grad():
        agree(replaced(original)(query, key, value, **options), original(query, key, value, **options))


@pytest.mark.parametrize("need_weights", [False, True])
def test_only_the_best_keys_have_weight(need_weights: bool) -> None:
    original = layer(batch_first=True)
    x, y = torch.randn(2, 5, 16), torch.randn(2, 9, 16)
    mixed, weights = replaced(original, KNN(topk=3))(x, y, y, need_weights=True, average_attn_weights=False)
    assert ((weights > 0).sum(-1) == 3).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    _, full = original(x, y, y, average_attn_weights=False)
    assert torch.equal(weights > 0, full >= full.topk(3).values[..., -1:])
    if not need_weights:
        again, none = replaced(original, KNN(topk=3))(x, y, y, need_weights=False)
        assert none is None
        torch.testing.assert_close(again, mixed)


def test_gradients_are_the_originals() -> None:
    original = layer(batch_first=True)
    ours = replaced(original)
    x, y = torch.randn(2, 5, 16), torch.randn(2, 9, 16)
    for each in (original, ours):
        each.train()(x, y, y, need_weights=False)[0].square().sum().backward()
    theirs = {name: p.grad for name, p in original.named_parameters()}
    assert theirs.keys() == {name for name, _ in ours.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], atol=1e-4, rtol=1e-4)


def test_dropout_draws_what_pytorch_draws_for_weights() -> None:
    original = layer(dropout=0.5, batch_first=True)
    ours, x = replaced(original), torch.randn(2, 5, 16)
    assert ours.core.attn_drop.p == 0.5
    with torch.no_grad():
        quiet = original(x, x, x)
        torch.manual_seed(1)
        wanted = original.train()(x, x, x)
        torch.manual_seed(1)
        agree(ours.train()(x, x, x), wanted)
        assert not same(wanted[0], quiet[0], 1e-2)
        agree(ours.eval()(x, x, x), quiet)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_kv_is_the_original_where_queries_are_keys(separate: bool, bias: bool) -> None:
    original = layer(bias=bias, **({"vdim": 20} if separate else {}))
    query, value = torch.randn(5, 2, 16), torch.randn(5, 2, 20 if separate else 16)
    with torch.no_grad():
        if separate:
            original.q_proj_weight.copy_(original.k_proj_weight)
        else:
            original.in_proj_weight[:16] = original.in_proj_weight[16:32]
        if bias:
            original.in_proj_bias[:16] = original.in_proj_bias[16:32]
        model = nn.Sequential(copy.deepcopy(original))
        receipt = swap_attention(model, "kv")
        mask = torch.rand(5, 5) < 0.3
        mask.fill_diagonal_(False)
        agree(model[0](query, query, value, attn_mask=mask), original(query, query, value, attn_mask=mask))
    gone = {key for key, now in receipt.key_map.items() if now is None}
    assert gone == ({"0.q_proj_weight"} if separate else set())
    assert receipt.key_map.get("0.in_proj_weight") == (None if separate else "0.kv_proj_weight")
    assert receipt.key_map.get("0.in_proj_bias") == ("0.kv_proj_bias" if bias else None)
    assert receipt.parameters_before - receipt.parameters_after == 16 * 16 + 16 * bias


def test_keys_and_checkpoints_go_to_and_fro() -> None:
    original, x = layer(), torch.randn(5, 2, 16)
    ours = replaced(original, KNN(topk=2))
    assert list(ours.state_dict()) == list(original.state_dict())
    wanted = ours(x, x, x)
    other = pickle.loads(pickle.dumps(replaced(layer(), KNN(topk=2))))
    other.load_state_dict(original.state_dict())
    agree(other(x, x, x), wanted)
    kv = replaced(original, "kv")
    stored = pickle.loads(pickle.dumps(kv))
    assert list(stored.state_dict()) == ["kv_proj_weight", "kv_proj_bias", "out_proj.weight", "out_proj.bias"]
    stored.load_state_dict(kv.state_dict(), assign=True)
    agree(copy.deepcopy(stored)(x, x, x), kv(x, x, x))


@pytest.mark.parametrize("variant", [KNN(topk=2), KV()], ids=["knn", "kv"])
def test_compiles_without_a_graph_break(variant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the checks of tests alone would break the graph

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = replaced(layer(batch_first=True), variant)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, key_padding_mask=x[..., 0] > 2)[0]

    assert compiles_like_eager(Model(), torch.randn(2, 5, 16))


def encoder(**options: Any) -> nn.TransformerEncoder:
    made = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.2, **{"batch_first": True, **options})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="enable_nested_tensor is True")
        return nn.TransformerEncoder(made, 2).eval()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("options", [{}, {"norm_first": True}, {"batch_first": False}], ids=str)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("where", [None, 0, 1])
@pytest.mark.parametrize("padded", [False, True])
def test_the_fast_path_of_an_encoder_does_not_pass_by_the_swapped_layer(
    options: dict[str, Any], grad: bool, where: int | None, padded: bool
) -> None:
    """In evaluation PyTorch's encoder calls no attention layer at all if it may, and packs padded batches."""
    model = encoder(**options)
    x = torch.randn(3, 7, 16) if options.get("batch_first", True) else torch.randn(7, 3, 16)
    padding = torch.arange(7) >= torch.tensor([7, 4, 5])[:, None] if padded else None
    ours, few = swapped(model, where=where), swapped(model, KNN(topk=1), where=where)
    with torch.set_grad_enabled(grad):
        wanted = model(x, src_key_padding_mask=padding)
        assert same(ours(x, src_key_padding_mask=padding), wanted)
        assert not same(few(x, src_key_padding_mask=padding), wanted, 1e-2)
        assert swapped(model, "kv", where=where)(x, src_key_padding_mask=padding).isfinite().all()


def test_an_encoder_trains_with_the_same_seed_to_the_same_loss() -> None:
    model, x = encoder(), torch.randn(3, 7, 16)
    for layer_ in model.layers:
        layer_.self_attn.dropout = 0.0
    ours = swapped(model)
    torch.manual_seed(1)
    wanted = model.train()(x)
    torch.manual_seed(1)
    assert same(ours.train()(x), wanted)


def test_a_decoder_attends_to_itself_with_a_causal_mask_and_to_its_memory() -> None:
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2).eval()
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 9, 16)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    receipt = swap_attention(ours := copy.deepcopy(model), ALL)
    assert [found.name for found in receipt.swapped] == [
        f"layers.{i}.{part}" for i in (0, 1) for part in ("self_attn", "multihead_attn")
    ]
    with torch.no_grad():
        wanted = model(x, memory, tgt_mask=causal, tgt_is_causal=True)
        assert same(ours(x, memory, tgt_mask=causal, tgt_is_causal=True), wanted)
        swap_attention(alone := copy.deepcopy(model), "kv", where="*.self_attn")
        assert alone(x, memory, tgt_mask=causal).isfinite().all()
        swap_attention(both := copy.deepcopy(model), "kv")
        with pytest.raises(InputError, match="different query and key, as in cross-attention; exclude it"):
            both(x, memory)


@pytest.mark.parametrize(
    ("options", "reason"), [({"add_bias_kv": True}, "add_bias_kv"), ({"add_zero_attn": True}, "add_zero_attn")]
)
@pytest.mark.parametrize("variant", ["knn", "kv"])
def test_layers_with_keys_of_their_own_are_left_with_the_reason(
    options: dict[str, bool], reason: str, variant: str
) -> None:
    model = nn.Sequential(layer(**options), layer())
    receipt = swap_attention(model, variant)
    assert [(left.name, reason in left.reason) for left in receipt.left] == [("0", True)]
    assert isinstance(model[1], SwappedModule)
    assert not isinstance(model[0], SwappedModule)


def test_kv_is_refused_where_keys_are_made_of_something_else() -> None:
    with pytest.raises(InputError, match="keys come from 12 features and queries from 16"):
        swap_attention(nn.Sequential(layer(kdim=12)), "kv")


X = torch.zeros(2, 5, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attn_mask": torch.zeros(5, 6)}, r"attn_mask has the shape \[5, 6\]; .* here \[5, 5\] or \[8, 5, 5\]"),
        ({"attn_mask": torch.zeros(5, 5, dtype=torch.int)}, "attn_mask has the dtype torch.int32"),
        (
            {"key_padding_mask": torch.zeros(5)},
            r"key_padding_mask has the shape \[5\]; allowed: \[b m\], here \[2, 5\]",
        ),
        ({"is_causal": True}, "pass the causal attn_mask"),
    ],
)
def test_masks_that_do_not_fit_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replaced(layer(batch_first=True))(X, X, X, **options)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_are_served_without_masks_alone() -> None:
    ours = replaced(layer(batch_first=True))
    nested = torch.nested.nested_tensor([torch.randn(3, 16), torch.randn(5, 16)])
    with torch.no_grad():
        got, weights = ours(nested, nested, nested)
        for x, y, w in zip(nested.unbind(), got.unbind(), weights, strict=True):
            alone, its = ours(x, x, x)
            torch.testing.assert_close(y, alone)
            torch.testing.assert_close(w[: len(x), : len(x)], its)
        with pytest.raises(InputError, match="nested tensors"):
            ours(nested, nested, nested, key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))
