"""The cost breakdown of models that others built: timm's, dense and swapped."""

import pytest
import timm
import torch
from kept_bytes import really_kept
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fewpairs.attention import KNN, KV, Softmax
from fewpairs.cost import TERMS, cost_breakdown
from fewpairs.cost.breakdown import parameters_and_macs, trace_model
from fewpairs.cost.empty_weights import empty_weights
from fewpairs.cost.tracing import Site, meta_copy
from fewpairs.models import create_classifier
from fewpairs.swap import swap_attention

TIMM = [
    ("deit_tiny_patch16_224", 224),
    ("visformer_tiny", 224),
    ("volo_d1_224", 224),
    ("swinv2_tiny_window8_256", 256),
    ("twins_svt_small", 224),
    ("beit_base_patch16_224", 224),
    ("eva02_tiny_patch14_224", 224),
    ("xcit_nano_12_p16_224", 224),
    ("resnet18", 224),
]


def dense(name, **options):
    with empty_weights():
        return timm.create_model(name, **options).eval()


@pytest.mark.parametrize(("name", "side"), TIMM)
def test_multiply_adds_agree_with_torchs_counter(name, side):
    model = dense(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, side, side, device="meta"))
    found = trace_model(model, (side, side))
    assert 2 * found.macs.total() == counter.get_total_flops()
    assert set(found.macs) <= set(TERMS)


def test_the_usual_count_of_deit():
    """What fvcore counts for DeiT-Tiny: 1.254 G, attention products included."""
    assert f"{parameters_and_macs(dense('deit_tiny_patch16_224'), (224, 224))[1] / 1e9:.3f}" == "1.254"


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "tnt_s_patch16_224"])
def test_swapping_moves_no_multiply_add_to_another_term(name):
    model = dense(name)
    before = trace_model(model, (224, 224)).macs
    swap_attention(model, KNN(0.5))
    after = trace_model(model, (224, 224))
    assert after.macs == before
    assert {site.variant for site in after.sites} == {KNN(0.5)}


def test_terms_of_deit_by_hand():
    terms = cost_breakdown(dense("deit_tiny_patch16_224"), (224, 224)).terms
    n, c = 197, 192
    assert {name: term.macs for name, term in terms.items() if term.macs} == {
        "embedding": 196 * 16 * 16 * 3 * c,
        "projections": 12 * 4 * n * c * c,
        "scores": 12 * n * n * c,
        "values": 12 * n * n * c,
        "feed-forward": 12 * 8 * n * c * c,
        "head": c * 1000,
    }
    assert terms["embedding"].parameters == 16 * 16 * 3 * c + c + n * c + c
    assert terms["projections"].parameters == 12 * (4 * c * c + 4 * c)
    assert terms["norm"].parameters == 25 * 2 * c


def test_tables_of_relative_positions_are_position():
    terms = cost_breakdown(dense("swin_tiny_patch4_window7_224"), (224, 224)).terms
    assert terms["position"].parameters == 13 * 13 * (2 * 3 + 2 * 6 + 6 * 12 + 2 * 24)
    assert terms["head"].parameters == 769_000


def test_biases_of_queries_and_values_are_projections():
    terms = cost_breakdown(dense("beit_base_patch16_224"), (224, 224)).terms
    assert terms["projections"].parameters == 12 * (4 * 768 * 768 + 3 * 768)


def test_dropping_the_query_takes_a_quarter_of_the_projections():
    model = dense("deit_tiny_patch16_224")
    before = trace_model(model, (224, 224)).macs
    swap_attention(model, KV())
    after = trace_model(model, (224, 224)).macs
    assert 4 * after.pop("projections") == 3 * before.pop("projections")
    assert after == before


def test_windows_count_once_each():
    with empty_weights():
        model = create_classifier("swin_nano", attention="knn")
    first = trace_model(model, (28, 28)).sites[0]
    assert first == Site("layers.0.blocks.0.attn.core", 49, 49, 2, 4, KNN(0.5))


class WrittenOut(nn.Module):
    """Attention without any of PyTorch's or fewpairs' own, in a module whose name tells."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(6, 15), nn.Linear(5, 6)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj((q @ k.transpose(1, 2)).softmax(-1) @ v)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.extra = WrittenOut(), nn.Linear(6, 2)

    def forward(self, image):
        return self.extra(self.attn(image.flatten(2).transpose(1, 2)))


def test_attention_written_out():
    cost = cost_breakdown(Model(), (3, 4), channels=6)
    assert {name: term.macs for name, term in cost.terms.items()} == {
        "projections": 12 * 6 * 15 + 12 * 5 * 6,
        "scores": 12 * 12 * 5,
        "values": 12 * 12 * 5,
        "other": 12 * 6 * 2,
    }
    assert cost.terms["other"].parameters == 14


@pytest.mark.parametrize("attention", [None, Softmax(), KNN(0.5), KNN(3)])
@pytest.mark.parametrize("name", ["swin_nano", "deit_tiny_patch16_224"])
def test_saved_bytes_are_what_autograd_keeps(name, attention):
    size = (28, 28) if name == "swin_nano" else (32, 32)
    model = create_classifier(name, attention=attention, classes=3, image_size=size)
    assert cost_breakdown(model, size).saved_bytes == really_kept(model, torch.randn(1, 3, *size))


def test_the_model_is_left_as_it_is():
    model = create_classifier("swin_nano", attention="knn", classes=3)
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    image = torch.randn(1, 3, 28, 28)
    expected = model.eval()(image)
    model.train()
    model.layers[0].eval()
    trace_model(model, (28, 28))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.eval()(image), expected)


def test_a_model_on_the_meta_device_is_left_as_it_is():
    with empty_weights():
        model = create_classifier("swin_nano", attention="knn").train()
    hooks = [(dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in model.modules()]
    trace_model(model, (28, 28))
    assert all(module.training for module in model.modules())
    assert [(dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in model.modules()] == hooks
    assert not any("forward" in vars(module) for module in model.modules())


def test_twins_share_nothing_but_shapes():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].bias.requires_grad_(False)
    twin = meta_copy(model)
    assert [(name, p.shape, p.requires_grad) for name, p in twin.named_parameters()] == [
        (name, p.shape, p.requires_grad) for name, p in model.named_parameters()
    ]
    assert all(tensor.is_meta for tensor in twin.state_dict().values())
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    twin = meta_copy(model)
    assert twin[0].weight is twin[1].weight

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = model

        def forward(self, image):
            return self.maps(image)

    assert cost_breakdown(Tied(), (2, 4), channels=1).parameters == 16 + 4 + 4


def test_weightless_models_have_shapes_alone():
    with empty_weights():
        model = nn.Linear(3, 4)
        nn.init.normal_(model.weight)
        real = torch.zeros(2, device="cpu").fill_(3)
    assert model.weight.is_meta
    assert real.tolist() == [3, 3]
    assert not nn.Linear(3, 4).weight.is_meta
