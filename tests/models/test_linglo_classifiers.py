"""LinGlo and PVTv2 among the classifiers: counts, ablations of one size, options, weights between attentions."""

import pytest
import torch

from fewpairs.attention import KNN, KV, Core, KeyOnly, Softmax
from fewpairs.cost.breakdown import parameters_and_macs, trace_model
from fewpairs.cost.empty_weights import empty_weights
from fewpairs.errors import InputError
from fewpairs.models import CLASSIFIERS, create_classifier, load_pretrained
from fewpairs.recipes.linglo import ABLATIONS, classifier

EXACT = {
    "linglo_b0": (3_414_248, 549_382_144),
    "linglo_b1": (13_075_944, 2_160_889_856),
    "linglo_b2": (25_432_232, 3_968_580_608),
    "pvt_v2_b0": (3_666_760, 566_065_664),
    "pvt_v2_b1": (14_009_000, 2_108_355_584),
    "pvt_v2_b2": (25_362_856, 4_026_734_592),
}


def built(name, **options):
    with empty_weights():
        return create_classifier(name, **options)


@pytest.mark.parametrize("name", EXACT)
def test_counts(name):
    assert parameters_and_macs(built(name), (224, 224)) == EXACT[name]
    assert CLASSIFIERS[name].image_size == (224, 224)


@pytest.mark.parametrize("size", ["b0", "b1", "b2"])
def test_lin_glo_is_of_the_size_of_pvt(size):
    own, other = EXACT[f"linglo_{size}"], EXACT[f"pvt_v2_{size}"]
    assert own[0] / other[0] == pytest.approx(1, abs=0.08)
    assert own[1] / other[1] == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize(("model", "classes", "channels"), [("linglo_pico", 10, 1), ("linglo_nano", 6, 3)])
def test_ablations_are_of_one_size(model, classes, channels):
    size = CLASSIFIERS[model].image_size
    rows = [classifier(model, ending) for ending in ABLATIONS] + [classifier(model.replace("linglo", "pvt_v2"))]
    counts = []
    for row in rows:
        ablated = built(row.name, attention=row.attention, options=row.options, classes=classes, in_channels=channels)
        counts.append(parameters_and_macs(ablated, size, channels=channels)[0])
    assert max(counts) < 1.025 * counts[0]
    assert min(counts) > 0.975 * counts[0]


def test_its_own_attention_is_key_only():
    def variants(**options):
        return {core.variant for core in built("linglo_pico", **options).modules() if isinstance(core, Core)}

    assert variants() == variants(attention="keyonly") == {KeyOnly()}
    assert variants(attention="knn") == {KNN(0.5)}
    assert variants(attention=KeyOnly("R2")) == {KeyOnly("R2")}
    assert variants(attention=[KV(), Softmax()]) == {KV(), Softmax()}


def test_options_of_the_layout():
    model = built("linglo_b0", attention="knn", options={"layout": "grafted", "squeeze": 0.25, "reduction": True})
    assert [site.m for site in trace_model(model, (224, 224)).sites] == [49] * 6
    assert [stage.blocks for stage in model.layout.stages] == ["CC", "CCCC", "AAAA", "AA"]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("linglo_b0", {"options": {"lay": "grafted"}}, "linglo_b0 has no option 'lay'; did you mean 'layout'"),
        ("vit_pico", {"options": {"layout": "grafted"}}, "vit_pico has no option 'layout'; it has none"),
        ("linglo_pico", {"options": {"layout": "graft"}}, "did you mean 'grafted'"),
        ("linglo_pico", {"attention": [KV()] * 5}, "names 5 variants"),
        ("linglo_pico", {"options": {"reduction": True}}, "or the reduction to 1"),
        ("pvt_v2_pico", {"attention": "keyonly"}, "swap_attention on the dense model"),
    ],
)
def test_mistakes(name, options, says):
    with pytest.raises(InputError, match=says):
        built(name, **options)


@pytest.mark.parametrize("name", ["linglo_pico", "pvt_v2_pico"])
@pytest.mark.parametrize("size", [(28, 28), (9, 40)])
def test_small_ones_train_on_small_images(name, size):
    model = create_classifier(name, classes=4, in_channels=1, image_size=size, drop_path=0.1)
    model(torch.randn(3, 1, *size)).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_small_pvt_has_the_stride_of_the_other_small_ones():
    model = create_classifier("pvt_v2_pico", in_channels=1, classes=0)
    assert [info["reduction"] for info in model.feature_info] == [2, 4]
    assert [m.shape[2:] for m in model.forward_intermediates(torch.randn(1, 1, 28, 28))[1]] == [(14, 14), (7, 7)]


def test_keeping_every_key_is_softmax():
    dense, sparse = (create_classifier("linglo_pico", attention=a, classes=4).eval() for a in (Softmax(), KNN(1.0)))
    sparse.load_state_dict(dense.state_dict())
    image = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(sparse(image), dense(image), atol=1e-5, rtol=1e-4)


def test_softmax_weights_go_into_key_only_attention():
    dense, key_only = (create_classifier("linglo_pico", attention=a, classes=4) for a in (Softmax(), KeyOnly()))
    report = load_pretrained(key_only, dense.state_dict())
    assert sorted(report.new) == sorted(name for name in key_only.state_dict() if name.endswith("core.mix.saliency"))
    assert len(report.converted) == 6
    kept = dense.stages[0].blocks[1].attn.project.linear.weight[24:]
    assert torch.equal(key_only.stages[0].blocks[1].attn.project.linear.weight, kept)
