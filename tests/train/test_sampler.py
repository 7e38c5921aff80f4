from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.train.sampler import BatchPlan, BatchSampler

plans = st.builds(
    BatchPlan,
    size=st.integers(24, 60),
    batch_size=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    world=st.integers(1, 2),
    seed=st.integers(0, 5),
)


repeated = st.builds(
    BatchPlan,
    size=st.integers(24, 60),
    batch_size=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    world=st.integers(1, 2),
    seed=st.integers(0, 5),
    repeats=st.integers(1, 5),
)


def images_of(plan: BatchPlan, step: int) -> list[tuple[int, int]]:
    return [
        key for index in range(plan.accumulate) for rank in range(plan.world) for key in plan.batch(step, index, rank)
    ]


@given(plans)
def test_an_epoch_shows_no_image_twice_and_drops_less_than_a_batch(plan: BatchPlan) -> None:
    seen = [key for step in range(plan.steps_per_epoch) for key in images_of(plan, step)]
    assert {epoch for epoch, _ in seen} == {0}
    assert len({index for _, index in seen}) == len(seen) > plan.size - plan.global_batch


@given(repeated)
def test_the_images_of_a_step_do_not_depend_on_how_it_is_cut(plan: BatchPlan) -> None:
    whole = BatchPlan(plan.size, plan.global_batch, seed=plan.seed, repeats=plan.repeats)
    for step in (0, plan.steps_per_epoch, 3 * plan.steps_per_epoch - 1):
        assert images_of(plan, step) == images_of(whole, step)


@given(repeated)
def test_an_epoch_shows_its_first_images_so_many_times_each_and_no_copy_twice(plan: BatchPlan) -> None:
    for epoch in (0, 1):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        seen = [key for step in steps for key in images_of(plan, step)]
        rounds = range(epoch * plan.repeats, (epoch + 1) * plan.repeats)
        shown = plan.permutation(epoch)[: -(-len(seen) // plan.repeats)].tolist()
        copies = [(number, image) for image in shown for number in rounds][: len(seen)]
        assert sorted(seen) == sorted(copies)


@given(repeated)
def test_enough_forward_passes_hold_no_image_twice(plan: BatchPlan) -> None:
    assume(plan.accumulate * plan.world >= plan.repeats)
    for step in range(plan.steps_per_epoch):
        for index in range(plan.accumulate):
            for rank in range(plan.world):
                images = [image for _, image in plan.batch(step, index, rank)]
                assert len(set(images)) == len(images) == plan.batch_size


def test_copies_of_an_image_are_in_one_step() -> None:
    plan = BatchPlan(12, 2, world=3, repeats=3)
    order = plan.permutation(0).tolist()
    for rank in range(3):
        assert plan.batch(0, 0, rank) == [(rank, order[0]), (rank, order[1])]
        assert plan.batch(2, 0, rank)[0] == (3 + rank, int(plan.permutation(1)[0]))


@given(repeated, st.integers(0, 40), st.integers(0, 30))
def test_starting_anywhere_equals_going_on(plan: BatchPlan, start: int, length: int) -> None:
    for rank in range(plan.world):
        through = list(BatchSampler(plan, rank=rank, stop=start + length))
        late = BatchSampler(plan, rank=rank, start=start, stop=start + length)
        assert list(late) == through[start * plan.accumulate :]
        assert len(late) == len(list(late))


def test_epochs_and_seeds_differ() -> None:
    def first(seed: int, step: int) -> list[int]:
        return [index for _, index in BatchPlan(50, 50, seed=seed).batch(step, 0, 0)]

    assert first(0, 0) != first(0, 1) != first(1, 1)
    assert sorted(first(0, 0)) == list(range(50))
    assert list(islice(BatchSampler(BatchPlan(4, 2), stop=9), 3)) == [
        BatchPlan(4, 2).batch(step, 0, 0) for step in range(3)
    ]


def test_too_few_images_name_sizes_and_remedy() -> None:
    with pytest.raises(
        InputError, match=r"has 15 images, fewer than the 16 .*batch_size 4 x accumulate 2 x 2 proc.*lower"
    ):
        BatchPlan(15, 4, accumulate=2, world=2)
