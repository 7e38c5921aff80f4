from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_memory import memory_source

from fewpairs.data.split import Split
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.source import LabelledSource
from fewpairs.kinds.classification.split import split_labelled, spread


@st.composite
def sources(draw: st.DrawFn) -> LabelledSource:
    """Two to six classes of 1 to 40 training images, in any order."""
    counts = draw(st.lists(st.integers(1, 40), min_size=2, max_size=6))
    labels = draw(st.permutations([label for label, count in enumerate(counts) for _ in range(count)]))
    return memory_source({"train": labels, "test": [0, 1]}, len(counts))


def counts(source: LabelledSource, indices: np.ndarray) -> np.ndarray:
    return np.bincount(source.labels[indices], minlength=len(source.classes))


def held_any(source: LabelledSource, shares: Split) -> bool:
    try:
        split_labelled(source, shares)
    except InputError as error:
        if "leaves none to validate on" in str(error):
            return False
        raise
    return True


@given(sources(), st.sampled_from([0.05, 0.1, 1 / 3, 0.25, 0.5, 0.37]), st.integers(0, 5))
def test_shares_are_stratified_and_apart(source: LabelledSource, fraction: float, seed: int) -> None:
    everything, folds = source.indices("train"), int(1 / fraction + 1e-9)
    total, seen = counts(source, everything), np.zeros(len(source), int)
    for fold in range(folds):
        shares = Split(validation="train", fraction=fraction, fold=fold, seed=seed)
        if (total * fraction < 1).all() and not held_any(source, shares):
            continue
        split = split_labelled(source, shares)
        assert sorted([*split.train, *split.validation]) == everything.tolist()
        assert list(split.validation) == sorted(split.validation)
        held = counts(source, split.validation)
        assert (held <= np.ceil(total * fraction + 1e-9)).all()
        assert (held >= np.minimum(np.floor(total * fraction - 1e-9), total - 1)).all()
        assert (held < total).all(), "every class keeps a training image"
        seen[split.validation] += 1
        assert split.test is not None
        assert split.test.tolist() == source.indices("test").tolist()
    assert seen.max() <= 1, "no image validates twice"


def test_folds_of_a_fifth_hold_every_image_once() -> None:
    source = memory_source({"train": [0] * 23 + [1] * 12 + [2] * 5}, 3)
    splits = [split_labelled(source, Split(fold=fold, seed=3)) for fold in range(5)]
    assert sorted(np.concatenate([split.validation for split in splits])) == list(range(40))
    assert {len(split.validation) for split in splits} == {8}
    assert all(split.test is None for split in splits)


def test_the_seed_decides() -> None:
    source = memory_source({"train": [0, 1] * 50}, 2)

    def held(seed: int) -> list[int]:
        return split_labelled(source, Split(seed=seed)).validation.tolist()

    assert held(1) == held(1)
    assert held(1) != held(2)


def test_the_part_that_validates() -> None:
    labels = [0, 1, 0, 1]
    both = memory_source({"train": labels, "validation": labels, "test": labels}, 2)
    found = split_labelled(both)
    assert found.validation.tolist() == [4, 5, 6, 7]
    assert found.test is not None
    assert found.test.tolist() == [8, 9, 10, 11]
    tested = split_labelled(both, Split(validation="test"))
    assert tested.validation.tolist() == [8, 9, 10, 11]
    assert tested.test is None, "what validates is no test"
    only_test = memory_source({"train": labels, "test": labels}, 2)
    assert split_labelled(only_test).validation.tolist() == [4, 5, 6, 7]
    assert split_labelled(only_test, Split(validation="train", fraction=0.5)).test is not None
    with pytest.raises(InputError, match=r"made has train, test; data\.split\.validation=train holds"):
        split_labelled(only_test, Split(validation="validation"))


@given(sources(), st.integers(1, 45), st.integers(0, 3))
def test_images_per_class(source: LabelledSource, count: int, seed: int) -> None:
    shares = Split(images_per_class=count, seed=seed)
    train = split_labelled(source, shares).train
    assert (counts(source, train) == np.minimum(count, counts(source, source.indices("train")))).all()
    assert len(set(train)) == len(train)
    assert list(train) == sorted(train)


@given(sources(), st.integers(1, 120))
def test_limits_keep_the_shares_of_the_classes(source: LabelledSource, limit: int) -> None:
    everything = source.indices("train")
    total = counts(source, everything)
    share = min(1.0, limit / len(everything))
    train = spread(source, everything, limit, np.random.default_rng(0))
    assert len(train) == min(limit, len(everything))
    assert (np.abs(counts(source, train) - total * share) < 1).all()


def test_a_limit_that_loses_a_class() -> None:
    source = memory_source({"train": [0] * 99 + [1], "test": [0, 1]}, 2)
    with pytest.raises(InputError, match=r"limit=1 leaves no training image of class[01]; raise it"):
        split_labelled(source, Split(limit=1))


def test_a_larger_limit_per_class_adds_images() -> None:
    source = memory_source({"train": [0, 1, 1] * 30, "test": [0, 1]}, 2)
    few, more = (set(split_labelled(source, Split(images_per_class=n)).train) for n in (5, 12))
    assert few < more


def test_limits_leave_the_other_side_alone() -> None:
    source = memory_source({"train": [0, 1] * 50}, 2)
    whole, few = split_labelled(source), split_labelled(source, Split(images_per_class=3, limit=4))
    assert few.validation.tolist() == whole.validation.tolist()
    assert counts(source, few.train).tolist() == [2, 2]
    assert set(few.train) < set(whole.train)
    validated = split_labelled(source, Split(validation_limit=6))
    assert validated.train.tolist() == whole.train.tolist()
    assert counts(source, validated.validation).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 1.0}, "fraction=1.0"),
        ({"fraction": float("nan")}, "fraction=nan"),
        ({"fraction": 1e-9}, "fraction=1e-09"),
        ({"fold": 5}, "fold=5: with folds=5 the folds are 0 to 4"),
        ({"fold": -1}, "fold=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"limit": 0}, "limit=0: give at least 1"),
        ({"images_per_class": 0}, "images_per_class=0"),
        ({"validation_limit": -3}, "validation_limit=-3"),
        ({"validation": "tset"}, "validation='tset'"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split(**settings)  # type: ignore[arg-type]


def test_shares_and_folds_that_a_data_set_cannot_have() -> None:
    source = memory_source({"train": [0, 1] * 50}, 2)
    with pytest.raises(InputError, match=r"fold=4: with fraction=0\.25 the folds are 0 to 3"):
        split_labelled(source, Split(fraction=0.25, fold=4))
    with pytest.raises(InputError, match="share 0 of 100 training images leaves none to validate on"):
        split_labelled(source, Split(fraction=0.0))


def test_sources_that_contradict_themselves() -> None:
    with pytest.raises(DataError, match="no training image of class1"):
        memory_source({"train": [0, 0, 2], "test": [1]}, 3)
    with pytest.raises(DataError, match="labels run from 0 to 3, but there are 3 classes"):
        memory_source({"train": [0, 1, 2, 3]}, 3)
    with pytest.raises(DataError, match=r"has 1 class \(class0\)"):
        memory_source({"train": [0]}, 1)
