"""The race: who runs when, how often, and who leaves."""

from __future__ import annotations

import gc
import time

import pytest

from fewpairs.bench.timing import time_rounds


def test_each_round_has_every_contender_once_in_orders_that_change() -> None:
    order: list[str] = []
    steps = {name: (lambda name=name: order.append(name)) for name in "abc"}
    found = time_rounds(steps, device="cpu", seconds=0, rounds=40)
    rounds = [order[start : start + 3] for start in range(6, len(order), 3)]
    assert order[:6] == ["a", "a", "b", "b", "c", "c"], "two runs each warm up"
    assert [sorted(each) for each in rounds] == [["a", "b", "c"]] * 40
    assert len({tuple(each) for each in rounds}) == 6
    assert {name: len(values) for name, values in found.seconds.items()} == dict.fromkeys("abc", 40)
    assert found.rounds == 40


def test_rounds_follow_from_the_seconds_within_bounds() -> None:
    steps = {"a": lambda: time.sleep(0.002)}
    assert time_rounds(steps, device="cpu", seconds=0).rounds == 7
    assert 8 <= time_rounds(steps, device="cpu", seconds=0.04).rounds <= 20
    assert time_rounds({"a": lambda: None}, device="cpu", seconds=10).rounds == 200


def test_the_slow_and_those_that_find_no_memory_leave_with_a_reason() -> None:
    def large() -> None:
        raise RuntimeError("[enforce fail at alloc] not enough memory: you tried to allocate 9 bytes.")

    def unfit() -> None:
        raise NotImplementedError("no backward here\nand more")

    steps = {"fast": lambda: None, "slow": lambda: time.sleep(0.03), "large": large, "unfit": unfit}
    found = time_rounds(steps, device="cpu", seconds=0, rounds=2, limit=0.02)
    assert list(found.seconds) == ["fast"]
    assert "more than the limit of 0.02 s" in found.left_out["slow"]
    assert found.left_out["large"] == "there is not enough memory for it"
    assert found.left_out["unfit"] == "it fails with NotImplementedError: no backward here"


def test_a_mistake_of_a_kernel_is_not_hidden() -> None:
    def broken() -> None:
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index out of range"):
        time_rounds({"broken": broken}, device="cpu", seconds=0)


def test_the_collector_rests_during_the_rounds_and_works_again_after() -> None:
    seen: list[bool] = []
    time_rounds({"a": lambda: seen.append(gc.isenabled())}, device="cpu", seconds=0, rounds=3)
    assert seen == [True, True, False, False, False]
    assert gc.isenabled()


def test_nobody_left_is_no_race() -> None:
    assert time_rounds({"slow": lambda: time.sleep(0.01)}, device="cpu", seconds=0, limit=0.001).rounds == 0
