"""Which layers `where=` means, and which of them gets which variant."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs import KNN, KV, Softmax
from fewpairs.errors import InputError
from fewpairs.swap.layers import Layer
from fewpairs.swap.selectors import assign, select

parts = st.sampled_from(["layers", "blocks", "attn", "stage2", "0", "1", "12"])
names = st.lists(st.lists(parts, min_size=1, max_size=4).map(".".join), min_size=1, max_size=8, unique=True)
STUCK = "no queries and keys"


def layers_of(names: list[str], stages: list[int] | None = None, stuck: frozenset[int] = frozenset()) -> list[Layer]:
    stages = stages or [0] * len(names)
    return [
        Layer(name, index, stages[index], "family", 2, 8, STUCK if index in stuck else None)
        for index, name in enumerate(names)
    ]


@given(names)
def test_none_selects_all_and_asks_for_none_by_name(names: list[str]) -> None:
    selection = select(layers_of(names), None)
    assert selection.chosen == set(range(len(names)))
    assert not selection.named


@given(names, st.text("abcklnorstye.*?012", max_size=12))
def test_a_pattern_selects_what_fnmatch_matches_or_is_an_error(names: list[str], pattern: str) -> None:
    wanted = {index for index, name in enumerate(names) if fnmatchcase(name, pattern)}
    if not wanted:
        with pytest.raises(InputError, match="where"):
            select(layers_of(names), pattern)
        return
    selection = select(layers_of(names), pattern)
    assert selection.chosen == wanted
    assert selection.named == (set() if set(pattern) & set("*?[") else wanted)


@given(names, st.integers(-12, 12))
def test_an_index_counts_from_either_end(names: list[str], index: int) -> None:
    layers = layers_of(names)
    if not -len(names) <= index < len(names):
        with pytest.raises(InputError, match=f"no layer {index}; the model has {len(names)}"):
            select(layers, index)
        return
    selection = select(layers, index)
    assert selection.chosen == selection.named == {range(len(names))[index]}


@given(names, st.data())
def test_a_sequence_is_the_union_of_its_parts(names: list[str], data: st.DataObject) -> None:
    layers = layers_of(names)
    one = st.one_of(st.sampled_from(names), st.integers(0, len(names) - 1), st.just("*"))
    where = data.draw(st.lists(one, min_size=1, max_size=4))
    together, apart = select(layers, where), [select(layers, each) for each in where]
    assert together.chosen == frozenset().union(*(each.chosen for each in apart))
    assert together.named == frozenset().union(*(each.named for each in apart))


@given(names, st.sets(st.integers(0, 7)))
def test_a_function_selects_what_it_says_yes_to(names: list[str], wanted: set[int]) -> None:
    layers = layers_of(names)
    wanted &= set(range(len(names)))
    if not wanted:
        with pytest.raises(InputError, match="selects no layer; the model has"):
            select(layers, lambda layer: layer.index in wanted)
        return
    selection = select(layers, lambda layer: layer.index in wanted)
    assert selection.chosen == wanted
    assert not selection.named


@pytest.mark.parametrize("where", [True, 1.5, {"blocks": 1}, b"blocks", [0, True], [None], object()])
def test_other_things_are_no_selector(where: object) -> None:
    with pytest.raises(InputError, match="where"):
        select(layers_of(["blocks.0.attn", "blocks.1.attn"]), where)  # type: ignore[arg-type]


def test_an_empty_sequence_selects_nothing() -> None:
    with pytest.raises(InputError, match="selects no layer"):
        select(layers_of(["blocks.0.attn"]), [])


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(InputError, match=r"the name 'block.1.attn'; did you mean 'blocks.1.attn'"):
        select(layers_of(["blocks.0.attn", "blocks.1.attn"]), "block.1.attn")


def test_the_name_of_what_holds_layers_is_answered_with_a_pattern() -> None:
    with pytest.raises(InputError, match=r"use 'blocks.1.\*'"):
        select(layers_of(["blocks.0.attn", "blocks.1.attn"]), "blocks.1")


STAGED = layers_of([f"layers.{s}.blocks.{b}.attn" for s in range(3) for b in range(2)], [0, 0, 1, 1, 2, 2])


def test_one_variant_goes_to_every_layer_that_can_take_one() -> None:
    layers = layers_of(["a.0", "a.1", "a.2"], stuck=frozenset({1}))
    assert assign("kv", layers) == assign(KV(), layers) == assign({"name": "kv"}, layers) == {0: KV(), 2: KV()}


def test_a_sequence_goes_by_stage() -> None:
    given = assign(["softmax", KNN(3), {"name": "knn", "topk": 0.25}], STAGED)
    assert given == {0: Softmax(), 1: Softmax(), 2: KNN(3), 3: KNN(3), 4: KNN(0.25), 5: KNN(0.25)}


def test_a_sequence_goes_by_layer_and_skips_those_that_cannot() -> None:
    layers = layers_of(["a.0", "a.1", "b.0"], [0, 0, 1], stuck=frozenset({0}))
    assert assign([KNN(1), KNN(2)], layers) == {1: KNN(1), 2: KNN(2)}


@given(st.integers(0, 9).filter(lambda n: n not in (3, 6)))
def test_a_sequence_of_another_length_is_refused_with_both_lengths(n: int) -> None:
    with pytest.raises(InputError, match=rf"{n} variants were given for 6 layers in 3 stages of \[2, 2, 2\]"):
        assign([KNN()] * n, STAGED)


@pytest.mark.parametrize("variant", [3, None, 0.5])
def test_other_things_are_no_variant(variant: object) -> None:
    with pytest.raises(InputError, match="neither a variant"):
        assign(variant, STAGED)  # type: ignore[arg-type]
