"""The results as a Markdown page, and as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewpairs.bench.goals import verdict
from fewpairs.bench.operators import BASELINES
from fewpairs.bench.run import Results, group_by_pass
from fewpairs.numbers import duration, size

Record = dict[str, Any]
PASSES = {"forward": "forward", "training": "forward and backward"}
MODEL_PASSES = {"forward": "inference", "training": "training step"}

WHAT = {
    "sdpa": "PyTorch's fused attention over all keys, `scaled_dot_product_attention`; for KV attention with the keys "
    "as queries",
    "flash": "the same with PyTorch's flash backend only",
    "published": "the arithmetic of the publications with single PyTorch operators; for k-NN attention that of the "
    "released code: all scores, int64 indices of the k largest, a float mask, a tensor of -inf",
    "flex": "PyTorch's FlexAttention, compiled. It cannot express k-NN attention: its functions see one score, not the "
    "row from which the best are selected",
    "copy": "no attention: reads the operator's inputs once and writes its outputs once, into reused "
    "memory; forward and backward: k, v in and y out, then k, v and the gradient of y in and two gradients out",
    "copy_new": "the same into new memory, as every operator that returns a tensor must do",
    "dense": "the model as timm or fewpairs builds it, with softmax attention by PyTorch's fused operator",
}

PAGE = """# Benchmark: {title}

Written by `{command}`, commit {commit}, {date}: {machine}, PyTorch {torch}, timm {timm}, fewpairs {fewpairs},
Python {python}.{interrupted}
{goals}
## Time and peak memory

{times}

{figure}{left}## How it was measured

{how}
"""


def write_page(results: Results, page: Path, *, title: str, command: str, figure: str | None) -> None:
    """Write the results as Markdown to `page`."""
    measured = results.of("measured")
    first = results.records[0]
    about = first["environment"]
    page.write_text(
        PAGE.format(
            title=title,
            command=command,
            commit=first["commit"],
            date=first["date"],
            machine=machine(about),
            torch=about["packages"]["torch"],
            timm=about["packages"]["timm"],
            fewpairs=about["packages"]["fewpairs"],
            python=about["python"],
            interrupted=" Interrupted before its end." if results.interrupted else "",
            goals=_goals(results.of("goal")),
            times=_times(measured) if measured else "Nothing was measured.",
            figure=f"![Time and peak memory against n, all axes logarithmic]({figure})\n\n" if figure else "",
            left=_left(results),
            how=_how(measured),
        ),
        encoding="utf-8",
    )


def machine(about: Record) -> str:
    """Describe the device and the threads."""
    threads = about["torch_threads"]
    host = f"{about['processor']}, {about['cores']} cores, {threads} thread{'s' if threads != 1 else ''}"
    return ", ".join([*about["cuda_devices"], host])


def goal_rows(goals: list[Record]) -> list[tuple[str, str, str, str, str]]:
    """Return case, pass, goal, reached value and verdict of each goal as text."""
    return [(goal["case"], _pass_of(goal), goal["goal"], _reached(goal), verdict(goal)) for goal in goals]


def time_rows(measured: list[Record]) -> list[tuple[str, ...]]:
    """Return one row per measurement: case, pass, contender, median and quartiles, ratio, verdict, rounds, peak."""
    rows = []
    for group in group_by_pass(measured):
        present = [record["contender"] for record in group]
        base = next((name for name in BASELINES if name in present), None)
        for record in group:
            rows.append((record["case"], _pass_of(record), record["contender"], *_cells(record, base)))
    return rows


def _cells(record: Record, base: str | None) -> tuple[str, ...]:
    peak = record.get("peak_bytes")
    memory = "–" if peak is None else size(peak)
    if "seconds" not in record:
        return "–", "–", "–", "–", memory
    seconds, ratio = record["seconds"], record["ratios"].get(base)
    time = f"{duration(seconds['median'])} ({duration(seconds['lower_quartile'])} to "
    time += f"{duration(seconds['upper_quartile'])})"
    if "images_per_second" in record:
        time += f", {record['images_per_second']:.3g} images/s"
    if ratio is None:
        return time, "1" if record["contender"] == base else "–", "", str(record["rounds"]), memory
    interval = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return time, f"{ratio['value']:.2f}{interval} x {base}", ratio["verdict"], str(record["rounds"]), memory


COLUMNS = ("case", "pass", "contender", "median (quartiles)", "ratio [95 %]", "verdict", "rounds", "peak memory")


def _times(measured: list[Record]) -> str:
    return _table(COLUMNS, time_rows(measured))


def _goals(goals: list[Record]) -> str:
    if not goals:
        return ""
    met = sum(goal["met"] is True for goal in goals)
    text = f"\n## Goals\n\n{met} of {len(goals)} met.\n\n"
    return text + _table(("case", "pass", "goal", "reached [95 %]", "verdict"), goal_rows(goals)) + "\n"


def _reached(goal: Record) -> str:
    if goal["reached"] is None:
        return "–"
    if goal["quantity"] == "memory":
        return size(goal["reached"])
    if goal["quantity"] == "growth":
        return f"n^{goal['reached']:.2f}"
    interval = "" if goal["low"] is None else f" [{goal['low']:.2f}, {goal['high']:.2f}]"
    return f"{goal['reached']:.2f}{interval} x ({goal['contender']})"


def _pass_of(record: Record) -> str:
    return (MODEL_PASSES if record["op"] == "model" else PASSES)[record["pass"]]


def _left(results: Results) -> str:
    lines = [f"- {r['case']}: refused. {r['why']}" for r in results.of("refused")]
    lines += [f"- {r['case']}, {r['pass']}: {r['contender']}: {r['why']}" for r in results.of("left out")]
    return "## Left out\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def _how(measured: list[Record]) -> str:
    lines = [
        "- In each round every contender runs once, in random order, after two warm-up runs each. Medians are over "
        "rounds; ratios are of medians, with 95 % bootstrap intervals over rounds.",
        "- *Faster* and *slower* are stated only if the interval of the ratio excludes 1 and the intervals of the "
        "two medians do not overlap.",
        "- Before timing, the output and gradients of each contender were compared with float64: at most twice the "
        "error of plain PyTorch in the same dtype (docs/bench.md).",
    ]
    clocks = dict.fromkeys(record["clock"] for record in measured if "clock" in record)
    memory = dict.fromkeys(record["peak_bytes_by"] for record in measured if "peak_bytes_by" in record)
    lines += [f"- Clock: {clock}." for clock in clocks] + [f"- Peak memory: {by}." for by in memory]
    known = dict.fromkeys(record["contender"] for record in measured)
    lines += [f"- `{name}`: {WHAT[name]}." for name in known if name in WHAT]
    return "\n".join(lines)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " --- |" * (len(columns) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
