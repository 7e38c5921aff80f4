"""Models by name: a list of them, and attentions side by side."""

import json

import pytest

from fewpairs.attention import KVPos, Softmax
from fewpairs.errors import InputError
from fewpairs.models import CLASSIFIERS, DETECTORS, ENCODERS, MODELS
from fewpairs.models.catalogue import CATALOGUE, AttentionStage, compare_attentions, find_models, list_costs


def test_all_attentions_by_default():
    costs = compare_attentions("setr_pup_small")
    assert list(costs.breakdowns) == ["softmax", "kv", "kvpos", "knn", "keyonly"]
    assert (costs.size, costs.channels, costs.classes, costs.refused) == ((64, 64), 3, 3, {})
    softmax, kv, kvpos, knn, keyonly = costs.breakdowns.values()
    assert keyonly.macs < kv.macs < kvpos.macs < softmax.macs == knn.macs


def test_what_a_model_cannot_have_is_told():
    costs = compare_attentions("cvt_13", size=(64, 64))
    assert list(costs.breakdowns) == ["softmax", "knn"]
    assert set(costs.refused) == {"kv", "kvpos", "keyonly"}
    assert "stride_kv" in costs.refused["kv"]
    with pytest.raises(InputError, match="stride_kv"):
        compare_attentions("cvt_13", ["kv", "softmax"], size=(64, 64))


def test_options_of_a_variant_show():
    costs = compare_attentions("setr_naive_small", [KVPos(), KVPos(d_pos=20)], size=(16, 16))
    assert list(costs.breakdowns) == ["kvpos", str(KVPos(d_pos=20))]


def test_choices_reach_the_model():
    costs = compare_attentions("cvt_13_stride1", ["kv"], size=(64, 32), classes=7, channels=5)
    assert costs.breakdowns["kv"].terms["head"].parameters == 385 * 7
    assert compare_attentions("vit_s16", ["kv"], size=(32, 32)).classes == 0


def test_dictionary_survives_json():
    plain = compare_attentions("setr_naive_small", ["kv"]).as_dict()
    assert json.loads(json.dumps(plain)) == plain
    kv = plain["attention"]["kv"]
    assert kv["macs"] == sum(term["macs"] for term in kv["terms"].values())


def test_every_kind_of_model_has_a_name():
    kinds = {CATALOGUE[name].kind: name for name in ("vit_s16", "setr_pup_small", "deit_tiny_patch16_224", "cvt_nano")}
    assert kinds == {"encoder": "vit_s16", "segmenter": "setr_pup_small", "classifier": "cvt_nano"}
    assert CATALOGUE["retinanet"].kind == "detector"
    assert set(CATALOGUE) == {*MODELS, *ENCODERS, *CLASSIFIERS, *DETECTORS}
    assert CATALOGUE["cvt_13"].kind == "classifier"


def test_listing_tells_tokens_and_how_many_keys_are_kept():
    vit, cvt, swin = list_costs(find_models("[cv]*_nano") + find_models("swin_nano"), "knn")
    assert vit.stages == (AttentionStage(50, 50, 1, 25),)
    assert cvt.stages == (AttentionStage(196, 49, 1, 25), AttentionStage(50, 17, 1, 9))
    assert swin.stages == (AttentionStage(49, 49, 4, 25), AttentionStage(49, 49, 1, 25))
    assert [row.entry.name for row in (vit, cvt, swin)] == ["vit_nano", "cvt_nano", "swin_nano"]


def test_listing_takes_the_architectures_own_k():
    (own,) = list_costs(find_models("deit_tiny*"), "knn")
    (few,) = list_costs(find_models("deit_tiny*"), "knn9")
    (all_,) = list_costs(find_models("deit_tiny*"), "softmax")
    assert [row.stages[0].topk for row in (own, few, all_)] == [100, 9, None]
    assert {(row.parameters, row.macs) for row in (own, few, all_)} == {(5_717_416, 1_253_683_200)}


def test_listing_says_what_a_model_cannot_have():
    (row,) = list_costs(find_models("cvt_nano"), "kv")
    assert "stride_kv" in row.refused
    assert (row.parameters, row.macs, row.stages) == (0, 0, ())
    with pytest.raises(InputError, match="'kvv' is not known"):
        list(list_costs(find_models("cvt_nano"), "kvv"))
    with pytest.raises(InputError, match="no model's name matches 'deti"):
        find_models("deti*")


def test_attention_that_fits_some_layers_only_is_refused():
    (row,) = list_costs(find_models("twins_svt_base"), "kv")
    assert "11 of 24 attention layers cannot have" in row.refused
    assert "one key for" in row.refused


def test_dense_and_sparse_classifiers_cost_the_same():
    costs = compare_attentions("swin_nano", classes=10, channels=1)
    softmax, knn = (costs.breakdowns[name] for name in ("softmax", "knn"))
    assert {name: (term.parameters, term.macs) for name, term in softmax.terms.items()} == {
        name: (term.parameters, term.macs) for name, term in knn.terms.items()
    }


def test_a_size_on_which_the_model_does_not_run():
    with pytest.raises(InputError, match="pit_b_224"):
        compare_attentions("pit_b_224", ["softmax"], size=(9, 9))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": "setr_pup_smal"}, "did you mean 'setr_pup_small'"),
        ({"model": "vit_b61"}, "did you mean 'vit_b16'"),
        ({"model": "vit_b16", "attentions": ["qv"]}, "attention 'qv' is not known"),
        ({"model": "vit_b16", "size": (0, 5)}, "1 or more"),
        ({"model": "setr_pup_small", "channels": 0}, "1 or more"),
    ],
)
def test_mistakes(arguments, says):
    with pytest.raises(InputError, match=says):
        compare_attentions(**arguments)


def test_a_variant_of_ones_own_is_counted() -> None:
    class Own(Softmax):
        """A user's variant, which no table names."""

    table = compare_attentions("setr_pup_small", [Softmax(), Own()], size=(32, 32), channels=1)
    own = table.breakdowns[str(Own())]
    assert own.macs == table.breakdowns["softmax"].macs


def test_detectors_are_counted_with_their_heads_on_any_encoder():
    small = {"size": (64, 96), "classes": 3}
    nano, b0 = (
        compare_attentions("retinanet", ["keyonly"], encoder=name, **small) for name in ("linglo_nano", "linglo_b0")
    )
    heads = [costs.breakdowns["keyonly"].terms["head"] for costs in (nano, b0)]
    assert heads[0].macs == heads[1].macs > 0
    assert nano.breakdowns["keyonly"].macs < b0.breakdowns["keyonly"].macs
    masks = compare_attentions("mask_rcnn", ["softmax"], encoder="linglo_nano", **small).breakdowns["softmax"]
    boxes = compare_attentions("faster_rcnn", ["softmax"], encoder="linglo_nano", **small).breakdowns["softmax"]
    assert masks.macs > boxes.macs
    with pytest.raises(InputError, match="not a segmenter or detector"):
        compare_attentions("vit_nano", ["softmax"], encoder="linglo_nano")


def test_listing_takes_each_models_own_attention():
    own, dense = list_costs(find_models("linglo_pico") + find_models("vit_pico"))
    assert [stage.pairs for stage in (*own.stages, *dense.stages)] == [False, False, True]
    (softmax,) = list_costs(find_models("linglo_pico"), "softmax")
    assert own.macs < softmax.macs
