"""Peak memory of a run, from inside and from the helping process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from fewpairs.bench.cases import OperatorCase, parse_case
from fewpairs.bench.contenders import contender, contenders
from fewpairs.bench.peak_memory import MemoryNotMeasured, PeakMemory
from fewpairs.numbers import duration, size

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
CASE = OperatorCase("softmax", 1, 2, 1024, 16)
SCORES = 2 * 1024 * 1024 * 4


@linux
@pytest.mark.slow
def test_a_fresh_process_measures_what_one_run_holds() -> None:
    with PeakMemory(threads=1) as memory:
        dense = memory.measure(CASE, contender(CASE, "published"), "forward")
        fused = memory.measure(CASE, contender(CASE, "sdpa"), "forward")
        assert 1.5 * SCORES < dense < 4 * SCORES
        assert fused < SCORES / 2
        nobody = replace(contender(CASE, "sdpa"), name="nobody")
        with pytest.raises(MemoryNotMeasured, match="nobody"):
            memory.measure(CASE, nobody, "forward")
        assert memory.measure(CASE, contender(CASE, "sdpa"), "training") > 0, "one failure does not end the helper"


@linux
def test_an_answer_is_a_number_or_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    from fewpairs.bench import server

    request = {"case": CASE.name, "contender": "published", "pass": "forward", "threads": 1}
    code = f"from fewpairs.bench import server; print(server.answer({request!r})['peak'])"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(fresh.stdout) > SCORES, "a process of its own, as a used one has memory left that no longer counts"
    assert "why" in server.answer({**request, "contender": "nobody"})
    assert server.answer({**request, "case": "nothing"}) == {"why": "'nothing' is not a case"}
    json.dumps(server.answer({**request, "pass": "training"}))


def test_contenders_are_the_chosen_kernel_and_the_baselines() -> None:
    case = parse_case("knn-b1-h1-n30-d8-k4")
    assert case is not None
    found = contenders(case, "forward")
    assert [one.role for one in found] == ["kernel", "baseline", "baseline"]
    assert [one.name for one in contenders(case, "forward", kernels=["masked", "reference"], against=["sdpa"])] == [
        "masked",
        "reference",
        "sdpa",
    ]


def test_what_would_not_fit_is_left_out_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewpairs.bench.operators.free_memory", lambda _device: 2**20)
    reason = contender(CASE, "published").refuse("forward")
    assert reason == "it holds 5 times its scores, 40 MiB, and 1 MiB are free"
    assert contender(CASE, "flex").refuse("training") == "FlexAttention has no backward pass on a CPU"


def test_numbers_for_people() -> None:
    assert (duration(2.5), duration(0.0123), duration(4.2e-5)) == ("2.50 s", "12.3 ms", "42 µs")
    assert (size(3 * 2**30), size(5 * 2**20), size(2048)) == ("3.00 GiB", "5 MiB", "2 KiB")
