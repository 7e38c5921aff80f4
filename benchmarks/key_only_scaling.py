"""One attention layer from 196 to 1,048,576 positions: key-only attention against layers that weigh pairs.

Time: the layers take turns in one process; medians over the rounds. A layer leaves the race when a pass would take
longer than `--limit` seconds, judged by its last size. Memory: a fresh process for each case, from the largest resident
set that Linux saw (so Linux only). Nothing is timed unless key-only attention agrees with its reference in float64.
Prints one JSON line a case, appends them to `results/key_only_scaling.jsonl`, and writes the page and figure
`docs/results/key-only-scaling.{md,svg}`.

    python benchmarks/key_only_scaling.py
    python benchmarks/key_only_scaling.py --quick      # small sizes, in seconds; writes no file
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from key_only_page import write_page
from measuring import ROOT, ratio, spread
from torch import Tensor

from fewpairs import KNN, KV, KeyOnly, MultiHead, Softmax
from fewpairs.attention import ReducedProjection
from fewpairs.bench.machine import describe_machine, free_memory, reset_peak, status
from fewpairs.ops import global_key_attention, key_only_attention
from fewpairs.types import Grid

SIDES = (14, 28, 56, 112, 224, 448, 896, 1024)
"""Positions are a square of them: 1,024 x 1,024 are 1,048,576."""


class Width(NamedTuple):
    """Of a layer: channels, heads, and how much coarser PVTv2 makes the keys at that width."""

    channels: int
    heads: int
    reduction: int


WIDTHS = (Width(64, 1, 8), Width(128, 2, 4))

LAYERS: dict[str, Callable[[Width], MultiHead]] = {
    "keyonly": lambda w: MultiHead(w.channels, w.heads, KeyOnly()),
    "softmax": lambda w: MultiHead(w.channels, w.heads, Softmax()),
    "kv": lambda w: MultiHead(w.channels, w.heads, KV()),
    "knn": lambda w: MultiHead(w.channels, w.heads, KNN(topk=98)),
    "reduced": lambda w: MultiHead(w.channels, w.heads, Softmax(), project=ReducedProjection.with_(ratio=w.reduction)),
}
PASSES = ("forward", "training")


def layer_and_tokens(name: str, width: Width, side: int, *, learned: bool) -> tuple[MultiHead, Tensor, Grid]:
    torch.manual_seed(0)
    layer = LAYERS[name](width).requires_grad_(learned)
    return layer, torch.randn(1, side * side, width.channels, requires_grad=learned), Grid(side, side)


def run(layer: MultiHead, x: Tensor, grid: Grid) -> None:
    """One forward pass, and the backward pass where the tokens learn."""
    out = layer(x, grid)
    if out.requires_grad:
        torch.autograd.backward(out, torch.ones_like(out))
        layer.zero_grad(set_to_none=True)
        x.grad = None


def gate() -> None:
    """Outputs and gradients against the reference in float64; exits with 1 where they differ."""
    generator = torch.Generator().manual_seed(0)
    k, v = (torch.randn(1, 2, 20_000, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    w = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    for operator in (key_only_attention, partial(global_key_attention, scale=0.25)):
        results = []
        for kernel in ("streaming", "reference"):
            tensors = [t.clone().requires_grad_() for t in (k, v, w)]
            out = operator(*tensors, kernel=kernel)
            weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
            results.append([out, *torch.autograd.grad(out, tensors, weights)])
        error = max(((a - b).norm() / b.norm()).item() for a, b in zip(*results, strict=True))
        if not error < 1e-10:
            sys.exit(f"the stream and the reference differ by {error:.1e} (relative): nothing was timed")


def timed(width: Width, side: int, names: list[str], kind: str, seconds: float) -> dict[str, Any]:
    """Seconds of each layer, and how many times as long as key-only attention the others take."""
    made = {name: layer_and_tokens(name, width, side, learned=kind == "training") for name in names}

    def once(name: str) -> float:
        started = time.perf_counter()
        run(*made[name])
        return time.perf_counter() - started

    warm = sum(once(name) for name in names)
    rounds = max(3, min(50, int(seconds / warm)))
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken[name].append(once(name))
    return {
        "kind": "time",
        "width": width._asdict(),
        "n": side * side,
        "pass": kind,
        "rounds": rounds,
        "seconds": {name: spread(values) for name, values in taken.items()},
        "ratio_to_keyonly": {name: ratio(taken[name], taken["keyonly"]) for name in names if name != "keyonly"},
    }


def weighed(width: Width, side: int, names: list[str], kind: str) -> dict[str, Any]:
    """Peak memory of each layer, each in a process of its own; None where it failed or would not fit."""
    peaks: dict[str, Any] = {}
    for name in names:
        if 40 * 4 * side * side * width.channels > (free_memory() or 0):
            peaks[name] = None
            continue
        command = [sys.executable, __file__, "--weigh", json.dumps([*width]), str(side), name, kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        peaks[name] = json.loads(done.stdout) if done.returncode == 0 else None
    return {"kind": "memory", "width": width._asdict(), "n": side * side, "pass": kind, "peak_bytes": peaks}


def weigh_here(width: Width, side: int, name: str, kind: str) -> dict[str, int]:
    """What one pass adds to this process at its peak, and the whole process then, in bytes."""
    run(*layer_and_tokens(name, width, 16, learned=kind == "training"))  # libraries and their buffers
    made = layer_and_tokens(name, width, side, learned=kind == "training")
    before = reset_peak()
    run(*made)
    return {"added": status("VmHWM") - before, "process": status("VmHWM")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no file unless one is named")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing a case, as far as three rounds allow")
    parser.add_argument("--limit", type=float, default=4.0, help="seconds that one pass of a layer may take")
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    parser.add_argument("--page", type=Path, help="Markdown page to write; its figure lies beside it")
    parser.add_argument("--weigh", nargs=4, metavar=("WIDTH", "SIDE", "LAYER", "PASS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.weigh:
        width, side, name, kind = arguments.weigh
        print(json.dumps(weigh_here(Width(*json.loads(width)), int(side), name, kind)))
        return
    results = arguments.results or (None if arguments.quick else ROOT / "benchmarks/results/key_only_scaling.jsonl")
    page = arguments.page or (None if arguments.quick else ROOT / "docs/results/key-only-scaling.md")
    gate()
    where, rows = describe_machine(), []
    for width in WIDTHS:
        for kind in PASSES:
            names = list(LAYERS)
            for side in SIDES[:3] if arguments.quick else SIDES:
                rows.append(timed(width, side, names, kind, 0.5 if arguments.quick else arguments.seconds) | where)
                print(json.dumps(rows[-1]), flush=True)
                rows.append(weighed(width, side, names, kind) | where)
                print(json.dumps(rows[-1]), flush=True)
                # The next size has about four times as many positions; pairs take sixteen times as long.
                last = rows[-2]["seconds"]
                names = [
                    name
                    for name in names
                    if last[name]["median"] * (4 if name == "keyonly" else 16) < arguments.limit or name == "keyonly"
                ]
    if results:
        results.parent.mkdir(exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    if page:
        write_page(rows, page)


if __name__ == "__main__":
    main()
