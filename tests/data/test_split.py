from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.data.split import Split, held_out_units, part_names, part_of, parts_in, random_subset
from fewpairs.errors import InputError


@given(st.integers(2, 60), st.integers(2, 12), st.integers(0, 3))
def test_folds_share_no_unit_and_never_hold_all(units: int, folds: int, seed: int) -> None:
    held = []
    for fold in range(min(folds, units)):
        try:
            held.append(held_out_units(units, Split(folds=folds, fold=fold, seed=seed)))
        except InputError as error:
            assert "the folds are 0 to" in str(error)  # noqa: PT017
    assert held
    assert all(0 < len(one) < units for one in held)
    assert len({int(place) for one in held for place in one}) == sum(len(one) for one in held)


@given(st.integers(2, 200), st.integers(2, 20))
def test_a_fraction_of_one_in_so_many_is_a_fold(units: int, folds: int) -> None:
    assert (held_out_units(units, Split(folds=folds)) == held_out_units(units, Split(fraction=1 / folds))).all()


@given(st.integers(1, 50), st.none() | st.integers(1, 60), st.integers(0, 3))
def test_limits_keep_the_order(units: int, limit: int | None, seed: int) -> None:
    places = random_subset(units, limit, seed)
    assert len(places) == min(units, units if limit is None else limit)
    assert (np.diff(places) > 0).all()


def test_auto_takes_the_first_part_that_does_not_train() -> None:
    assert Split().validated(("train", "validation", "test"), "x") == "validation"
    assert Split().validated(("train", "test"), "x") == "test"
    assert Split().validated(("train",), "x") == "train"
    assert Split(train=("train", "validation")).validated(("train", "validation", "test"), "x") == "test"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": "val"}, "validation='val': allowed are auto, train, validation, test"),
        ({"train": ("train", "val")}, "'val' is no part"),
        ({"train": ()}, "one at least"),
        ({"folds": 1}, "at least 2"),
        ({"fraction": 0.6, "test_fraction": 0.4}, "leaves nothing to train on"),
        ({"test_fraction": -0.1}, "at least 0 and below 1"),
        ({"folds": 3, "fold": 3}, "with folds=3 the folds are 0 to 2"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split(**settings)  # type: ignore[arg-type]


def test_fields_that_a_kind_does_not_have_are_refused() -> None:
    Split(fold=1).refuse_others("detection", ("fold",))
    with pytest.raises(InputError, match=r"data\.split\.cases=\['a'\]: detection has no such setting; leave it out"):
        Split(cases=("a",)).refuse_others("detection", ("fold",))


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ("train Training TRAIN training_set train-set TrainSet seg_train train2017 train_images trainval", "train"),
        ("val Val valid Validation val2017 dev valset", "validation"),
        ("test Testing test_set seg_test TestData test1", "test"),
        ("cat seg_pred train_station testament validity holdout train_test images 2017", None),
    ],
)
def test_names_of_folders_that_mean_a_part(names: str, part: str | None) -> None:
    assert {name: part_of(name) for name in names.split()} == dict.fromkeys(names.split(), part)
    assert part_names(names.split()) == ({part: sorted(names.split())} if part else {})


@given(st.text(max_size=20))
def test_any_name_means_one_part_or_none(name: str) -> None:
    assert part_of(name) in (None, *parts_in(name))
