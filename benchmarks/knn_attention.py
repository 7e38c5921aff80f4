"""k-NN attention: the published arithmetic against the memory-bounded path and against dense attention.

Time: the methods take turns in one process, so that drift of the machine meets them alike; medians, and ratios by
round. Memory: a fresh process for each case, from the largest resident set that Linux saw (so Linux only). Nothing is
timed unless the outputs and gradients agree first. Prints one JSON line a case, appends them to
`results/knn_attention.jsonl`, and writes the page and figure `docs/results/knn-attention.{md,svg}`.

For any kernel, shape and pass see `fewpairs bench`; this script is the study that the page tells of.

    python benchmarks/knn_attention.py
    python benchmarks/knn_attention.py --quick      # two small sizes, in seconds; writes no file
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from knn_page import write_page
from measuring import ROOT, ratio, spread
from torch import Tensor

from fewpairs.bench import baselines
from fewpairs.bench.machine import about, available, forget_peak, status
from fewpairs.ops import knn_attention


class Case(NamedTuple):
    """Self-attention of `b` images, `h` heads, `n` tokens, heads of width `d`; `topk` keys are kept."""

    b: int
    h: int
    n: int
    d: int
    topk: int


TIMED = (
    Case(32, 3, 197, 64, 100),  # DeiT-Tiny at 224 pixels
    Case(1, 6, 196, 64, 98),
    Case(1, 6, 784, 64, 256),
    Case(1, 6, 3136, 64, 256),
    Case(1, 1, 16384, 64, 256),
)
WEIGHED = (*TIMED[:-1], Case(1, 6, 8192, 64, 256), Case(1, 6, 16384, 64, 256))
QUICK = TIMED[1:3]


def published(q: Tensor, k: Tensor, v: Tensor, topk: int) -> Tensor:
    return baselines.published(q, k, v, topk, scale=q.shape[-1] ** -0.5)


def bounded(q: Tensor, k: Tensor, v: Tensor, topk: int) -> Tensor:
    return knn_attention(q, k, v, topk=topk, kernel="bounded")


def dense(q: Tensor, k: Tensor, v: Tensor, topk: int) -> Tensor:
    """PyTorch's fused attention over all keys: another result, and the price that it sets."""
    return F.scaled_dot_product_attention(q, k, v)


METHODS: dict[str, Callable[..., Tensor]] = {"published": published, "bounded": bounded, "dense": dense}
PASSES = ("forward", "training")


def inputs(case: Case, dtype: torch.dtype = torch.float32, *, learned: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (case.b, case.h, case.n, case.d)
    draws = [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3)]
    return [draw.requires_grad_(learned) for draw in draws]


def run(method: str, tensors: list[Tensor], topk: int) -> None:
    """One forward pass, and the backward pass where the tensors learn."""
    out = METHODS[method](*tensors, topk)
    if out.requires_grad:
        torch.autograd.backward(out, torch.ones_like(out))
        for tensor in tensors:
            tensor.grad = None


def gate() -> None:
    """Outputs and gradients in float64, where no near tie is decided by rounding; exits with 1 where they differ."""
    for case in (Case(1, 2, 197, 64, 100), Case(1, 2, 197, 64, 1), Case(1, 2, 197, 64, 197), Case(1, 1, 784, 64, 256)):
        tensors, results = inputs(case, torch.float64, learned=True), []
        for method in METHODS:
            out = METHODS[method](*tensors, case.topk)
            weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
            results.append([out, *torch.autograd.grad(out, tensors, weights)])
        first, second, every = results
        pairs = [("published", "bounded", first, second)]
        if case.topk == case.n:
            pairs.append(("dense", "bounded", every, second))
        for one, other, left, right in pairs:
            # A single key has weight 1 whatever its score: gradients that are zero are held against the output's size.
            sizes = [a.norm() if a.norm() > 0 else left[0].norm() for a in left]
            error = max(((a - b).norm() / size).item() for a, b, size in zip(left, right, sizes, strict=True))
            if not error < 1e-10:
                sys.exit(f"{one} and {other} differ by {error:.1e} (relative) at {case}: nothing was timed")


def rounds_of(case: Case, seconds: float) -> int:
    """As many rounds as fit into `seconds`, from 3 to 25, judged by one round that also warms up."""
    started = time.perf_counter()
    for _ in turns(case, 0):
        pass
    return max(3, min(25, int(seconds / (time.perf_counter() - started))))


def turns(case: Case, number: int) -> Iterator[tuple[str, str, float]]:
    """Every method and pass once, in an order that turns with the round: (method, pass, seconds)."""
    names = list(METHODS)
    names = names[number % len(names) :] + names[: number % len(names)]
    for kind in PASSES:
        tensors = inputs(case, learned=kind == "training")
        for name in names:
            started = time.perf_counter()
            run(name, tensors, case.topk)
            yield name, kind, time.perf_counter() - started


def timed(case: Case, seconds: float) -> dict[str, Any]:
    """Seconds of each method and pass, and how many times as long as the bounded path the others take."""
    rounds = rounds_of(case, seconds)
    taken: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in METHODS} for kind in PASSES}
    for number in range(rounds):
        for name, kind, spent in turns(case, number):
            taken[kind][name].append(spent)
    return {
        "kind": "time",
        "case": case._asdict(),
        "rounds": rounds,
        "seconds": {kind: {name: spread(values) for name, values in row.items()} for kind, row in taken.items()},
        "ratio_to_bounded": {
            kind: {name: ratio(row[name], row["bounded"]) for name in METHODS if name != "bounded"}
            for kind, row in taken.items()
        },
    }


def weigh_here(case: Case, method: str, kind: str) -> dict[str, int]:
    """What one pass adds to this process at its peak, and the whole process then, in bytes."""
    run(method, inputs(Case(1, 1, 64, case.d, 8), learned=kind == "training"), 8)  # libraries and their buffers
    tensors = inputs(case, learned=kind == "training")
    before = forget_peak()
    run(method, tensors, case.topk)
    return {"added": status("VmHWM") - before, "process": status("VmHWM")}


def weighed(case: Case) -> dict[str, Any]:
    """Peak memory of each method and pass, each in a process of its own; None where the scores alone would not fit."""
    peaks: dict[str, dict[str, Any]] = {kind: {} for kind in PASSES}
    scores = 4 * case.b * case.h * case.n**2
    for kind in PASSES:
        for method in METHODS:
            # scores, mask, indices, -inf, the masked scores, the boolean: about five times the scores at once
            if method == "published" and 5 * scores > (available() or 0):
                peaks[kind][method] = None
                continue
            command = [sys.executable, __file__, "--weigh", json.dumps([*case]), method, kind]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            peaks[kind][method] = json.loads(done.stdout) if done.returncode == 0 else None
    return {"kind": "memory", "case": case._asdict(), "scores_bytes": scores, "peak_bytes": peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small sizes; writes no file unless one is named")
    parser.add_argument("--seconds", type=float, default=25.0, help="of timing a case, as far as three rounds allow")
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    parser.add_argument("--page", type=Path, help="Markdown page to write; its figure lies beside it")
    parser.add_argument("--weigh", nargs=3, metavar=("CASE", "METHOD", "PASS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.weigh:
        case, method, kind = arguments.weigh
        print(json.dumps(weigh_here(Case(*json.loads(case)), method, kind)))
        return
    results = arguments.results or (None if arguments.quick else ROOT / "benchmarks/results/knn_attention.jsonl")
    page = arguments.page or (None if arguments.quick else ROOT / "docs/results/knn-attention.md")
    gate()
    where = about()
    rows = []
    for measure in (
        *(
            (timed, case, 2.0 if arguments.quick else arguments.seconds)
            for case in (QUICK if arguments.quick else TIMED)
        ),
        *((weighed, case) for case in (QUICK if arguments.quick else WEIGHED)),
    ):
        rows.append(measure[0](*measure[1:]) | where)
        print(json.dumps(rows[-1]), flush=True)
    if results:
        results.parent.mkdir(exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    if page:
        write_page(rows, page)


if __name__ == "__main__":
    main()
