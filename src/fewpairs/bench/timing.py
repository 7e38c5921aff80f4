"""Timing in rounds: each contender runs once per round in random order, so that drift affects all equally."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

Step = Callable[[], None]

MAX_ROUNDS, MIN_ROUNDS = 200, 7
MIN_SAMPLE = 0.005
"""The minimum duration of a sample on a GPU in seconds; faster steps are repeated."""

CLOCKS = {
    "cpu": "time.perf_counter around each run",
    "cuda": f"CUDA events around each sample of at least {1e3 * MIN_SAMPLE:g} ms, the device idle before it",
}


@dataclass
class RoundTimes:
    """The seconds of each contender per round, and the reasons why others were left out."""

    seconds: dict[str, list[float]]
    repeats: dict[str, int]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        return len(next(iter(self.seconds.values()), []))


def time_rounds(
    steps: Mapping[str, Step],
    *,
    device: str,
    seconds: float,
    rounds: int | None = None,
    limit: float = math.inf,
    seed: int = 0,
) -> RoundTimes:
    """Time `rounds` rounds, or as many as fit into `seconds` (7 to 200).

    Each contender has two warm-up runs, and the second is timed. A contender that then takes longer than `limit`
    seconds, or that lacks memory or fails in PyTorch's compiler, is left out.
    """
    measure = _on_cuda if device == "cuda" else _on_cpu
    left_out: dict[str, str] = {}
    first: dict[str, float] = {}
    for name, step in steps.items():
        try:
            step()
            first[name] = measure(step, 1)
        except (RuntimeError, NotImplementedError, MemoryError) as error:
            if not is_unsupported(error):
                raise
            left_out[name] = failure_reason(error)
            continue
        if first[name] > limit:
            left_out[name] = f"one run took {first.pop(name):.1f} s, more than the limit of {limit:g} s"
    repeats = {
        name: max(1, math.ceil(MIN_SAMPLE / max(took, 1e-9))) if device == "cuda" else 1 for name, took in first.items()
    }
    if rounds is None:
        expected = sum(first[name] * repeats[name] for name in first)
        rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, int(seconds / max(expected, 1e-9))))
    taken: dict[str, list[float]] = {name: [] for name in first}
    order, shuffle = list(first), random.Random(seed).shuffle
    with _no_collection():
        for _ in range(rounds if first else 0):
            shuffle(order)
            for name in order:
                taken[name].append(measure(steps[name], repeats[name]))
    return RoundTimes(taken, repeats, left_out)


def is_unsupported(error: Exception) -> bool:
    """Whether the error means that a contender cannot run here; other errors are bugs and propagate."""
    kinds = (NotImplementedError, MemoryError, torch.OutOfMemoryError)
    compiler = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
    return isinstance(error, kinds) or compiler or "not enough memory" in str(error)


def failure_reason(error: Exception) -> str:
    """Return the first line of an error as a reason."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error):
        return "there is not enough memory for it"
    text = str(error).strip().splitlines()
    return f"it fails with {type(error).__name__}: {text[0] if text else 'no message'}"


def _on_cpu(step: Step, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - started) / repeats


def _on_cuda(step: Step, repeats: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        step()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / repeats


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
