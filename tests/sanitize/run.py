"""Fuzz the C++ kernels under the address and undefined-behaviour sanitizers: `make sanitize`.

Each driver of this folder is compiled with its operator's source for each set of vector instructions that this CPU has,
and calls it on random shapes, layouts and numbers, each time first on arguments of which one is wrong (a size, stride,
dtype, address, or the end of its memory), which must be refused. Scratch memory starts as NaN. Any finding, a NaN in an
output, or an output that depends on the number of threads ends it with status 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fewpairs.ops.native import HEADERS, Unavailable, compiler, machine

FOLDER = Path(__file__).parent
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g")
OPTIONS = (f"-I{HEADERS}", "-std=c++17", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp", "-DFEWPAIRS_POISON")
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wno-missing-field-initializers",
    "-Wno-unused-parameter",
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
)
"""The last two: GCC's own vector headers set them off."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when nothing was found."""
    drivers = sorted(path.stem for path in FOLDER.glob("*.cpp"))
    levels = [level.name for level in machine.LEVELS if machine.has(level)]
    parser = argparse.ArgumentParser(description="Fuzz the C++ kernels under sanitizers.")
    parser.add_argument("--op", choices=drivers, action="append", help="operator; all when left out")
    parser.add_argument("--level", choices=levels, action="append", help="instructions; all that this CPU has")
    parser.add_argument("--cases", type=int, default=200, help="calls of each operator at each level")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    try:
        words = compiler.command()
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    failed = []
    with tempfile.TemporaryDirectory(prefix="sanitize-") as work:
        for driver in chosen.op or drivers:
            for level in machine.LEVELS:
                if level.name in (chosen.level or levels) and not run(words, driver, level, chosen, Path(work)):
                    failed.append(f"{driver} ({level.name})")
    if failed:
        sys.stderr.write(f"findings in {', '.join(failed)}\n")
    return 1 if failed else 0


def run(words: Sequence[str], driver: str, level: machine.Level, chosen: argparse.Namespace, work: Path) -> bool:
    """Whether one driver compiles, and finds nothing at `level`."""
    binary = work / f"{driver}-{level.name}"
    sys.stdout.write(f"{level.name:<9}")
    sys.stdout.flush()
    source = str(FOLDER / f"{driver}.cpp")
    options = [*SANITIZERS, *OPTIONS, *WARNINGS, *level.options]
    compiled = subprocess.run([*words, *options, source, "-o", str(binary)], check=False)
    if compiled.returncode:
        return False
    environment = {"OMP_WAIT_POLICY": "passive", "UBSAN_OPTIONS": "print_stacktrace=1", **os.environ}
    ran = subprocess.run([str(binary), str(chosen.cases), str(chosen.seed)], env=environment, check=False)
    return ran.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
