"""Attentions side by side."""

import json

import pytest

from latchkey.attention import KVPos, Softmax
from latchkey.cost import compare
from latchkey.errors import InputError


def test_all_attentions_by_default():
    costs = compare("setr_pup_small")
    assert list(costs.ledgers) == ["softmax", "kv", "kvpos"]
    assert (costs.size, costs.channels, costs.classes, costs.refused) == ((64, 64), 3, 3, {})
    softmax, kv, kvpos = costs.ledgers.values()
    assert kv.macs < kvpos.macs < softmax.macs


def test_what_a_model_cannot_have_is_told():
    costs = compare("cvt_13", size=(64, 64))
    assert list(costs.ledgers) == ["softmax"]
    assert set(costs.refused) == {"kv", "kvpos"}
    assert "stride_kv" in costs.refused["kv"]
    with pytest.raises(InputError, match="stride_kv"):
        compare("cvt_13", ["kv", "softmax"], size=(64, 64))


def test_options_of_a_variant_show():
    costs = compare("setr_naive_small", [KVPos(), KVPos(d_pos=20)], size=(16, 16))
    assert list(costs.ledgers) == ["kvpos", str(KVPos(d_pos=20))]


def test_choices_reach_the_model():
    costs = compare("cvt_13_stride1", ["kv"], size=(64, 32), classes=7, channels=5)
    assert costs.ledgers["kv"].terms["head"].parameters == 385 * 7
    assert compare("vit_s16", ["kv"], size=(32, 32)).classes == 0


def test_dictionary_survives_json():
    plain = compare("setr_naive_small", ["kv"]).as_dict()
    assert json.loads(json.dumps(plain)) == plain
    kv = plain["attention"]["kv"]
    assert kv["macs"] == sum(term["macs"] for term in kv["terms"].values())


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
        compare(**arguments)


def test_a_variant_of_ones_own_is_counted() -> None:
    class Own(Softmax):
        """A user's variant, which no table names."""

    table = compare("setr_pup_small", [Softmax(), Own()], size=(32, 32), channels=1)
    own = table.ledgers[str(Own())]
    assert own.macs == table.ledgers["softmax"].macs
