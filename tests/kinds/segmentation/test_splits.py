from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.split import CaseSplit, check_split, split_cases, split_fraction, split_listed
from fewpairs.kinds.segmentation.store import Store


@dataclass(frozen=True)
class Record:
    case: str
    empty: tuple[bool, ...]


records = st.lists(
    st.builds(
        Record, st.integers(0, 15).map(lambda n: f"case{n}"), st.lists(st.booleans(), min_size=1, max_size=9).map(tuple)
    ),
    min_size=1,
    max_size=40,
)


@given(records, st.integers(2, 5), st.integers(0, 3))
def test_folds_are_disjoint_and_cover_every_case(scans: list[Record], folds: int, seed: int) -> None:
    cases = {scan.case for scan in scans}
    if len(cases) < folds:
        with pytest.raises(InputError, match=f"only {len(cases)} cases"):
            split_cases(scans, folds=folds)
        return
    splits = [split_cases(scans, folds=folds, fold=fold, seed=seed) for fold in range(folds)]
    assert sorted(case for split in splits for case in split.validation) == sorted(cases)
    for split in splits:
        assert set(split.train) == cases - set(split.validation)
        assert split.validation
    assert splits[0] == split_cases(scans, folds=folds, fold=0, seed=seed), "the same arguments, the same split"


def test_folds_are_balanced_in_size_and_emptiness() -> None:
    rng = np.random.default_rng(0)
    scans = [
        Record(f"case{n}", tuple((rng.random(100) < share).tolist()))
        for n, share in enumerate(rng.uniform(0.2, 0.9, 50))
    ]
    empties = []
    for fold in range(5):
        split = split_cases(scans, folds=5, fold=fold)
        assert len(split.validation) == 10
        empties.append(np.mean([scan.empty for scan in scans if scan.case in split.validation]))
    assert max(empties) - min(empties) < 0.02


def test_another_seed_gives_another_split() -> None:
    scans = [Record(f"case{n}", (False, True)) for n in range(20)]
    assert len({split_cases(scans, seed=seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"fold": 5}, {"fold": -1}, {"folds": 30}])
def test_folds_that_cannot_be(store: Store, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        split_cases(store.scans, **wrong)


@given(records, st.floats(0.01, 0.99), st.integers(0, 3))
def test_a_fraction(scans: list[Record], share: float, seed: int) -> None:
    cases = {scan.case for scan in scans}
    if len(cases) < 2:
        with pytest.raises(InputError, match="single case"):
            split_fraction(scans, validation=share)
        return
    split = split_fraction(scans, validation=share, seed=seed)
    assert {*split.train, *split.validation} == cases
    assert abs(len(split.validation) - share * len(cases)) <= 1
    assert split == split_fraction(scans, validation=share, seed=seed)


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_a_fraction_lies_between_0_and_1(store: Store, share: float) -> None:
    with pytest.raises(InputError, match="validation="):
        split_fraction(store.scans, validation=share)


def test_listed_cases(store: Store) -> None:
    first, second, *others = store.cases
    assert split_listed(store.scans, [first]) == CaseSplit((second, *others), (first,))
    assert split_listed(store.scans, [first], [second]) == CaseSplit((second,), (first,))
    with pytest.raises(InputError, match="'nobody', which the data set does not have"):
        split_listed(store.scans, ["nobody"])
    with pytest.raises(InputError, match=f"case {first!r} is in both"):
        split_listed(store.scans, [first], [first, second])


def test_a_case_on_both_sides_is_named() -> None:
    with pytest.raises(InputError, match="case 'b' is in both train and validation"):
        CaseSplit(("a", "b"), ("b", "c"))


def test_a_side_without_cases_and_a_case_twice() -> None:
    with pytest.raises(InputError, match="no validation cases"):
        CaseSplit(("a",), ())
    with pytest.raises(InputError, match="'a' is listed twice in train"):
        CaseSplit(("a", "a"), ("b",))


def test_unknown_cases_are_named() -> None:
    check_split(CaseSplit(("a",), ("b",)), ["a", "b", "c"])
    with pytest.raises(InputError, match="'b', which the data set does not have"):
        check_split(CaseSplit(("a",), ("b",)), ["a", "c"])
