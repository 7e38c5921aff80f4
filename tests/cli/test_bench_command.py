"""`fewpairs bench` from outside: what it writes, what it refuses, and what an interruption leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewpairs.bench import run as bench_run
from fewpairs.ops import knn
from fewpairs.ops.dispatch import Kernel

Call = Callable[..., Any]
TINY = ["--rounds", "5", "--no-memory", "--quiet"]
KNN, KV = "knn-b1-h2-n40-d16-k9", "kv-b1-h2-n40-d16"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "bench.jsonl").read_text(encoding="utf-8").splitlines()]


def test_help_has_an_example(call: Call) -> None:
    answer = call("bench", "--help")
    assert answer.status == 0
    assert "Example: fewpairs bench" in answer.out


def test_a_case_becomes_records_and_a_page(call: Call, tmp_path: Path) -> None:
    answer = call("bench", KNN, *TINY, "--out", str(tmp_path))
    assert answer.status == 0, answer.err
    records = lines(tmp_path)
    chosen = records[0]["contender"]
    assert [(r["contender"], r["pass"]) for r in records] == [
        (name, pass_) for pass_ in ("forward", "training") for name in (chosen, "sdpa", "published")
    ]
    first = records[0]
    assert first["shape"] == {"b": 1, "h": 2, "n": 40, "d": 16, "k": 9}
    assert first["seconds"]["lower_quartile"] <= first["seconds"]["median"] <= first["seconds"]["upper_quartile"]
    assert set(first["ratios"]) == {"sdpa", "published"}
    assert first["rounds"] == 5
    assert first["check"]["share_of_allowance"] <= 1
    assert torch.__version__.startswith(first["environment"]["packages"]["torch"])
    assert first["environment"]["processor"]
    assert first["commit"]
    assert first["date"]
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert f"| {KNN} | forward and backward | {chosen} |" in page
    assert answer.out.count(KNN) == 6
    assert not (tmp_path / "bench.svg").exists(), "one length is no figure"


def test_two_lengths_are_a_figure_and_a_second_run_is_appended(call: Call, tmp_path: Path) -> None:
    arguments = ["--op", "kv", "--shape", "1,2,20,8", "--shape", "1,2,40,8", "--passes", "forward"]
    for _ in range(2):
        answer = call("bench", *arguments, "--against", "sdpa", *TINY, "--out", str(tmp_path))
        assert answer.status == 0, answer.err
    assert len(lines(tmp_path)) == 8
    assert (tmp_path / "bench.svg").exists()
    assert (tmp_path / "bench.png").exists()


def test_goals_are_judged_and_said(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewpairs.bench import SETS, Goal

    goals = (Goal(KV, "forward", "time", 1000.0, "sdpa"), Goal(KV, "forward", "speed", 1000.0, "sdpa"))
    monkeypatch.setitem(SETS, "quick", SETS["quick"].__class__("tiny", SETS["quick"].cases, goals))
    answer = call("bench", KV, "--against", "sdpa", *TINY, "--out", str(tmp_path))
    assert answer.status == 0, "a goal that is not met is a result, not a failure"
    assert f"goal met: {KV}, forward: at most 1000 x the time of sdpa" in answer.out
    assert f"goal not met: {KV}, forward: at least 1000 x as fast as sdpa" in answer.out
    assert "1 of 2 met." in (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert [r["met"] for r in lines(tmp_path) if r["kind"] == "goal"] == [True, False]


def test_kernels_by_name_take_the_chosen_ones_place(call: Call, tmp_path: Path) -> None:
    answer = call("bench", KNN, "--kernels", "masked,reference", *TINY, "--passes", "forward", "--out", str(tmp_path))
    assert answer.status == 0, answer.err
    assert [r["contender"] for r in lines(tmp_path)] == ["masked", "reference", "sdpa", "published"]


@pytest.fixture
def wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel in front of the table that keeps one key too few."""

    def run(q: Tensor, k: Tensor, v: Tensor, *, topk: int, **options: Any) -> Tensor:
        return knn.reference.masked(q, k, v, topk=topk - 1, **options)

    monkeypatch.setattr(knn, "KERNELS", (Kernel("wrong", lambda *_args, **_options: None, run), *knn.KERNELS))


@pytest.mark.usefixtures("wrong_kernel")
def test_a_wrong_kernel_refuses_its_case_and_no_other(call: Call, tmp_path: Path) -> None:
    answer = call("bench", KNN, KV, *TINY, "--passes", "forward", "--against", "sdpa", "--out", str(tmp_path))
    assert answer.status == 1
    assert f"nothing is reported for: {KNN}" in answer.err
    assert "wrong does not compute" in answer.out
    records = lines(tmp_path)
    assert [r["kind"] for r in records if r["case"] == KNN] == ["refused"]
    assert {r["kind"] for r in records if r["case"] == KV} == {"measured"}
    assert "wrong does not compute" in (tmp_path / "bench.md").read_text(encoding="utf-8")


def test_a_wrong_baseline_is_left_out(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda q, k, v, scale: v * scale)
    answer = call("bench", KNN, *TINY, "--passes", "forward", "--out", str(tmp_path))
    assert answer.status == 0, answer.err
    assert "sdpa is left out: sdpa does not compute" in answer.out
    assert "sdpa" not in {r["contender"] for r in lines(tmp_path) if r["kind"] == "measured"}


def test_a_kernel_that_raises_refuses_its_case(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_tensors: Tensor, **_options: Any) -> Tensor:
        raise RuntimeError("index 7 is out of bounds")

    monkeypatch.setattr(knn, "KERNELS", (Kernel("raises", lambda *_args, **_options: None, run), *knn.KERNELS))
    answer = call("bench", KNN, *TINY, "--out", str(tmp_path))
    assert answer.status == 1
    assert "raises: it fails with RuntimeError: index 7 is out of bounds" in answer.out
    assert "Traceback" not in answer.err


def test_a_baseline_that_does_not_compile_is_left_out(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise NotImplementedError("no compiler here")

    monkeypatch.setattr("fewpairs.bench.baselines._compiled_flex", broken)
    answer = call("bench", KV, *TINY, "--against", "sdpa,flex", "--out", str(tmp_path))
    assert answer.status == 0, answer.err
    left = {(r["pass"], r["why"]) for r in lines(tmp_path) if r["kind"] == "left out"}
    assert left == {
        ("forward", "it fails with NotImplementedError: no compiler here"),
        ("training", "FlexAttention has no backward pass on a CPU"),
    }


def test_an_interruption_keeps_what_was_measured(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = bench_run.time_rounds, []

    def time_rounds(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(bench_run, "time_rounds", time_rounds)
    answer = call("bench", KNN, KV, *TINY, "--out", str(tmp_path))
    assert answer.status == 1
    assert "interrupted; what was measured is kept" in answer.err
    assert {(r["case"], r["pass"]) for r in lines(tmp_path)} == {(KNN, "forward")}
    assert "Interrupted before its end." in (tmp_path / "bench.md").read_text(encoding="utf-8")


def test_the_list_has_sets_cases_and_goals_and_measures_nothing(call: Call, tmp_path: Path) -> None:
    answer = call("bench", "--list")
    assert answer.status == 0
    for name in ("quick: ", "goals: ", "lengths: ", "gpu: "):
        assert name in answer.out
    assert "    goal, forward: at most 0.75 x the time of sdpa" in answer.out
    few = call("bench", "goals", "--op", "kv", "--list").out
    assert "kv-b1-h6-n4096-d64" in few
    assert "knn-" not in few


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["goalz"], "'goalz' is neither a set nor a case; did you mean 'goals'"),
        (["--op", "knm"], "did you mean 'knn'"),
        (["--op", "knn", "--shape", "1,2,3"], "'1,2,3' must be b,h,n,d: four numbers"),
        (["--op", "knn", "--shape", "1,2,30,8"], "knn needs the number of keys"),
        (["--op", "knn", "--shape", "1,2,30,8", "--topk", "half"], "topk 'half' must be a number of keys"),
        (["--op", "knn", "--shape", "1,2,30,8", "--topk", "1.5"], "topk=1.5"),
        (["--shape", "1,2,30,8"], "--shape goes with --op"),
        (["goals", "--topk", "5"], "--topk goes with --shape"),
        ([KNN, "--passes", "backward"], "'backward' is not known"),
        ([KNN, "--dtype", "float16"], "dtype 'float16' is not measured"),
        ([KNN, "--kernels", "bonded"], "did you mean 'bounded'"),
        ([KNN, "--against", "spda"], "did you mean 'sdpa'"),
        ([KV, "nosuchmodel-b1-224px-knn5", "--no-memory"], "'nosuchmodel' is not a model of fewpairs or timm"),
    ],
)
def test_a_wrong_call_gives_one_message_and_status_2(
    arguments: list[str], message: str, call: Call, tmp_path: Path
) -> None:
    answer = call("bench", *arguments, "--quiet", "--out", str(tmp_path))
    assert answer.status == 2, answer
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "bench.jsonl").exists()


def test_a_kernel_that_refuses_is_said_in_its_sentence(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = Kernel("picky", lambda *_args, **_options: "it wants more tokens", knn.KERNELS[-1].run)
    monkeypatch.setattr(knn, "KERNELS", (picky, *knn.KERNELS))
    answer = call("bench", KNN, "--kernels", "picky", *TINY, "--out", str(tmp_path))
    assert answer.status == 2
    assert f"kernel 'picky' refuses {KNN}: it wants more tokens" in answer.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none(call: Call, tmp_path: Path) -> None:
    for arguments in (["gpu"], [KNN, "--device", "cuda"]):
        answer = call("bench", *arguments, "--quiet", "--out", str(tmp_path))
        assert answer.status == 2
        assert "needs a CUDA device" in answer.err
