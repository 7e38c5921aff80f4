"""The page and the figure of `knn_attention.py`, from its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewpairs.numbers import duration, size

NAMES = {
    "published": "published arithmetic",
    "bounded": "memory-bounded path",
    "dense": "dense attention, fused",
}
COLOURS = {"published": "#d55e00", "bounded": "#0072b2", "dense": "#767676"}
PASSES = {"forward": "forward", "training": "forward and backward"}

PAGE = """# k-NN attention: time and memory

Written by `python benchmarks/knn_attention.py`, commit {commit}, {date}: {processor}, {cores} cores, PyTorch {torch}
with {threads} threads, float32. Queries, keys and values are normal draws; k keys are kept for each query and head.

- *Published arithmetic*: the masked dense form of the released KVT code, written from its description: all scores,
  int64 indices of the k largest, a float mask, a tensor of -inf.
- *Memory-bounded path*: `knn_attention(..., kernel="bounded")`, of PyTorch's own operators, for where the C++
  and Triton kernels do not run. The same result. The C++ kernel: `docs/kernels.md`.
- *Dense attention*: PyTorch's fused attention over all keys. Another result; it is here as the price of attention that
  selects nothing.

Before anything was timed, outputs and gradients of the first two agreed to 1e-10 in float64.

## Time

Methods take turns in one process; medians over the rounds. In brackets: how many times as long as the memory-bounded
path, and the lowest and highest such ratio of any round.

{time}

## Peak memory

The largest resident set of a fresh process, less what it held before the pass (inputs, libraries); in brackets the
whole process. "Does not fit": five times the scores, which the published arithmetic holds at once, is more than the
machine had free.

{memory}

![Time and peak memory against the number of tokens, both axes logarithmic]({figure})
"""


def write_page(rows: list[dict[str, Any]], page: Path) -> None:
    """Markdown to `page`, and the figure beside it."""
    about, figure = rows[0]["environment"], page.with_suffix(".svg")
    text = PAGE.format(
        commit=rows[0]["commit"],
        date=rows[0]["date"],
        processor=about["processor"],
        cores=about["cores"],
        torch=about["packages"]["torch"],
        threads=about["torch_threads"],
        time=table(rows, "time"),
        memory=table(rows, "memory"),
        figure=figure.name,
    )
    page.write_text(text, encoding="utf-8")
    draw(rows, figure)


def table(rows: list[dict[str, Any]], kind: str) -> str:
    """One line a case and pass."""
    cell = {"time": time_cell, "memory": memory_cell}[kind]
    lines = [
        "| images x heads x tokens | k | pass | " + " | ".join(NAMES.values()) + " |",
        "| --- | --: | --- | --: | --: | --: |",
    ]
    for row in rows:
        if row["kind"] == kind:
            case = row["case"]
            start = f"| {case['b']} x {case['h']} x {case['n']:,} | {case['topk']} |"
            for each, title in PASSES.items():
                lines.append(f"{start} {title} | " + " | ".join(cell(row, each, name) for name in NAMES) + " |")
    return "\n".join(lines)


def time_cell(row: dict[str, Any], kind: str, name: str) -> str:
    seconds = row["seconds"][kind][name]["median"]
    text = duration(seconds)
    ratio = row["ratio_to_bounded"][kind].get(name)
    return f"{text} ({ratio['of_medians']:.2f}; {ratio['lowest']:.2f} to {ratio['highest']:.2f})" if ratio else text


def memory_cell(row: dict[str, Any], kind: str, name: str) -> str:
    peak = row["peak_bytes"][kind][name]
    return f"{size(peak['added'])} ({size(peak['process'])})" if peak else "does not fit"


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Training passes of one image against the number of tokens, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, kind, title in zip(axes, ("time", "memory"), ("Seconds a head", "Peak memory, MiB"), strict=True):
        for name, label in NAMES.items():
            points = [point(row, name) for row in rows if row["kind"] == kind and row["case"]["b"] == 1]
            known = [each for each in points if each]
            axis.loglog(*zip(*known, strict=True), marker="o", color=COLOURS[name], label=label)
        axis.set_title(f"{title}, forward and backward", loc="left", fontsize=9)
        axis.set_xlabel("tokens")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(file)


def point(row: dict[str, Any], name: str) -> tuple[int, float] | None:
    """Tokens, and seconds a head or MiB."""
    case = row["case"]
    if row["kind"] == "time":
        return case["n"], row["seconds"]["training"][name]["median"] / case["h"]
    peak = row["peak_bytes"]["training"][name]
    return (case["n"], max(peak["added"], 2**20) / 2**20) if peak else None
