"""`fewpairs bench`: time and memory of operators and models, which are checked first."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewpairs.cli.output import echo

if TYPE_CHECKING:
    from fewpairs.bench import Results, Selection
    from fewpairs.bench.cases import Pass


def bench(
    cases: Annotated[
        list[str] | None,
        typer.Argument(
            help="Sets (quick, goals, lengths, gpu), cases by name, or patterns such as 'knn-*'; else quick."
        ),
    ] = None,
    op: Annotated[
        str | None, typer.Option(help="Only these operators, such as knn,kv; also key_only, softmax and model.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="A shape for --op, instead of a named case; repeatable.", metavar="B,H,N,D")
    ] = None,
    topk: Annotated[
        list[str] | None, typer.Option(help="Keys that k-NN attention keeps at each --shape: 100, or 0.5; repeatable.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; each case's own by default.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; each case's own by default.")] = None,
    passes: Annotated[str, typer.Option(help="forward, training (forward and backward), or both.")] = (
        "forward,training"
    ),
    kernels: Annotated[
        str | None, typer.Option(help="Names of kernels, such as native,bounded; each operator's choice by default.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Baselines, such as sdpa,published; by default those of the set, or all.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of each case and pass, instead of --seconds.")] = (
        None
    ),
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds for timing a case and pass, at least 7 rounds; 10, or 1 for quick."),
    ] = None,
    limit: Annotated[float, typer.Option(min=0, help="Most seconds of one run; slower ones are left out.")] = 20,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="PyTorch's threads; its own choice by default.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for bench.jsonl (appended to), bench.md, bench.svg and bench.png.")
    ] = Path("runs/bench"),
    show: Annotated[bool, typer.Option("--list", help="List sets, cases and goals, and measure nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Time and peak memory of attention kernels and whole models against PyTorch's own, in interleaved runs.

    Outputs and gradients of each contender are first compared with float64; a case in which one fails is not reported,
    and the exit status is 1. "Faster" is said only where intervals do not overlap.

    Example: fewpairs bench knn-b8-h6-n197-d64-k100 --kernels native,bounded --threads 2
    """
    import torch

    from fewpairs.bench import Options, convert_selection, measure

    chosen = convert_selection(_selection(cases or [], op, shape or [], topk or []), dtype, device)
    if show:
        _print_list(cases or [], chosen)
        return
    if threads is not None:
        torch.set_num_threads(threads)
    quick = not cases and not shape
    options = Options(
        passes=_passes(passes),
        kernels=_words(kernels),
        against=None if against is None else _words(against),
        rounds=rounds,
        seconds=seconds if seconds is not None else 1.0 if quick else 10.0,
        limit=limit,
        memory=memory,
        progress=not quiet,
        say=echo,
    )
    out.mkdir(parents=True, exist_ok=True)
    _finish(measure(chosen, options, out / "bench.jsonl"), chosen, out)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _passes(text: str) -> tuple[Pass, ...]:
    from fewpairs.bench import PASSES
    from fewpairs.errors import InputError, nearest

    words = _words(text)
    for word in words:
        if word not in PASSES:
            raise InputError(f"--passes {word!r} is not known; {nearest(word, PASSES)}")
    if not words:
        raise InputError(f"--passes needs one of {', '.join(PASSES)}")
    return tuple(name for name in PASSES if name in words)


def _selection(cases: list[str], op: str | None, shapes: list[str], topk: list[str]) -> Selection:
    """Named cases, or the operators of `op` at the shapes given."""
    from fewpairs.bench import OPERATORS, OperatorCase, Selection, parse_shape, parse_topk, select
    from fewpairs.errors import InputError, nearest

    ops = _words(op)
    for name in ops:
        if name not in (*OPERATORS, "model"):
            raise InputError(f"--op {name!r} is not known; {nearest(name, (*OPERATORS, 'model'))}")
    if not shapes:
        if topk:
            raise InputError("--topk goes with --shape b,h,n,d; a named case has its own number of keys")
        return select(cases, ops)
    if cases or not ops or "model" in ops:
        raise InputError("--shape goes with --op knn, kv, key_only or softmax, and without named cases")
    built = []
    for name in ops:
        for b, h, n, d in map(parse_shape, shapes):
            kept = [parse_topk(each) for each in topk] if name == "knn" else [None]
            built += [OperatorCase(name, b, h, n, d, each) for each in kept or [None]]
    return Selection(", ".join(case.name for case in built), tuple(built), (), None)


def _print_list(names: list[str], chosen: Selection) -> None:
    from fewpairs.bench import SETS

    shown = {case.name for case in chosen.cases} if names else None
    for name, each in SETS.items():
        found = [case for case in each.cases if shown is None or case.name in shown]
        if not found:
            continue
        echo(f"{name}: {each.summary}")
        for case in found:
            echo(f"  {case.name}{'' if case.timed else ' (memory alone)'}")
            for goal in each.goals:
                if goal.case == case.name:
                    echo(f"    goal, {goal.pass_}: {goal.text}")


def _finish(results: Results, chosen: Selection, out: Path) -> None:
    """Writes page and figure, prints the goals, and exits with 1 after a refused case or an interruption."""
    from fewpairs.bench.page import goal_rows, write_page
    from fewpairs.bench.plot import draw

    if results.records:
        drawn = draw(results.of("measured"), out / "bench.svg", out / "bench.png")
        command = shlex.join(["fewpairs", *sys.argv[1:]])
        write_page(
            results, out / "bench.md", title=chosen.title, command=command, figure="bench.svg" if drawn else None
        )
        for case, pass_, goal, reached, verdict in goal_rows(results.of("goal")):
            echo(f"goal {verdict}: {case}, {pass_}: {goal}; reached {reached}")
        echo(f"report: {out / 'bench.md'}")
    if results.interrupted:
        echo("fewpairs: interrupted; what was measured is kept", err=True)
    refused = results.of("refused")
    if refused:
        names = ", ".join(record["case"] for record in refused)
        echo(f"fewpairs: a check failed, so nothing is reported for: {names}", err=True)
    if results.interrupted or refused:
        raise typer.Exit(1)
