"""Names and shapes of cases, as the command line reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.bench import SETS, OperatorCase, convert_selection, parse_shape, parse_topk, select
from fewpairs.bench.cases import DTYPES, ModelCase, parse_case
from fewpairs.errors import InputError

numbers = st.integers(1, 10**6)
shares = st.floats(0.001, 1).map(lambda x: round(x, 3))


@given(b=numbers, h=numbers, n=numbers, d=numbers, topk=numbers | shares, dtype=st.sampled_from(DTYPES))
def test_a_case_of_k_nearest_keys_is_read_back_from_its_name(
    b: int, h: int, n: int, d: int, topk: int | float, dtype: str
) -> None:
    case = OperatorCase("knn", b, h, n, d, topk, dtype)
    found = parse_case(case.name)
    assert found == case
    assert type(found.topk) is type(topk)  # type: ignore[union-attr]


@given(op=st.sampled_from(["kv", "key_only", "softmax"]), sizes=st.tuples(numbers, numbers, numbers, numbers))
def test_the_other_operators_too(op: str, sizes: tuple[int, int, int, int]) -> None:
    case = OperatorCase(op, *sizes, device="cuda")
    assert parse_case(case.name) == case


def test_every_case_of_every_set_is_read_back_but_for_what_is_timed() -> None:
    for each in SETS.values():
        for case in each.cases:
            found = parse_case(case.name)
            assert found is not None
            assert found.name == case.name


def test_every_goal_speaks_of_a_case_and_a_baseline_that_its_set_has() -> None:
    for each in SETS.values():
        known = {case.name for case in each.cases}
        for goal in each.goals:
            assert goal.case in known
            assert goal.until is None or goal.until in known
            assert goal.against in (None, "sdpa", "flash", "published", "copy", "dense")
            assert goal.op == goal.case.split("-")[0] or goal.op == "model"


@given(sizes=st.tuples(numbers, numbers, numbers, numbers))
def test_a_shape_is_four_numbers(sizes: tuple[int, int, int, int]) -> None:
    assert parse_shape(",".join(map(str, sizes))) == sizes


@given(st.text(max_size=12) | st.text("0123456789.,-knbhd", max_size=12))
def test_any_other_text_is_refused_in_a_sentence(text: str) -> None:
    for parse, told in ((parse_shape, "--shape"), (parse_topk, "topk")):
        said = ""
        try:
            assert parse(text)
        except InputError as error:
            said = str(error)
        assert not said or told in said
    assert parse_case(text) is None


@pytest.mark.parametrize(
    "text", ["8,6,197", "8,6,197,0", "8,6,-1,64", "8,6,7,64,1", "a,b,c,d", "8,6,1e3,64", "٨,6,7,8"]
)
def test_malformed_shapes(text: str) -> None:
    with pytest.raises(InputError, match="four numbers of 1 or more"):
        parse_shape(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("knn", 1, 1, 8, 8), "needs the number of keys"),
        (("kv", 1, 1, 8, 8, 4), "does not select keys"),
        (("knm", 1, 1, 8, 8, 4), "did you mean 'knn'"),
        (("kv", 1, 0, 8, 8), "numbers of 1 or more"),
        (("knn", 1, 1, 8, 8, 1.5), "topk=1.5"),
        (("kv", 1, 1, 8, 8, None, "float16"), "did you mean 'bfloat16'"),
        (("kv", 1, 1, 8, 8, None, "float32", "gpu"), "device 'gpu'"),
    ],
)
def test_impossible_cases(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OperatorCase(*arguments)  # type: ignore[arg-type]


def test_a_model_is_measured_in_float32_with_an_attention_that_exists() -> None:
    assert ModelCase("deit_tiny_patch16_224", 2, 224, "knn7").name == "deit_tiny_patch16_224-b2-224px-knn7"
    with pytest.raises(InputError, match="did you mean 'knn'"):
        ModelCase("deit_tiny_patch16_224", 2, 224, "knnn")


def test_sets_patterns_and_single_cases_are_selected() -> None:
    assert select([]).cases == SETS["quick"].cases
    assert {case.op for case in select(["goals"], ["kv"]).cases} == {"kv"}
    assert all(case.name.startswith("knn-b2") for case in select(["knn-b2*"]).cases)
    alone = select(["knn-b1-h2-n30-d8-k4"])
    assert [case.name for case in alone.cases] == ["knn-b1-h2-n30-d8-k4"]
    assert alone.goals == ()
    assert select(["knn-b8-h6-n197-d64-k100"]).goals, "goals belong to the case, not to the set's name"


def test_baselines_of_a_set_hold_only_where_every_name_is_a_set() -> None:
    assert select(["quick"]).against is not None
    assert select(["quick", "kv-b1-h1-n8-d8"]).against is None


def test_unknown_cases_and_empty_selections() -> None:
    with pytest.raises(InputError, match="did you mean 'goals'"):
        select(["goal"])
    with pytest.raises(InputError, match="none of lengths is of the operator model"):
        select(["lengths"], ["model"])


def test_a_case_moved_to_another_dtype_has_no_goals() -> None:
    chosen = convert_selection(select(["goals"], ["kv"]), "bfloat16", None)
    assert {case.dtype for case in chosen.cases} == {"bfloat16"}
    assert chosen.goals == ()
