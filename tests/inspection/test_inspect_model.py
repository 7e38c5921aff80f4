"""Studies of whole models: against the dense model built by itself, gradients by hand, places by sensitivity."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from fewpairs import swap_attention
from fewpairs.attention import KNN, Core, Softmax
from fewpairs.errors import InputError
from fewpairs.inspection import Inspection, LayerInspection, inspect_attention
from fewpairs.inspection.capture import Recorder, evaluating
from fewpairs.inspection.layers import block_of, find_cores, layer_name
from fewpairs.models.classifiers import create_classifier

SMALL = ("vit_nano", "cvt_nano", "swin_nano")


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(3, 28, 28, generator=torch.Generator().manual_seed(5))


def classifier(name: str, attention: Any = "knn") -> nn.Module:
    """With weights large enough that heads prefer some keys."""
    torch.manual_seed(0)
    model = create_classifier(name, attention=attention, classes=5)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model.eval()


@pytest.fixture(scope="module", params=SMALL)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    """A model with k-NN attention, and the dense one of the same weights."""
    model, dense = classifier(request.param), classifier(request.param, "softmax")
    dense.load_state_dict(model.state_dict())
    return model, dense


@pytest.fixture(scope="module")
def studied(pair: tuple[nn.Module, nn.Module], image: torch.Tensor) -> tuple[Inspection, Inspection]:
    return inspect_attention(pair[0], image, target=2), inspect_attention(pair[1], image, target=2)


def test_every_attention_layer_is_studied(pair: tuple[nn.Module, nn.Module], studied: Any) -> None:
    cores, layers = find_cores(pair[0]), studied[0].layers
    assert [layer.name for layer in layers] == [layer_name(name) for name in cores]
    assert [layer.index for layer in layers] == list(range(len(cores)))
    for layer, core in zip(layers, cores.values(), strict=True):
        assert layer.kept == max(1, math.floor(core.variant.topk * layer.keys + 0.5))
        assert len(layer.entropy.heads) == layer.heads == core.heads
        assert layer.grid is not None


def test_entropies_and_dropped_mass_are_in_their_bounds(studied: Any) -> None:
    for layer in studied[0].layers:
        assert 0 <= layer.dropped.all.low <= layer.dropped.all.high < 1
        assert layer.dropped.all.mean > 0.01
        assert layer.entropy.all.high <= math.log(layer.keys) + 1e-5
        assert layer.entropy_kept.all.high <= math.log(layer.kept) + 1e-5


def test_drawn_queries_keep_k_keys_and_lose_what_the_others_weigh(studied: Any) -> None:
    for layer in studied[0].layers:
        assert [row.label for row in layer.rows][-3:] == ["1: 14, 14", "2: 7, 7", "3: 21, 21"]
        for row in layer.rows:
            assert (row.kept.sum(-1) == layer.kept).all()
            torch.testing.assert_close(torch.from_numpy(row.truncated.sum(-1)), torch.ones(layer.heads))
            assert (row.truncated[~row.kept] == 0).all()


def test_the_dense_twin_is_the_dense_model_of_the_same_weights(studied: Any) -> None:
    knn, dense = studied
    assert knn.target.logit_dense == pytest.approx(dense.target.logit, rel=1e-4)
    assert abs(knn.target.logit - dense.target.logit) > 1e-4
    assert dense.target.logit_dense is None
    for one, other in zip(knn.blocks, dense.blocks, strict=True):
        assert one.similarity_dense == pytest.approx(other.similarity, rel=1e-4)
        assert one.update_dense == pytest.approx(other.update, rel=1e-4)
        assert other.similarity_dense is None
    for one, other in zip(knn.layers, dense.layers, strict=True):
        assert one.gradient_dense.attention == pytest.approx(other.gradient.attention, rel=1e-3)
        assert one.gradient_dense.roles["q"] == pytest.approx(other.gradient.roles["q"], rel=1e-3)
        assert other.gradient_dense is None
        assert other.dropped is None
        assert other.kept is None
    assert knn.layers[0].entropy.all.mean == pytest.approx(dense.layers[0].entropy.all.mean, rel=1e-5)


def retained(model: nn.Module) -> dict[str, tuple[torch.Tensor, ...]]:
    """What enters each attention layer, filled by the next pass and keeping its gradient."""
    taken: dict[str, tuple[torch.Tensor, ...]] = {}

    def keep(name: str, roles: tuple[torch.Tensor, ...]) -> None:
        for role in roles:
            role.retain_grad()
        taken[name] = roles

    for name, core in find_cores(model).items():
        core.register_forward_pre_hook(lambda _core, roles, name=name: keep(name, roles))
    return taken


def test_gradient_norms_are_autograds(pair: tuple[nn.Module, nn.Module], image: torch.Tensor, studied: Any) -> None:
    for model, study in zip(pair, studied, strict=True):
        taken = retained(model)
        model.zero_grad()
        model(image[None])[0, 2].backward()
        for layer, name in zip(study.layers, taken, strict=True):
            for part, norm in ((layer.name, layer.gradient.attention), (layer.block, layer.gradient.block)):
                squares = sum(p.grad.square().sum() for p in model.get_submodule(part).parameters())
                assert norm == pytest.approx(float(squares.sqrt()), rel=1e-4), layer.name
            for role, tensor in zip("qkv", taken[name], strict=True):
                assert layer.gradient.roles[role] == pytest.approx(float(tensor.grad.norm()), rel=1e-4)
        for core in find_cores(model).values():
            core._forward_pre_hooks.clear()
        model.zero_grad(set_to_none=True)


def test_similarity_and_update_are_of_the_blocks_tokens(image: torch.Tensor) -> None:
    model = classifier("vit_nano")
    seen: list[torch.Tensor] = []
    for hooked in (model.blocks[2], model.blocks[3]):
        hooked.register_forward_hook(lambda _m, _i, out: seen.append(out[0].detach().double()))
    study = inspect_attention(model, image, gradients=False)
    before, after = seen[:2]
    unit = after[1:] / after[1:].norm(dim=-1, keepdim=True)
    pairs = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]
    assert study.blocks[3].similarity == pytest.approx(float(pairs.mean()))
    assert study.blocks[3].update == pytest.approx(float(((after - before).norm(dim=-1) / before.norm(dim=-1)).mean()))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("point", [(3, 17), (26, 5), (14, 14)])
def test_a_query_lies_where_the_image_moves_it(name: str, point: tuple[int, int], image: torch.Tensor) -> None:
    """Of all pixels, those within the query's own cell change it the most: also in shifted windows."""
    model = classifier(name, "softmax")
    x = image[None].clone().requires_grad_()
    taken: dict[str, torch.Tensor] = {}
    for core_name, core in find_cores(model).items():
        core.register_forward_pre_hook(lambda _c, roles, n=core_name: taken.update({n: roles[0]}))
    model(x)
    entered = dict(taken)
    study = inspect_attention(model, image, queries=[point], gradients=False)
    early = [layer for layer in study.layers if layer.block.endswith((".0", ".1"))][:2]
    for layer in early:
        row, (h, w) = layer.rows[-1], layer.grid or (0, 0)
        query = entered[f"{layer.name}.core"][row.position.batch, :, row.position.token]
        (gradient,) = torch.autograd.grad(query.square().sum(), x, retain_graph=True)
        energy = gradient[0].square().sum(0).reshape(h, 28 // h, w, 28 // w).sum((1, 3))
        found, own = divmod(int(energy.argmax()), w), (point[0] * h // 28, point[1] * w // 28)
        # CvT's convolutions reach into the neighbouring cells
        assert max(abs(found[0] - own[0]), abs(found[1] - own[1])) <= (name == "cvt_nano"), layer.name


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_a_model_is_left_as_it_was(image: torch.Tensor) -> None:
    model = classifier("vit_nano").train()
    own = hooks(model)
    model.blocks[1].eval()
    model.head.weight.requires_grad_(False)
    variants = [core.variant for core in find_cores(model).values()]
    modes = [module.training for module in model.modules()]
    needs = [parameter.requires_grad for parameter in model.parameters()]
    study = inspect_attention(model, image)
    again = inspect_attention(model, image)
    assert study.layers[3].gradient == again.layers[3].gradient
    assert [core.variant for core in find_cores(model).values()] == variants
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == needs
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hooks(model) == own


def test_a_model_is_left_as_it_was_when_it_fails(image: torch.Tensor) -> None:
    model = classifier("vit_nano").train()
    own = hooks(model)
    with pytest.raises(InputError, match="the model cannot take an image of 2 channels and 28 x 28 pixels"):
        inspect_attention(model, image[:2])
    assert model.training
    assert all(isinstance(core.variant, KNN) for core in find_cores(model).values())
    assert hooks(model) == own


def test_frozen_models_have_gradients_too(image: torch.Tensor) -> None:
    free, frozen = classifier("vit_nano"), classifier("vit_nano").requires_grad_(False)
    one, other = inspect_attention(free, image), inspect_attention(frozen, image)
    assert one.layers[0].gradient == other.layers[0].gradient


def test_layers_choose_what_is_drawn_and_not_what_is_measured(image: torch.Tensor) -> None:
    model = classifier("vit_nano")
    study = inspect_attention(model, image, layers=[0, -1, "blocks.[23].*"], gradients=False)
    assert [bool(layer.rows) for layer in study.layers] == [True, False, True, True, False, True]
    assert all(layer.dropped is not None for layer in study.layers)


def test_a_layer_of_another_kind_keeps_every_key(image: torch.Tensor) -> None:
    model = create_classifier("swin_nano", classes=5)
    swap_attention(model, "knn", where="layers.1.*")
    swap_attention(model, "softmax", where="layers.0.*")
    study = inspect_attention(model, image)
    assert [layer.kept is None for layer in study.layers] == [True, True, False, False, False, False]
    assert [layer.gradient_dense is None for layer in study.layers] == [True, True, False, False, False, False]
    assert study.truncates


def layers_of(name: str, size: int = 224) -> tuple[LayerInspection, ...]:
    import timm

    model = timm.create_model(name, num_classes=3)
    swap_attention(model, KNN(0.5))
    return inspect_attention(model, torch.randn(3, size, size), gradients=False).layers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("twins_svt_small", {(56, 56), (28, 28), (14, 14), (7, 7)}),
        ("tnt_s_legacy_patch16_224", {(56, 56), (14, 14)}),
        ("volo_d1_224", {(14, 14), None}),
        ("pvt_v2_b0", {(56, 56), (28, 28), (14, 14), (7, 7)}),
        ("visformer_tiny", {(14, 14), (7, 7)}),
        ("pit_ti_224", {(27, 27), (14, 14), (7, 7)}),
    ],
)
def test_places_in_other_families(name: str, grids: set[tuple[int, int] | None]) -> None:
    layers = layers_of(name)
    assert {layer.grid for layer in layers} == grids
    assert all(len(layer.rows) >= 1 for layer in layers)


def test_a_model_without_classes_has_no_target(image: torch.Tensor) -> None:
    model = create_classifier("vit_nano", attention="knn", classes=0)
    study = inspect_attention(model, image)
    assert study.target is None
    assert study.layers[0].gradient is None
    assert study.blocks[0].similarity_dense is not None
    assert any("no class logits" in note for note in study.notes)
    with pytest.raises(InputError, match="target=0: the model gives no class logits"):
        inspect_attention(model, image, target=0)


def test_logits_of_a_map_count_by_their_mean(image: torch.Tensor) -> None:
    from fewpairs.models import create_segmenter

    model = create_segmenter("setr_pup_small", attention=KNN(0.5), classes=2, in_channels=3, image_size=(32, 32)).eval()
    study = inspect_attention(model, image[:, :16, :], layers=[], target=1)
    with torch.no_grad():
        expected = float(model(image[None, :, :16])[0, 1].mean())
    assert study.target is not None
    assert study.target.logit == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": [(28, 0)]}, r"query 28,0 \(row, column\) lies outside the image of 28 x 28 pixels"),
        ({"queries": [(0, -1)]}, "query 0,-1"),
        ({"layers": [6]}, "layer 6 does not exist; the model has 6 attention layers, 0 to 5"),
        ({"layers": [-7]}, "layer -7 does not exist"),
        ({"layers": ["stages.*"]}, "no attention layer's name fits 'stages"),
        ({"target": 5}, "target=5 is no class of the model; allowed: 0 to 4"),
        ({"target": -1}, "target=-1 is no class"),
    ],
)
def test_what_does_not_fit_the_model_is_one_message(options: dict[str, Any], message: str, image: torch.Tensor) -> None:
    with pytest.raises(InputError, match=message):
        inspect_attention(classifier("vit_nano"), image, **options)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (28, 28), (3, 0, 28)])
def test_one_image_at_a_time(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="it must be one image"):
        inspect_attention(classifier("vit_nano"), torch.zeros(shape))


def test_models_that_cannot_be_looked_into(image: torch.Tensor) -> None:
    import timm

    with pytest.raises(InputError, match=r"VisionTransformer has no attention of fewpairs; call .*'softmax'"):
        inspect_attention(timm.create_model("vit_tiny_patch16_224", depth=1), image)
    compiled = nn.Module()
    compiled._orig_mod = classifier("vit_nano")  # as torch.compile's wrapper holds it, without the wait for its import
    with pytest.raises(InputError, match="a compiled model cannot be inspected"):
        inspect_attention(compiled, image)


def test_attention_that_runs_twice_for_an_image_is_refused(image: torch.Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = Core(Softmax(), 1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).mT[:, None]
            return self.core(self.core(tokens, tokens, tokens), tokens, tokens)[:, 0].mean(1)

    with pytest.raises(InputError, match="is called more than once"):
        inspect_attention(Twice(), image)


def test_blocks_are_modules_with_a_number() -> None:
    assert block_of("stages.2.blocks.5.attn.core") == "stages.2.blocks.5"
    assert block_of("blocks.0.attn.attention.core") == "blocks.0"
    assert block_of("encoder.layers.encoder_layer_3.self_attention.core") == "encoder.layers.encoder_layer_3"
    assert block_of("tokens_to_token.attention1.attn.core") == "tokens_to_token.attention1"
    assert block_of("neck.attention1.core") == "neck.attention1"
    assert block_of("core") == ""


def test_evaluation_mode_ends_with_the_block() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)).train()
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_recorder_of_blocks_alone_measures_no_layer(image: torch.Tensor) -> None:
    model, recorder = classifier("vit_nano"), Recorder((28, 28), [])
    with recorder.attached(model, attention=False), torch.no_grad():
        model(image[None])
    assert not recorder.layers
    assert len(recorder.blocks) == 6
