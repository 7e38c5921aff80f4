"""Runs benchmarks: for each case the check, the timed rounds and the memory; each result is saved at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewpairs.bench.cases import PASSES, Case, ModelCase, OperatorCase, Pass
from fewpairs.bench.check import CheckFailed, CheckResult
from fewpairs.bench.contenders import Contender, check_names, contenders
from fewpairs.bench.goals import goal_records
from fewpairs.bench.machine import describe_machine
from fewpairs.bench.models import check_name
from fewpairs.bench.operators import BASELINES
from fewpairs.bench.peak_memory import METHODS, MemoryNotMeasured, PeakMemory
from fewpairs.bench.sets import Selection
from fewpairs.bench.statistics import as_data, summarise
from fewpairs.bench.timing import CLOCKS, RoundTimes, failure_reason, is_unsupported, time_rounds
from fewpairs.errors import FewpairsError, InputError
from fewpairs.train.progress import track_progress

Record = dict[str, Any]
Checks = dict[str, CheckResult | None]


@dataclass(frozen=True)
class Options:
    """Options of a benchmark run."""

    passes: tuple[Pass, ...] = PASSES
    kernels: tuple[str, ...] = ()
    """Names of kernels; if empty, the operator chooses."""
    against: tuple[str, ...] | None = None
    """Names of baselines; None takes those of the set."""
    rounds: int | None = None
    seconds: float = 10.0
    limit: float = 20.0
    memory: bool = True
    progress: bool = True
    say: Callable[[str], None] = lambda _text: None


@dataclass
class Results:
    """The records of a benchmark, of the kinds `measured`, `left out`, `refused` and `goal`."""

    records: list[Record] = field(default_factory=list)
    interrupted: bool = False

    def of(self, kind: str) -> list[Record]:
        """Return the records of one kind."""
        return [record for record in self.records if record["kind"] == kind]


def measure(selection: Selection, options: Options, file: Path | None = None) -> Results:
    """Measure the selection, and append each record as a line to `file` at once.

    An interruption (Ctrl-C) ends the benchmark and keeps its records.

    Raises:
        InputError: a kernel or baseline is unknown, a device is missing, or a named kernel refuses a case.
    """
    against = options.against if options.against is not None else selection.against
    check_names(selection.cases, options.kernels, against)
    _check_devices(selection.cases)
    for case in selection.cases:
        if isinstance(case, ModelCase):
            check_name(case)
        for pass_ in options.passes if options.kernels else ():
            contenders(case, pass_, kernels=options.kernels, against=against)
    run = BenchmarkRun(options, against, describe_machine(), Results(), file)
    try:
        with PeakMemory(torch.get_num_threads()) as memory:
            total = len(selection.cases)
            for case in track_progress(selection.cases, "measuring", total=total, enabled=options.progress):
                run.run_case(case, memory)
    except KeyboardInterrupt:
        run.results.interrupted = True
    for record in goal_records(selection.goals, run.results.of("measured")):
        run.keep(record)
    return run.results


def _check_devices(cases: tuple[Case, ...]) -> None:
    if any(case.device == "cuda" for case in cases) and not torch.cuda.is_available():
        first = next(case.name for case in cases if case.device == "cuda")
        raise InputError(f"{first} needs a CUDA device, and PyTorch sees none here; choose --device cpu or other cases")


class CannotRun(FewpairsError):  # noqa: N818  (the name reads as what happened)
    """A contender cannot run on this machine; the message says why."""


@dataclass
class BenchmarkRun:
    """Runs cases one by one and collects their records."""

    options: Options
    against: tuple[str, ...] | None
    about: Record
    results: Results
    file: Path | None

    def keep(self, record: Record) -> None:
        """Add a record to the list and to the file."""
        record = {**record, **self.about}
        self.results.records.append(record)
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(record) + "\n")

    def run_case(self, case: Case, memory: PeakMemory) -> None:
        """Check the contenders of one case, and measure time and memory.

        If a kernel fails the check, the whole case is refused; a baseline that fails is left out.
        """
        checks: Checks = {}
        absent: dict[str, str] = {}
        for pass_ in self.options.passes:
            present = []
            for one in contenders(case, pass_, kernels=self.options.kernels, against=self.against):
                reason = one.refuse(pass_) or absent.get(one.name)
                try:
                    if reason is None and one.name not in checks:
                        checks[one.name] = self.check(one)
                except CheckFailed as error:
                    if one.role == "kernel":
                        self.keep({"kind": "refused", **describe_case(case), "why": str(error)})
                        self.options.say(f"{case.name}: refused. {error}")
                        return
                    reason = absent[one.name] = str(error)
                except CannotRun as error:
                    reason = absent[one.name] = str(error)
                if reason is None:
                    present.append(one)
                else:
                    self.left_out(case, pass_, one.name, reason)
            self.run_pass(case, pass_, present, checks, memory)

    def check(self, one: Contender) -> CheckResult | None:
        """Check a contender; any other exception counts as a failure.

        Raises:
            CheckFailed: its result is wrong, or it raises an exception.
            CannotRun: memory or PyTorch's compiler is insufficient.
        """
        try:
            return one.check("training" in self.options.passes)
        except FewpairsError:
            raise
        except Exception as error:
            if is_unsupported(error):
                raise CannotRun(failure_reason(error)) from None
            raise CheckFailed(f"{one.name}: {failure_reason(error)}") from error

    def run_pass(self, case: Case, pass_: Pass, present: list[Contender], checks: Checks, memory: PeakMemory) -> None:
        """Measure time and memory of one pass; contenders without a time get no memory measurement."""
        run = self.time_case(case, pass_, present) if case.timed else RoundTimes({}, {})
        for name, why in run.left_out.items():
            self.left_out(case, pass_, name, why)
        bases = [name for name in BASELINES if any(one.name == name for one in present)]
        spreads, ratios = summarise(run.seconds, bases) if run.seconds else ({}, {})
        for one in present:
            if one.name in run.left_out:
                continue
            record = {"kind": "measured", **describe_case(case), "pass": pass_, "contender": one.name, "role": one.role}
            found = checks[one.name]
            record["check"] = None if found is None else {"share_of_allowance": found.share, "rows": found.rows}
            if one.name in spreads:
                record |= {"seconds": as_data(spreads[one.name]), "rounds": run.rounds, "clock": CLOCKS[case.device]}
                record["repeats"] = run.repeats[one.name]
                record["ratios"] = {base: as_data(ratio) for base, ratio in ratios[one.name].items()}
                if isinstance(case, ModelCase):
                    record["images_per_second"] = case.batch / spreads[one.name].median
            if self.options.memory:
                record |= self.peak_memory(case, pass_, one, memory)
            self.keep(record)
            self.options.say(line(record))

    def time_case(self, case: Case, pass_: Pass, present: list[Contender]) -> RoundTimes:
        """Time the contenders in interleaved rounds."""
        steps, asked = {one.name: one.prepare(pass_) for one in present}, self.options
        return time_rounds(steps, device=case.device, seconds=asked.seconds, rounds=asked.rounds, limit=asked.limit)

    def peak_memory(self, case: Case, pass_: Pass, one: Contender, memory: PeakMemory) -> Record:
        """Measure peak bytes, and record the reason if that fails."""
        try:
            return {"peak_bytes": memory.measure(case, one, pass_), "peak_bytes_by": METHODS[case.device]}
        except MemoryNotMeasured as error:
            self.left_out(case, pass_, one.name, f"no memory: {error}")
            return {"peak_bytes": None}

    def left_out(self, case: Case, pass_: Pass, name: str, why: str) -> None:
        """Record a contender that was left out, with the reason."""
        self.keep({"kind": "left out", **describe_case(case), "pass": pass_, "contender": name, "why": why})
        self.options.say(f"{case.name}, {pass_}: {name} is left out: {why}")


def describe_case(case: Case) -> Record:
    """Return a case as plain data."""
    common = {"case": case.name, "op": case.op, "dtype": case.dtype, "device": case.device}
    if isinstance(case, OperatorCase):
        shape = {"b": case.b, "h": case.h, "n": case.n, "d": case.d}
        return {**common, "shape": shape | ({} if case.keys is None else {"k": case.keys}), "topk": case.topk}
    return {**common, "model": case.model, "attention": case.attention, "shape": {"b": case.batch, "pixels": case.size}}


def line(record: Record) -> str:
    """Format one measurement for the terminal."""
    from fewpairs.numbers import duration, size

    parts = []
    if "seconds" in record:
        parts.append(duration(record["seconds"]["median"]))
        if record["role"] == "kernel":
            parts += [f"{ratio_text(ratio)} {base}" for base, ratio in record["ratios"].items()]
    if record.get("peak_bytes") is not None:
        parts.append(f"peak {size(record['peak_bytes'])}")
    return f"{record['case']}, {record['pass']}: {record['contender']} {', '.join(parts)}"


def ratio_text(ratio: Record) -> str:
    """Format a ratio as `0.82 x [0.80, 0.85] (faster)`."""
    interval = "" if ratio["low"] is None else f" [{ratio['low']:.3g}, {ratio['high']:.3g}]"
    return f"{ratio['value']:.3g} x{interval} ({ratio['verdict']})"


def group_by_pass(records: list[Record]) -> Iterable[list[Record]]:
    """Group measurements by case and pass."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["case"], record["pass"]), []).append(record)
    return groups.values()
