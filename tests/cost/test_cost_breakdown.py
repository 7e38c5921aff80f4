"""The cost breakdown against the published counts, torch's own counter and what autograd keeps."""

import itertools

import pytest
import torch
from kept_bytes import really_kept
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fewpairs.attention import KNN, KV, VARIANTS, KeyOnly, KVPos, LinearProjection, MultiHead, Softmax
from fewpairs.cost import TERMS, cost_breakdown
from fewpairs.cost.breakdown import parameters_and_macs
from fewpairs.cost.memory import LiveBytes
from fewpairs.models import create_encoder, create_segmenter
from fewpairs.models.catalogue import compare_attentions
from fewpairs.types import Grid

CASES = [
    *itertools.product(("setr_pup_small", "conv_setr_cup_small", "cvt_setr_pup_small"), VARIANTS),
    ("setr_mla_small", "kv"),
    ("setr_naive_small", "softmax"),
]
"""Every decoder, every encoder, and every attention in every encoder."""

PUBLISHED = [
    ("vit_b16", 224, "softmax", "85.80", "17.47"),
    ("vit_b16", 224, "kv", "78.71", "16.08"),
    ("vit_b16", 256, "softmax", "85.84", "23.10"),
    ("vit_b16", 256, "kv", "78.76", "21.29"),
    ("vit_s16", 256, "softmax", "21.69", "6.12"),
    ("vit_s16", 256, "kv", "19.91", "5.66"),
    ("vit_b16_mlp3", 256, "softmax", "71.68", "19.48"),
    ("vit_b16_mlp3", 256, "kv", "64.59", "17.67"),
    ("cvt_13", 224, "softmax", "20.00", "4.57"),
    ("cvt_13_stride1", 224, "softmax", "20.00", "6.64"),
    ("cvt_13_stride1", 224, "kv", "18.39", "6.27"),
]
"""Encoder, side in pixels, attention, million parameters and thousand million multiply-adds."""


@pytest.mark.parametrize(("name", "side", "attention", "parameters", "macs"), PUBLISHED)
def test_known_counts(name, side, attention, parameters, macs):
    with torch.device("meta"):
        model = create_encoder(name, attention=VARIANTS[attention](), image_size=(side, side))
    counted = parameters_and_macs(model, (side, side))
    assert f"{counted[0] / 1e6:.2f}" == parameters
    assert f"{counted[1] / 1e9:.2f}" == macs


def flops(model, image):
    """Torch's own count, two for each multiply-add, attention products included."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(image, auxiliary=True) if hasattr(model, "aux_heads") else model.eval()(image)
    return counter.get_total_flops()


DENSE = [(name, attention) for name, attention in CASES if attention not in ("knn", "keyonly")]
"""k-NN attention is counted by its dense products, whatever the kernels do; key-only attention has none. See below."""


@pytest.mark.parametrize(("name", "attention"), [*DENSE, ("conv_setr_cup_r50_vit_b16", "kv")])
def test_multiply_adds_agree_with_torchs_counter(name, attention):
    with torch.device("meta"):
        model = create_segmenter(name, attention=VARIANTS[attention](), classes=2, in_channels=1, auxiliary=True)
        counted = flops(model, torch.empty(1, 1, 41, 70))
    macs = parameters_and_macs(model, (41, 70), channels=1)[1]
    if attention == "kvpos":
        # torch leaves the product of the position table with a vector out
        macs -= cost_breakdown(model, (41, 70), channels=1).terms["position"].macs
    assert counted == 2 * macs


@pytest.mark.parametrize("name", ["setr_pup_small", "cvt_setr_pup_small"])
def test_key_neighbours_cost_what_softmax_costs(name):
    with torch.device("meta"):
        models = [create_segmenter(name, attention=variant, classes=2) for variant in (Softmax(), KNN(0.25), KNN(3))]
    assert len({parameters_and_macs(model, (41, 70)) for model in models}) == 1


@pytest.mark.parametrize("form", ["R1", "R1c", "R2", "R3", "R3-R2"])
def test_key_only_attention_costs_twice_as_much_for_twice_the_positions(form):
    with torch.device("meta"):
        layers = [MultiHead(16, 2, KeyOnly(form), project=LinearProjection) for _ in range(2)]
    one, two = (
        cost_breakdown(_OnGrid(layer, side), (8, side), channels=16)
        for layer, side in zip(layers, (24, 48), strict=True)
    )
    assert two.macs == 2 * one.macs
    assert two.saved_bytes - one.saved_bytes == pytest.approx(one.saved_bytes, rel=0.02)
    products = {"R1": 3, "R1c": 2, "R2": 4, "R3": 12, "R3-R2": 13}[form]
    assert one.macs == 8 * 24 * (3 * 16 * 16 + products * 16)


class _OnGrid(nn.Module):
    """Every pixel a token."""

    def __init__(self, attention, side):
        super().__init__()
        self.attention, self.grid = attention, Grid(8, side)

    def forward(self, image):
        return self.attention(image.flatten(2).mT, self.grid)


@pytest.mark.parametrize("stride", ["cvt_13", "cvt_13_stride1"])
def test_strided_keys_agree_with_torchs_counter(stride):
    with torch.device("meta"):
        model = create_encoder(stride)
        counted = flops(model, torch.empty(1, 3, 64, 80))
    assert counted == 2 * parameters_and_macs(model, (64, 80))[1]


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_saved_bytes_are_what_autograd_keeps(name, attention):
    model = create_segmenter(name, attention=VARIANTS[attention](), classes=2, in_channels=2, auxiliary=True)
    cost = cost_breakdown(model, (40, 56), channels=2)
    assert cost.saved_bytes == really_kept(model, torch.randn(1, 2, 40, 56), auxiliary=True)


class OneLayer(nn.Module):
    """An attention layer that calls itself by the size of the image."""

    def __init__(self, variant):
        super().__init__()
        self.attn = MultiHead(32, 4, variant)

    def forward(self, image):
        from fewpairs.types import Grid

        tokens = image.flatten(2).transpose(1, 2)
        return self.attn(tokens, Grid(*image.shape[2:]))


@pytest.mark.parametrize(("variant", "roles"), [(Softmax(), 3), (KV(), 2)])
def test_terms_of_one_layer_by_hand(variant, roles):
    n, d, heads = 5 * 7, 32, 4
    cost = cost_breakdown(OneLayer(variant), (5, 7), channels=32)
    assert {name: term.macs for name, term in cost.terms.items()} == {
        "projections": (roles + 1) * n * d * d,
        "scores": n * n * d,
        "values": n * n * d,
    }
    assert cost.terms["projections"].parameters == (roles + 1) * (d * d + d)
    # the heads; one logarithm of a sum a row and head; the mixed values, which the output map keeps too
    assert cost.terms["projections"].saved_bytes == 4 * roles * n * d
    assert cost.terms["scores"].saved_bytes == 4 * heads * n
    assert cost.terms["values"].saved_bytes == 4 * n * d


def test_key_value_attention_saves_query_weights_and_nothing_else():
    softmax, kv = (cost_breakdown(OneLayer(variant), (6, 6), channels=32) for variant in (Softmax(), KV()))
    assert softmax.parameters - kv.parameters == 32 * 32 + 32
    assert softmax.macs - kv.macs == 36 * 32 * 32
    assert softmax.saved_bytes - kv.saved_bytes == 4 * 36 * 32


def test_position_weights_have_a_term():
    cost = cost_breakdown(OneLayer(KVPos(d_pos=10)), (6, 6), channels=32)
    assert cost.terms["position"].parameters == 10
    assert cost.terms["position"].macs == 36 * 4
    assert cost.terms["position"].saved_bytes > 0


def test_the_model_is_left_as_it_is():
    model = create_segmenter("setr_naive_small", classes=1).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost_breakdown(model, (16, 16))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.decoder.modules())


def test_terms_add_up_and_keep_their_order():
    model = create_segmenter("conv_setr_cup_small", attention=KVPos(), classes=3, auxiliary=True)
    cost = cost_breakdown(model, (64, 64))
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert list(cost.terms) == [name for name in TERMS if name in cost.terms]
    assert set(TERMS) - set(cost.terms) == {"convolutions", "head", "other"}
    assert cost.terms["decoder"].parameters == sum(p.numel() for p in model.decoder.parameters())
    assert cost.terms["auxiliary"].parameters == sum(p.numel() for p in model.aux_heads.parameters())
    assert cost.terms["stem"].parameters == sum(p.numel() for p in model.encoder.stem.parameters())


def test_inference_peak_by_hand():
    """Input map (alive until replaced) and the one being made: 100 + 200 numbers at the widest."""

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, image):
            x = self.wide(image)
            x = x.relu()
            return self.narrow(x)

    assert cost_breakdown(Chain(), (10, 10), channels=1).inference_bytes == 4 * (200 + 200)


def test_live_bytes_fall_again():
    with LiveBytes() as live, torch.no_grad():
        a = torch.empty(10, device="meta")
        b = a + 1
        view = b.reshape(2, 5)
        del a
        assert live.now == 40
        del b
        assert live.now == 40
        del view
        assert live.now == 0
    assert live.peak == 80


def test_memory_grows_linearly_with_fused_attention():
    """No term is quadratic in the number of tokens: the scores are never held."""
    one, four = (
        compare_attentions("vit_s16", ["softmax"], size=side).breakdowns["softmax"] for side in ((128, 128), (256, 256))
    )
    assert four.terms["scores"].saved_bytes == 4 * one.terms["scores"].saved_bytes
    assert four.saved_bytes == pytest.approx(4 * one.saved_bytes, rel=0.01)
    assert four.terms["scores"].macs == 16 * one.terms["scores"].macs
