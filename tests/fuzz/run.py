"""Fuzz everything that reads files or settings of others: `make fuzz`.

Each target gets seeded mutations of good inputs in a process of its own, with bounded memory and time. A finding is
any exception but FewpairsError and OSError, an input that takes longer or more memory than allowed, or the death of the
process. The input is saved, with the traceback beside it, and the exit status is 1.

    python tests/fuzz/run.py --target nifti --inputs 2000 --seed 7
    python tests/fuzz/run.py --target nifti --replay findings/nifti-17
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from mutate import mutated
from targets import TARGETS, Target

from fewpairs.errors import FewpairsError

SECONDS = 10
"""The most that one input may take."""
BYTES = 3 * 2**30
"""Memory that a target may take beside what its imports take."""
MOST_FINDINGS = 5
"""Findings of one target, after which it is left."""


class TooSlow(BaseException):
    """An input took more than `SECONDS`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when nothing was found."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of files and settings.")
    parser.add_argument("--target", choices=list(TARGETS), action="append", help="all when left out")
    parser.add_argument("--inputs", type=int, help="inputs of each target; 20,000 in all when left out")
    parser.add_argument("--seconds", type=float, default=90, help="the most of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "fewpairs-fuzz", help="findings")
    parser.add_argument("--replay", type=Path, help="one input for --target, with its traceback")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.replay is not None:
        if len(chosen.target or ()) != 1:
            parser.error("--replay needs one --target")
        with tempfile.TemporaryDirectory() as work:
            TARGETS[chosen.target[0]].prepare(Path(work))(chosen.replay.read_bytes())
        return 0
    findings = 0
    for name in chosen.target or TARGETS:
        target = TARGETS[name]
        count = target.inputs if chosen.inputs is None else chosen.inputs
        found = fuzz(name, target, count, chosen.seed, chosen.seconds, chosen.out)
        findings += found
    print(f"{findings} findings" + (f" in {chosen.out}" if findings else ""))
    return 1 if findings else 0


def fuzz(name: str, target: Target, count: int, seed: int, seconds: float, out: Path) -> int:
    """Run a target in processes of their own until its inputs or its time end; return the number of findings."""
    start, found, begun = 0, 0, time.monotonic()
    done = multiprocessing.Value("i", 0)
    while start < count and found < MOST_FINDINGS:
        left = seconds - (time.monotonic() - begun)
        if left <= 0:
            break
        done.value = start
        child = multiprocessing.get_context("fork").Process(
            target=_child, args=(name, target, start, count, seed, left, out, done)
        )
        child.start()
        child.join(left + SECONDS + 60)
        if child.is_alive():
            child.kill()
            child.join()
        if child.exitcode == 0:
            start = done.value
            break
        if child.exitcode != 3:  # 3: the child has told already
            index = done.value
            path = out / f"{name}-{index}"
            path.write_bytes(input_of(target, name, seed, index))
            print(f"  {path}: the process died with exit status {child.exitcode}")
        found += 1
        start = done.value + 1
    print(f"{name}: {start} inputs, {found} findings, {time.monotonic() - begun:.0f} s", flush=True)
    return found


def input_of(target: Target, name: str, seed: int, index: int) -> bytes:
    """Return input `index` of a target, which depends on nothing else."""
    rng = random.Random(f"{seed}-{name}-{index}")
    seeds = target.seeds()
    return mutated(rng, seeds[rng.randrange(len(seeds))], text=target.text)


def _child(
    name: str, target: Target, start: int, count: int, seed: int, seconds: float, out: Path, done: object
) -> None:
    logging.disable(logging.CRITICAL)  # nibabel tells what it mends in a header
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_slow)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        call = target.prepare(Path(work))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, resource.RLIM_INFINITY))
        for index in range(start, count):
            done.value = index
            if time.monotonic() - begun > seconds:
                break
            data = input_of(target, name, seed, index)
            if text := _problem(call, data):
                path = out / f"{name}-{index}"
                path.write_bytes(data)
                path.with_name(f"{path.name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
                print(f"  {path}: {text.splitlines()[-1][:160]}", flush=True)
                sys.exit(3)
        else:
            done.value = count


def _problem(call: Callable[[bytes], None], data: bytes) -> str | None:
    """Return the traceback of an error that nobody should see; None if the input is read or refused."""
    signal.alarm(SECONDS)
    try:
        call(data)
    except (FewpairsError, OSError) as error:
        str(error)
    except (Exception, TooSlow):
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    return None


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"more than {SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
