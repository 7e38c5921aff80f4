"""LinGlo, alone and in timm's registry."""

import copy
import pickle

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import PyramidVisionTransformerV2
from timm.optim import param_groups_layer_decay

from fewpairs.attention import KNN, KV, Core, KeyOnly, KVPos, ReducedProjection, Softmax
from fewpairs.cost.breakdown import parameters_and_macs, trace_model
from fewpairs.cost.empty_weights import empty_weights
from fewpairs.errors import InputError
from fewpairs.models.encoders import (
    LINGLO_B0,
    LINGLO_B1,
    LINGLO_B2,
    LINGLO_NANO,
    LINGLO_PICO,
    LinGlo,
    LinGloLayout,
    LinGloStage,
    MBConvShape,
    arrange,
)
from fewpairs.types import Grid

TINY = LinGloLayout((LinGloStage(8, 1, "CA", 7, 4), LinGloStage(16, 2, "CAC"), LinGloStage(24, 3, "CA")), mlp_ratio=2)
NAMES = ["linglo_b0", "linglo_b1", "linglo_b2", "linglo_nano", "linglo_pico"]


def tiny(attention=None, **options):
    return LinGlo(TINY, attention or KeyOnly(), num_classes=5, **options)


def image(*size, channels=3):
    return torch.randn(2, channels, *size)


class TestSize:
    @pytest.mark.parametrize(
        ("layout", "parameters", "macs"),
        [
            (LINGLO_B0, "3.414", "0.55"),
            (LINGLO_B1, "13.076", "2.16"),
            (LINGLO_B2, "25.432", "3.97"),
        ],
    )
    def test_million_parameters_and_thousand_million_multiply_adds(self, layout, parameters, macs):
        with empty_weights():
            counted = parameters_and_macs(LinGlo(layout, KeyOnly()), (224, 224))
        assert (f"{counted[0] / 1e6:.3f}", f"{counted[1] / 1e9:.2f}") == (parameters, macs)

    @pytest.mark.parametrize("layout", [LINGLO_B0, LINGLO_NANO, LINGLO_PICO, TINY])
    @pytest.mark.parametrize("name", ["alternating", "grafted", "attention", "convolution"])
    def test_parameters_follow_the_closed_form(self, layout, name):
        layout = arrange(layout, name)
        with empty_weights():
            model = LinGlo(layout, KeyOnly(), in_chans=2, num_classes=7)
        assert sum(p.numel() for p in model.parameters()) == layout.parameters(in_chans=2, num_classes=7)

    def test_closed_form_by_hand(self):
        """One stage of one block each, every term written out."""
        d, k, r = 6, 3, 2
        layout = LinGloLayout((LinGloStage(d, 2, "CA", k, 2),), mlp_ratio=r)
        embedding, norms = 3 * d * k**2 + d, 2 * 2 * d
        attention = 2 * d + 3 * (d**2 + d) + d
        feed_forward = 2 * d + d * r * d + r * d + r * d * d + d
        convolution = d * d + 9 * d + d * d + 3 * 2 * d
        head = d * 4 + 4
        total = embedding + norms + attention + convolution + 2 * feed_forward + head
        assert layout.parameters(num_classes=4) == total

    def test_no_closed_form_where_there_is_more(self):
        for more in (arrange(TINY, squeeze=0.5), arrange(TINY, reduction=True)):
            with pytest.raises(InputError, match="count the model itself"):
                more.parameters()

    @settings(max_examples=15)
    @given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["alternating", "grafted", "attention"]))
    def test_multiply_adds_follow_the_closed_form(self, height, width, name):
        layout, (h, w), channels, expected = arrange(TINY, name), (height, width), 3, 0
        for stage in layout.stages:
            h, w = -(-h // stage.stride), -(-w // stage.stride)
            n, d, hidden = h * w, stage.width, stage.width * 2
            expected += n * channels * d * stage.kernel**2 + 2 * n * d * hidden * len(stage.blocks)
            expected += stage.blocks.count("A") * (3 * n * d * d + 3 * n * d)
            expected += stage.blocks.count("C") * (2 * n * d * d + 9 * n * d)
            channels = d
        with empty_weights():
            model = LinGlo(layout, KeyOnly(), num_classes=7)
        assert trace_model(model, (height, width)).macs.total() == expected + 7 * channels

    def test_cost_is_linear_in_the_pixels(self):
        with empty_weights():
            model = LinGlo(LINGLO_B0, KeyOnly(), num_classes=0)
        one, two, four = (parameters_and_macs(model, (64, side))[1] for side in (64, 128, 256))
        assert (two, four) == (2 * one, 4 * one)

    def test_terms_of_the_ledger(self):
        with empty_weights():
            model = LinGlo(TINY, KeyOnly(), num_classes=5)
        macs = trace_model(model, (32, 32)).macs
        assert set(macs) == {"embedding", "convolutions", "projections", "scores", "values", "feed-forward", "head"}
        n, d = (64, 16, 4), (8, 16, 24)
        assert macs["scores"] == sum(a * b for a, b in zip(n, d, strict=True))
        assert macs["values"] == 2 * macs["scores"]
        assert macs["convolutions"] == sum(
            c * (2 * a * b * b + 9 * a * b) for a, b, c in zip(n, d, (1, 2, 1), strict=True)
        )


class TestLayout:
    def test_every_stage_has_both_kinds_of_blocks(self):
        for layout in (LINGLO_B0, LINGLO_B1, LINGLO_B2, LINGLO_NANO, LINGLO_PICO):
            assert all(set(stage.blocks) == {"C", "A"} for stage in layout.stages)

    def test_names(self):
        def blocks(name):
            return [stage.blocks for stage in arrange(LINGLO_B0, name).stages]

        assert blocks("alternating") == ["CA", "CACA", "CACA", "CA"]
        assert blocks("grafted") == ["CC", "CCCC", "AAAA", "AA"]
        assert blocks("attention") == ["AA", "AAAA", "AAAA", "AA"]
        assert blocks("convolution") == ["CC", "CCCC", "CCCC", "CC"]
        assert blocks("A-C-AAC-CA") == ["A", "C", "AAC", "CA"]
        assert arrange(LINGLO_B0, TINY) == TINY

    def test_changes(self):
        changed = arrange(LINGLO_B0, mlp_ratio=3, expand=4, squeeze=0.25, reduction=True)
        assert (changed.mlp_ratio, changed.conv) == (3, MBConvShape(4, 0.25))
        assert [stage.reduction for stage in changed.stages] == [8, 4, 2, 1]
        assert [stage.reduction for stage in arrange(TINY, reduction=[2, 1, 1]).stages] == [2, 1, 1]

    @given(st.text(alphabet="CA-cx ", max_size=12))
    def test_any_text_is_a_layout_or_a_mistake(self, text):
        try:
            rows = [stage.blocks for stage in arrange(TINY, text).stages]
        except InputError:
            return
        assert "-".join(rows) == text

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: arrange(TINY, "alternate"), "did you mean 'alternating'"),
            (lambda: arrange(TINY, "CA-CA"), "names 2 stages, and the model has 3"),
            (lambda: arrange(TINY, "CA--CA"), "blocks=''"),
            (lambda: arrange(TINY, reduction=[1, 2]), "3 whole numbers"),
            (lambda: arrange(TINY, reduction=[1, 0, 2]), "reduction=0"),
            (lambda: arrange(TINY, mlp_ratio=0.01), "mlp_ratio=0.01"),
            (lambda: LinGloStage(8, 3, "CA"), "heads=3 must divide the width=8"),
            (lambda: LinGloStage(8, 2, "CB"), "letters C"),
            (lambda: LinGloStage(8, 2, "CA", 3, 4), "kernel=3 and stride=4"),
            (lambda: LinGloLayout(()), "no stages"),
            (lambda: MBConvShape(expand=0), "expand=0"),
            (lambda: MBConvShape(squeeze=2.0), "squeeze=2.0"),
            (lambda: MBConvShape(kernel=2), "kernel=2"),
            (lambda: LinGlo(TINY, [KV()] * 2), "names 2 variants"),
            (lambda: LinGlo(arrange(TINY, reduction=True), KeyOnly()), "or the reduction to 1"),
            (lambda: LinGlo(arrange(TINY, reduction=True), KV()), "or the reduction to 1"),
            (lambda: LinGlo(TINY, KeyOnly(), global_pool="token"), "global_pool='token'"),
        ],
    )
    def test_mistakes(self, make, says):
        with pytest.raises(InputError, match=says):
            make()

    def test_attention_is_spread_over_the_attention_blocks(self):
        variants = [KeyOnly(), KV(), Softmax()]
        assert [m.variant for m in tiny(variants).modules() if isinstance(m, Core)] == variants
        grafted = LinGlo(arrange(TINY, "grafted"), [KeyOnly("R2")] * 5)
        assert [m.variant for m in grafted.modules() if isinstance(m, Core)] == [KeyOnly("R2")] * 5
        assert [m for m in LinGlo(arrange(TINY, "convolution"), KeyOnly()).modules() if isinstance(m, Core)] == []


ATTENTIONS = [
    KeyOnly(),
    KeyOnly("R1c"),
    KeyOnly("R2"),
    KeyOnly("R3"),
    KeyOnly("R3-R2"),
    KeyOnly(gate="conv"),
    Softmax(),
    KV(),
    KVPos(),
    KNN(0.5),
]


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_every_attention_in_the_skeleton(attention):
    model = tiny(attention, drop_path_rate=0.1)
    model(image(30, 44)).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("layout", ["grafted", "attention", "convolution", "AC-CAC-A"])
@pytest.mark.parametrize("squeeze", [None, 0.25])
def test_every_layout(layout, squeeze):
    model = LinGlo(arrange(TINY, layout, squeeze=squeeze), KeyOnly(), num_classes=5)
    assert model(image(32, 32)).shape == (2, 5)


@given(st.integers(1, 70), st.integers(1, 70))
def test_any_image_size(height, width):
    model = tiny().eval()
    with torch.no_grad():
        _, maps = model.forward_intermediates(image(height, width))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16)]
    assert [tuple(one.shape[2:]) for one in maps] == sizes


def test_a_block_is_what_it_says():
    """x + MBConv(x), x + FFN(LN x); x + attention(LN x), x + FFN(LN x); and layer norm at the end of a stage."""
    stage = tiny(Softmax()).eval().stages[0]
    local, attending = stage.blocks
    picture = image(16, 24)
    x, grid = stage.embed(picture)
    maps = x.transpose(1, 2).reshape(2, 8, grid.h, grid.w)
    y = x + local.conv(maps).flatten(2).transpose(1, 2)
    y = y + local.mlp(local.norm2(y))
    y = y + attending.attn(attending.norm1(y), grid)
    y = y + attending.mlp(attending.norm2(y))
    y = stage.norm(y).transpose(1, 2).reshape(2, 8, grid.h, grid.w)
    torch.testing.assert_close(stage(picture), y)


class TestReduction:
    def test_is_pvts_own(self):
        """The same weights in timm's layer give the same output."""
        pvt = PyramidVisionTransformerV2(depths=(1,), embed_dims=(16,), num_heads=(2,), sr_ratios=(4,), num_classes=0)
        theirs = pvt.stages[0].blocks[0].attn
        stage = LinGloStage(16, 2, "A", 7, 4, reduction=4)
        ours = LinGlo(LinGloLayout((stage,)), Softmax(), num_classes=0).stages[0].blocks[0].attn
        project = ours.project
        pairs = ((project.query, theirs.q), (project.linear, theirs.kv), (project.conv, theirs.sr))
        for mine, other in (*pairs, (project.norm, theirs.norm), (ours.out, theirs.proj)):
            mine.load_state_dict(other.state_dict())
        project.norm.eps = theirs.norm.eps
        x = torch.randn(2, 8 * 13, 16)
        torch.testing.assert_close(ours(x, Grid(8, 13)), theirs(x, (8, 13)))

    def test_keys_are_fewer(self):
        with empty_weights():
            model = LinGlo(arrange(LINGLO_B0, reduction=True), KNN(0.5))
        found = [(site.n, site.m) for site in trace_model(model, (224, 224)).sites]
        assert list(dict.fromkeys(found)) == [(3136, 49), (784, 49), (196, 49), (49, 49)]

    @pytest.mark.parametrize("size", [(1, 1), (20, 33)])
    def test_maps_smaller_than_one_place(self, size):
        assert LinGlo(arrange(TINY, reduction=[8, 4, 1]), Softmax(), num_classes=5).eval()(image(*size)).shape == (2, 5)

    def test_prefix_tokens_pass_by(self):
        project = ReducedProjection(8, 2, "qkv", ratio=2)
        x = torch.randn(2, 1 + 24, 8)
        q, k, v = project(x, Grid(4, 6, prefix=1))
        assert (q.shape, k.shape, v.shape) == ((2, 2, 25, 4), (2, 2, 7, 4), (2, 2, 7, 4))
        assert [one.shape[2] for one in ReducedProjection(8, 2, "kv", ratio=2)(x, Grid(4, 6, prefix=1))] == [7, 7]
        with pytest.raises(InputError, match="ratio=0"):
            ReducedProjection(8, 2, "kv", ratio=0)


class TestTimm:
    @pytest.mark.parametrize("name", NAMES)
    def test_names(self, name):
        with empty_weights():
            model = timm.create_model(name, num_classes=3, in_chans=1)
        assert model(torch.empty(2, 1, 32, 48, device="meta")).shape == (2, 3)
        assert "reconstruction" in timm.model_entrypoint(name).__doc__ or name in ("linglo_nano", "linglo_pico")
        assert {core.variant for core in model.modules() if isinstance(core, Core)} == {KeyOnly()}
        assert model.get_parameter(model.pretrained_cfg["first_conv"] + ".weight").shape[1] == 1

    def test_arguments(self):
        with empty_weights():
            model = timm.create_model("linglo_b0", layout="grafted", attention="knn", reduction=True, squeeze=0.25)
        assert [stage.blocks for stage in model.layout.stages] == ["CC", "CCCC", "AAAA", "AA"]
        assert {core.variant for core in model.modules() if isinstance(core, Core)} == {KNN()}

    def test_features_only(self):
        model = timm.create_model("linglo_pico", features_only=True)
        assert (model.feature_info.channels(), model.feature_info.reduction()) == ([24, 48], [2, 4])
        assert [x.shape for x in model(image(28, 30))] == [(2, 24, 14, 15), (2, 48, 7, 8)]
        with empty_weights():
            chosen = timm.create_model("linglo_b0", features_only=True, out_indices=(1, 3), in_chans=1)
        assert (chosen.feature_info.channels(), chosen.feature_info.reduction()) == ([64, 256], [8, 32])
        maps = chosen(torch.empty(1, 1, 65, 64, device="meta"))
        assert [x.shape[1:] for x in maps] == [(64, 9, 8), (256, 3, 2)]

    def test_forward_intermediates(self):
        model = tiny().eval()
        x = image(32, 32)
        last, maps = model.forward_intermediates(x)
        assert [one.shape[1] for one in maps] == [8, 16, 24]
        assert torch.equal(last, model.forward_features(x))
        early = model.forward_intermediates(x, indices=[0], stop_early=True, intermediates_only=True)
        assert len(early) == 1
        assert torch.equal(early[0], maps[0])
        assert [one.shape[1] for one in model.forward_intermediates(x, indices=2, intermediates_only=True)] == [16, 24]
        for wrong in ({"indices": [3]}, {"output_fmt": "NLC"}):
            with pytest.raises(InputError):
                model.forward_intermediates(x, **wrong)

    def test_head(self):
        model = tiny().eval()
        features = model.forward_features(image(32, 32))
        assert features.shape == (2, 24, 2, 2)
        assert model.forward_head(features, pre_logits=True).shape == (2, 24)
        model.reset_classifier(9)
        assert model.forward_head(features).shape == (2, 9)
        assert model.get_classifier().out_features == model.num_classes == 9
        model.reset_classifier(4, global_pool="")
        assert model.forward_head(features).shape == (2, 4, 2, 2)
        model.reset_classifier(0)
        assert model.forward_head(features).shape == (2, 24, 2, 2)
        model.reset_classifier(0, global_pool="avg")
        assert model(image(32, 32)).shape == (2, 24)
        with pytest.raises(InputError, match="global_pool='token'"):
            model.reset_classifier(3, global_pool="token")

    def test_prune(self):
        model = tiny()
        assert model.prune_intermediate_layers([1]) == [1]
        assert model(image(32, 32)).shape == (2, 16)
        assert len(model.stages) == 2

    def test_drop_path_rises_over_all_blocks(self):
        model = tiny(drop_path_rate=0.6)
        drops = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage.blocks]
        assert drops == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])

    def test_checkpointing_gives_the_same_gradients(self):
        model = tiny(Softmax())
        x = image(32, 32)

        def gradients():
            model.zero_grad()
            model(x).square().mean().backward()
            return [p.grad.clone() for p in model.parameters()]

        plain = gradients()
        model.set_grad_checkpointing()
        assert all(stage.grad_checkpointing for stage in model.stages)
        for one, other in zip(plain, gradients(), strict=True):
            torch.testing.assert_close(one, other)

    def test_layers_for_decay_of_the_rate(self):
        model = tiny()
        groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
        assert len({group["lr_scale"] for group in groups}) == 9  # stem, seven blocks, norms and head
        names = {id(p): name for name, p in model.named_parameters()}
        free = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
        assert all(model.get_parameter(name).ndim == 1 for name in free)
        assert model.no_weight_decay() == set()
        scales = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
        assert scales["stages.0.embed.proj.weight"] == min(scales.values())
        assert scales["head.weight"] == max(scales.values())
        coarse = model.group_matcher(coarse=True)
        assert set(coarse) == {"stem", "blocks"}

    def test_copies(self):
        model = tiny(KeyOnly("R3")).eval()
        x = image(32, 32)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(x), model(x))
        fresh = tiny(KeyOnly("R3")).eval()
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(fresh(x), model(x))

    def test_initial_weights_are_pvts(self):
        model = LinGlo(LINGLO_B0, KeyOnly()).requires_grad_(False)
        block = model.stages[3].blocks[1]
        assert block.mlp.fc1.weight.std() == pytest.approx(0.02, rel=0.1)
        assert block.mlp.fc1.bias.abs().max() == 0
        assert block.attn.project.linear.weight.std() == pytest.approx(0.02, rel=0.1)
        assert model.stages[3].embed.proj.weight.std() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.1)
        assert block.attn.core.mix.saliency.abs().max() == 0

    @pytest.mark.slow
    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("attention", [KeyOnly(), KeyOnly("R3"), Softmax()], ids=str)
    def test_compiles_whole(self, attention):
        model = tiny(attention).eval()
        x = image(32, 32)
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x), atol=1e-5, rtol=1e-4)
