"""The eleven architectures of the k-NN attention paper by name, dense and sparse, and the small ones."""

import itertools

import pytest
import timm
import torch
from safetensors.torch import save_file

from fewpairs.attention import KNN, KV, Core, Softmax
from fewpairs.cost.breakdown import parameters_and_macs, trace_model
from fewpairs.cost.empty_weights import empty_weights
from fewpairs.errors import CheckpointError, InputError
from fewpairs.models import (
    CLASSIFIERS,
    KNN_NAMES,
    classifier_spec,
    create_classifier,
    list_classifiers,
    load_pretrained,
)
from fewpairs.models.knn_names import knn_name

ROWS = [name for name in CLASSIFIERS if not name.startswith(("linglo", "pvt_v2"))]
"""Those of the k-NN attention study; LinGlo and PVTv2 have tests of their own."""
SMALL = [name for name in ROWS if CLASSIFIERS[name].image_size == (28, 28)]
LARGE = [name for name in ROWS if name not in SMALL]

TABLE = [
    ("deit_tiny_patch16_224", "6", "1.3"),
    ("deit_small_patch16_224", "22", "4.6"),
    ("visformer_tiny", "10", "1.3"),
    ("cvt_13", "20", "4.6"),
    ("tnt_s_patch16_224", "24", "5.2"),
    ("swin_tiny_patch4_window7_224", "28", "4.5"),
    ("t2t_vit_t_19", "39", "9.8"),
    ("vit_small_patch16_224", "22", "4.6"),
]
"""Million parameters and thousand million multiply-adds as the paper's table prints them (DeiT-Tiny and So-ViT-7 there
with one digit more, below). The published So-ViT-7, Twins, PiT and VOLO are in tests of their own."""

EXACT = {
    "deit_tiny_patch16_224": (5_717_416, 1_253_683_200),
    "deit_small_patch16_224": (22_050_664, 4_598_882_304),
    "deit_base_patch16_224": (86_567_656, 17_563_828_224),
    "so_vit_7": (5_528_064, 1_417_260_032),
    "visformer_tiny": (10_321_368, 1_267_980_288),
    "cvt_13": (19_997_480, 4_566_089_216),
    "cvt_21": (31_622_696, 7_177_985_024),
    "tnt_s_patch16_224": (23_768_584, 5_216_875_008),
    "volo_d1_384": (26_777_960, 22_679_560_704),
    "volo_d3_448": (86_626_128, 96_128_522_240),
    "swin_tiny_patch4_window7_224": (28_288_354, 4_490_566_656),
    "t2t_vit_t_19": (39_084_686, 9_784_935_552),
    "vit_small_patch16_224": (22_050_664, 4_598_882_304),
    "twins_svt_base": (56_070_952, 8_562_612_480),
    "pit_b_224": (73_764_840, 12_401_916_928),
}


def built(name, attention="knn", **options):
    with empty_weights():
        return create_classifier(name, attention=attention, **options)


def counted(name, attention="knn", size=None):
    model = built(name, attention, image_size=size)
    return parameters_and_macs(model, size or CLASSIFIERS[name].image_size)


@pytest.mark.parametrize(("name", "parameters", "macs"), TABLE)
def test_round_to_the_published_table(name, parameters, macs):
    ours = EXACT[name]
    assert (f"{ours[0] / 1e6:.0f}", f"{ours[1] / 1e9:.1f}") == (parameters, macs)


@pytest.mark.parametrize("name", LARGE)
def test_counts_dense_and_sparse(name):
    assert counted(name, None) == counted(name, "knn") == EXACT[name]


def test_one_digit_more_where_the_table_has_it():
    assert [f"{EXACT[name][0] / 1e6:.1f}" for name in ("deit_tiny_patch16_224", "so_vit_7")] == ["5.7", "5.5"]


@pytest.mark.parametrize(("name", "published"), [("so_vit_7", "1.3"), ("twins_svt_base", "8.3")])
def test_published_without_the_products_of_the_attention(name, published):
    """1.42 and 8.56 with the scores and the weighted values; the authors' counter sees modules alone."""
    macs = trace_model(built(name), (224, 224)).macs
    assert f"{(macs.total() - macs['scores'] - macs['values']) / 1e9:.1f}" == published
    assert round(EXACT[name][0] / 1e6) == {"so_vit_7": 6, "twins_svt_base": 56}[name]


def test_pit_is_a_hundredth_below_the_published_count():
    """12.40 against 12.5."""
    parameters, macs = EXACT["pit_b_224"]
    assert f"{parameters / 1e6:.1f}" == "73.8"
    assert 0.99 < macs / 12.5e9 < 1


def test_volo_at_the_sizes_that_were_published():
    """Parameters (26.6 M, 86.3 M) with the position table for 224 pixels; D3's 67.9 G is what it costs at 384."""
    d1, d3 = (counted(name, None, (224, 224)) for name in ("volo_d1_384", "volo_d3_448"))
    assert [f"{one[0] / 1e6:.1f}" for one in (d1, d3)] == ["26.6", "86.3"]
    assert 0.99 < EXACT["volo_d1_384"][1] / 22.8e9 < 1
    assert 0.98 < counted("volo_d3_448", None, (384, 384))[1] / 67.9e9 < 1


def sites(name, attention="knn", **options):
    found = trace_model(built(name, attention, **options), CLASSIFIERS[name].image_size).sites
    return list(dict.fromkeys((site.n, site.m, site.variant.topk) for site in found))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deit_tiny_patch16_224", [(197, 197, 100)]),
        ("so_vit_7", [(197, 197, 0.5)]),
        ("visformer_tiny", [(196, 196, 0.5), (49, 49, 0.5)]),
        ("cvt_13", [(3136, 784, 0.5), (784, 196, 0.5), (197, 50, 0.5)]),
        ("tnt_s_patch16_224", [(16, 16, 0.5), (197, 197, 0.5)]),
        ("volo_d1_384", [(576, 576, 0.5), (1, 577, 0.5)]),
        ("swin_tiny_patch4_window7_224", [(49, 49, 0.5)]),
        ("t2t_vit_t_19", [(3136, 3136, 0.5), (784, 784, 0.5), (197, 197, 0.5)]),
        ("twins_svt_base", [(49, 49, 0.5), (3136, 49, 0.5), (784, 49, 0.5), (196, 49, 0.5)]),
        ("pit_b_224", [(962, 962, 0.5), (257, 257, 0.5), (65, 65, 0.5)]),
    ],
)
def test_every_attention_keeps_its_share(name, expected):
    assert sites(name) == expected


ONE_EACH = [name for name in LARGE if name not in ("deit_small_patch16_224", "deit_base_patch16_224", "volo_d3_448")]


@pytest.mark.parametrize("name", ONE_EACH)
def test_interface_of_timm(name):
    model, size = built(name, classes=7, in_channels=2).eval(), CLASSIFIERS[name].image_size
    features = model.forward_features(torch.empty(1, 2, *size, device="meta"))
    assert model.forward_head(features).shape == (1, 7)
    assert model.forward_head(features, pre_logits=True).shape[0] == 1
    if name not in ("pit_b_224", "twins_svt_base"):  # timm has no checkpointing of gradients for these two
        model.set_grad_checkpointing(True)
    with torch.device("meta"):
        model.reset_classifier(3)
    assert model.forward_head(features).shape == (1, 3)
    assert model.get_classifier() is not None
    if name != "pit_b_224":  # timm has no groups of layers for it
        assert set(model.group_matcher()) >= {"stem", "blocks"}


def test_local_crops_of_self_distillation():
    """37 tokens of a crop of 96 pixels: fewer than the 100 keys, so all are kept."""
    model = built("vit_small_patch16_224", classes=0)
    assert model(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, 384)
    assert trace_model(model, (96, 96)).sites[0].m == 37


def test_one_variant_a_stage():
    assert sites("cvt_13", [KNN(7), KNN(8), KNN(9)]) == [(3136, 784, 7), (784, 196, 8), (197, 50, 9)]
    stages = [KNN(3), KNN(4), KNN(5), KNN(6)]
    assert sites("swin_tiny_patch4_window7_224", stages) == [(49, 49, k) for k in (3, 4, 5, 6)]


def test_names_of_attention_take_the_architectures_scale():
    def variants(name, attention):
        return {core.variant for core in built(name, attention).modules() if isinstance(core, Core)}

    assert variants("cvt_13", "knn") == {KNN(0.5, scale_by="width")}
    assert variants("cvt_13", None) == {Softmax("width")}
    assert variants("deit_tiny_patch16_224", "knn7") == {KNN(7)}
    assert variants("deit_tiny_patch16_224", "softmax") == {Softmax()}
    assert variants("deit_tiny_patch16_224", None) == set()
    assert variants("vit_nano", KNN(3, metric="euclidean")) == {KNN(3, metric="euclidean")}


@pytest.mark.parametrize(("name", "size"), [*itertools.product(SMALL, [(28, 28), (32, 32), (28, 36)])])
def test_small_models_train_on_small_images(name, size):
    model = create_classifier(name, attention="knn", classes=4, in_channels=1, image_size=size, drop_path=0.1)
    model(torch.randn(3, 1, *size)).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    model.reset_classifier(0)
    assert model(torch.randn(1, 1, *size)).shape == (1, model.num_features)


@pytest.mark.parametrize("name", SMALL)
def test_small_models_are_small(name):
    model = built(name, classes=10, in_channels=1)
    parameters, macs = parameters_and_macs(model, (28, 28), channels=1)
    assert 5e4 < parameters < 4e5
    assert macs < 15e6
    assert all(site.m <= 50 for site in trace_model(model, (28, 28), channels=1).sites)


@pytest.mark.parametrize("name", SMALL)
def test_keeping_every_key_is_the_dense_twin(name):
    dense, sparse = (create_classifier(name, attention=a, classes=4).eval() for a in (None, KNN(1.0)))
    if name.startswith("cvt"):
        sparse = create_classifier(name, attention=KNN(1.0, scale_by="width"), classes=4).eval()
    sparse.load_state_dict(dense.state_dict())
    image = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(sparse(image), dense(image), atol=1e-5, rtol=1e-4)


def test_names():
    assert list_classifiers("deit*") == [name for name in CLASSIFIERS if name.startswith("deit")]
    assert len(LARGE) == 15
    with pytest.raises(InputError, match="did you mean 'deit_tiny_patch16_224'"):
        classifier_spec("deit_tiny_patch16")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": -1}, "classes=-1 must be 0 or more"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"image_size": (0, 28)}, "image height=0"),
        ({"image_size": (28, -3)}, "image width=-3"),
        ({"drop_path": 1.0}, "drop_path=1.0 must be from 0 to below 1"),
        ({"attention": "knm"}, "'knm' is not known"),
        ({"attention": [KNN(3)] * 3}, "variants"),
        ({"attention": "kv", "name": "cvt_nano"}, "stride_kv"),
        ({"attention": "kv", "name": "twins_svt_base"}, "swap_attention on the dense model"),
        ({"image_size": (30, 30), "name": "twins_svt_base"}, "twins_svt_base: timm cannot build it for 30x30"),
        ({"image_size": (9, 9), "name": "pit_b_224"}, "pit_b_224 does not run on 9x9 pixels"),
    ],
)
def test_mistakes(options, says):
    name = options.pop("name", "swin_nano")
    with pytest.raises(InputError, match=says):
        built(name, **options)


class TestTimmNames:
    def create(self, name, **options):
        with empty_weights():
            return timm.create_model(name, **options)

    def test_rule(self):
        assert knn_name("deit_tiny_patch16_224", 100) == "deit_tiny_knn100_patch16_224"
        assert knn_name("swin_tiny_patch4_window7_224", 0.5) == "swin_tiny_knn_patch4_window7_224"
        assert knn_name("volo_d1_384", 0.5) == "volo_d1_knn_384"
        assert knn_name("t2t_vit_t_19", 0.5) == "t2t_vit_t_19_knn"

    def test_all_are_listed(self):
        others = [name for name in CLASSIFIERS if name.startswith("linglo")] + ["pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2"]
        assert sorted(KNN_NAMES.values()) == sorted([*LARGE, *others])
        assert set(KNN_NAMES) <= set(timm.list_models("*knn*"))

    @pytest.mark.parametrize("name", ["deit_tiny_knn100_patch16_224", "cvt_13_knn", "visformer_tiny_knn"])
    def test_build_what_the_table_builds(self, name):
        model, ours = self.create(name, num_classes=5), built(KNN_NAMES[name], classes=5)
        assert list(model.state_dict()) == list(ours.state_dict())
        cores = [[m.variant for m in one.modules() if isinstance(m, Core)] for one in (model, ours)]
        assert cores[0] == cores[1] != []

    def test_options_reach_the_model(self):
        model = self.create("swin_tiny_knn_patch4_window7_224", topk=5, in_chans=1, drop_path_rate=0.2)
        assert {m.variant.topk for m in model.modules() if isinstance(m, Core)} == {5}
        assert model(torch.empty(1, 1, 224, 224, device="meta")).shape == (1, 1000)

    def test_features(self):
        model = self.create("deit_tiny_knn100_patch16_224", features_only=True)
        assert any(isinstance(m, Core) for m in model.modules())
        assert [x.shape[1] for x in model(torch.empty(1, 3, 224, 224, device="meta"))] == [192] * 3

    def test_pretrained_weights_are_the_dense_models(self, monkeypatch):
        asked = []
        monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_args, **named: asked.append(named))
        self.create("deit_tiny_knn100_patch16_224", pretrained=True)
        wanted = asked[0]["pretrained_cfg"]
        assert (wanted["architecture"], wanted["tag"]) == ("deit_tiny_patch16_224", "fb_in1k")


class TestPretrained:
    def test_weights_that_cannot_be_fetched(self, monkeypatch):
        def offline(*_args, **_named):
            raise OSError("no network")

        monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
        with pytest.raises(CheckpointError, match=r"no network.*give its path"):
            built("deit_tiny_patch16_224", pretrained=True)
        with pytest.raises(CheckpointError, match="no weights to download"):
            built("so_vit_7", pretrained=True)

    def test_dino_is_the_default_of_the_small_vit(self):
        assert CLASSIFIERS["vit_small_patch16_224"].timm_name == "vit_small_patch16_224.dino"

    @pytest.mark.parametrize("name", ["swin_nano", "vit_nano", "cvt_nano"])
    def test_own_weights_from_a_file(self, name, tmp_path):
        dense = create_classifier(name, classes=4).eval()
        save_file(dense.state_dict(), tmp_path / "dense.safetensors")
        sparse = create_classifier(name, attention="knn", classes=4, pretrained=tmp_path / "dense.safetensors")
        for key, value in sparse.state_dict().items():
            assert torch.equal(value, dense.state_dict()[key])

    def test_timm_weights_from_a_file(self, tmp_path):
        """Another number of classes, of channels and another image size."""
        options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
        dense = timm.models.VisionTransformer(num_classes=7, **options)
        sparse = timm.models.VisionTransformer(num_classes=4, in_chans=1, **{**options, "img_size": 48})
        report = load_pretrained(sparse, dense.state_dict())
        assert report.layout == "the model's own"
        assert set(report.new) == {"head.weight", "head.bias"}
        assert "positions resampled" in report.converted["pos_embed"]
        assert "folded to 1" in report.converted["patch_embed.proj.weight"]

    def test_softmax_weights_into_key_value_attention(self):
        dense, sparse = (create_classifier("swin_nano", attention=a, classes=4) for a in (None, KV()))
        report = load_pretrained(sparse, dense.state_dict())
        assert report.new == []
        assert len(report.converted) == 12
        kept = dense.layers[0].blocks[0].attn.qkv.weight[32:]
        assert torch.equal(sparse.layers[0].blocks[0].attn.kv.weight, kept)

    def test_another_models_weights(self):
        other = create_classifier("swin_nano", classes=4).state_dict()
        with pytest.raises(CheckpointError, match="not those of the model"):
            load_pretrained(create_classifier("vit_nano", classes=4), other)
