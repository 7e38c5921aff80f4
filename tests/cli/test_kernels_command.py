"""`fewpairs kernels`, and the line on kernels of `fewpairs doctor`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.cli import doctor, kernels
from fewpairs.errors import InputError
from fewpairs.ops import key_only, knn, kv, softmax
from fewpairs.ops.native import Library, Unavailable, cache

TABLES = {
    "softmax": softmax.KERNELS,
    "knn": knn.KERNELS,
    "kv": kv.KERNELS,
    "key_only": key_only.KERNELS,
    "global_key": key_only.GLOBAL_KERNELS,
}
Call = Callable[..., Any]


def ask(call: Call, *words: str) -> dict[str, Any]:
    answer = call("kernels", *words, "--json")
    assert answer.status == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


@pytest.mark.parametrize("op", kernels.OPERATORS)
@pytest.mark.parametrize("extra", [(), ("--grad",), ("--bias", "bool"), ("--dtype", "bfloat16"), ("--device", "meta")])
def test_one_sentence_a_kernel_and_one_is_chosen(op: str, extra: tuple[str, ...], call: Call) -> None:
    topk = ("--topk", "7") if op == "knn" else ()
    found = ask(call, "--op", op, "--shape", "2,3,40,16", *topk, *extra)
    assert list(found["kernels"]) == [kernel.name for kernel in TABLES[op]]
    assert [name for name, text in found["kernels"].items() if text == "chosen"] == [found["chosen"]]
    assert found["keys"] == 40


def test_what_was_said_is_what_happens(call: Call) -> None:
    learned = ask(call, "--op", "kv", "--shape", "1,2,9,8", "--bias", "key", "--grad")["kernels"]
    plain = ask(call, "--op", "kv", "--shape", "1,2,9,8", "--bias", "key", "--no-grad")["kernels"]
    assert learned["fused"].startswith("refuses: the key bias needs a gradient")
    assert not plain["fused"].startswith("refuses")
    empty = ask(call, "--op", "softmax", "--shape", "1,2,5,8", "--keys", "0")
    assert empty["chosen"] == "reference"


def test_text_names_the_binary_and_how_it_was_compiled(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    library = kernels.library_of("knn")
    assert library is not None
    text = call("kernels", "--op", "knn", "--shape", "1,2,30,8", "--topk", "0.5").out
    lines = text.splitlines()
    assert lines[0].split()[0] == knn.KERNELS[0].name
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    if library.unavailable() is None:
        assert lines[-1].startswith(f"C++: {library.path}, compiled for ")
        assert "-std=c++17" in lines[-1]
    else:
        assert library.unavailable() in lines[0]


def test_sizes_of_any_number_take_no_memory(call: Call) -> None:
    found = ask(call, "--op", "knn", "--shape", "64,16,500000,64", "--topk", "0.25", "--bias", "float")
    assert found["topk"] == 125_000


def test_asked_for_by_name(call: Call) -> None:
    words = ("kernels", "--op", "kv", "--shape", "1,2,9,8", "--kernel")
    answer = call(*words, "reference")
    assert "reference  chosen, as asked" in answer.out
    assert "could run, but another is asked for" in answer.out
    refused = call(*words, "folded")
    assert refused.status == 2
    assert "kernel 'folded' refuses: there is no key bias to fold" in refused.err
    assert "did you mean 'reference'" in call(*words, "referense").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--op knm --shape 1,1,1,1", "--op 'knm' is not known; allowed: softmax, knn"),
        ("--op kv --shape 1,1,1", "--shape '1,1,1' must be four whole numbers"),
        ("--op kv --shape 1,1,-1,4", "must be four whole numbers"),
        ("--op kv --shape 1,1,4,0", "heads of width 0"),
        ("--op kv --shape 1,999999999,999999999,999999999", "beyond any memory"),
        ("--op kv --shape 1,1,4,4 --dtype int8", "--dtype 'int8' is not known"),
        ("--op kv --shape 1,1,4,4 --bias some", "--bias 'some' is not known"),
        ("--op kv --shape 1,1,4,4 --device tpu", "--device 'tpu' cannot be used here"),
        ("--op kv --shape 1,1,4,4 --topk 3", "--topk belongs to knn"),
        ("--op kv --shape 1,1,4,4 --keys 3", "--keys belongs to softmax and knn"),
        ("--op knn --shape 1,1,4,4", "--op knn needs --topk"),
        ("--op knn --shape 1,1,4,4 --topk few", "--topk 'few' must be a number of keys"),
        ("--op knn --shape 1,1,4,4 --topk 0", "topk=0 is out of range"),
        ("--op knn --shape 1,1,4,4 --topk nan", "topk=nan is out of range"),
        ("--op knn --shape 1,1,4,4 --topk 3 --keys -1", "--keys -1 must be a number of keys"),
        ("--op knn --shape 1,1,4,4 --topk 3 --keys 0", "have no keys"),
        ("--op knn --shape 1,1,4,4 --topk 3 --bias key", "--bias key does not fit knn; allowed: none, float, bool"),
        ("--op key_only --shape 1,1,4,4 --bias float", "--bias float does not fit key_only; allowed: none, bool"),
        ("--op global_key --shape 1,1,0,4", "needs one position at least"),
        ("--op kv", "Missing option '--shape'"),
    ],
)
def test_a_wrong_call_is_one_sentence(words: str, message: str, call: Call) -> None:
    answer = call("kernels", *words.split())
    assert answer.status == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


@given(st.text(alphabet="0123456789,.-x \u0663", max_size=24))
def test_any_shape_is_four_numbers_or_an_error(text: str) -> None:
    sizes: tuple[int, ...] | None = None
    with contextlib.suppress(InputError):
        sizes = kernels.parse_shape(text)
    parts = [part.strip() for part in text.split(",")]
    plain = len(parts) == 4 and all(re.fullmatch("[0-9]{1,9}", part) for part in parts)
    assert sizes == (tuple(map(int, parts)) if plain and int(parts[3]) > 0 else None)


def test_help_has_an_example_that_runs(call: Call) -> None:
    text = call("kernels", "--help").out
    example = next(line for line in text.splitlines() if "Example: fewpairs" in line)
    words = example.strip(" │").split("Example: fewpairs ")[1].split()
    assert call(*words).status == 0


def the_line() -> doctor.Finding:
    (finding,) = doctor.kernels()
    return finding


def test_doctor_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEWPAIRS_NATIVE", raising=False)
    library = kernels.library_of("knn")
    assert library is not None
    if library.unavailable() is not None:
        assert the_line().state == "note"
        return
    line = the_line()
    assert line.state == "good"
    assert f"in {cache.folder()}: " in line.text
    monkeypatch.setattr(cache, "find", lambda path: False)
    assert ": 0 of " in the_line().text


def test_doctor_says_why_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWPAIRS_NATIVE", "0")
    assert the_line().text == "C++ is switched off by FEWPAIRS_NATIVE=0"
    monkeypatch.delenv("FEWPAIRS_NATIVE")
    monkeypatch.setattr(Library, "tried", False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    line = the_line()
    assert line.state == "note"
    assert "'no-such-compiler', was not found" in line.text
    assert "C++ compiler" in line.remedy

    def broken(self: Library) -> None:
        raise Unavailable("it burns")

    monkeypatch.setattr(Library, "plan", broken)
    assert the_line().text == "none in C++: it burns"


def test_arguments_have_their_true_shapes() -> None:
    made = {"dtype": torch.bfloat16, "device": torch.device("cpu"), "requires_grad": True}
    _, (q, k, v), options = kernels.arguments("knn", (2, 3, 5, 8), 7, 0.5, "float", made)
    assert (q.shape, k.shape, v.shape) == ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))
    assert options["bias"].shape == (1, 1, 5, 7)
    assert options["topk"] == 4
    assert all(x.requires_grad and x.dtype == torch.bfloat16 for x in (q, k, v, options["bias"]))
    _, _, options = kernels.arguments("key_only", (2, 3, 5, 8), None, None, "bool", made)
    assert options["mask"].dtype == torch.bool
    assert not options["mask"].requires_grad
