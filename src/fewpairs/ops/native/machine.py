"""What this machine and this PyTorch are: the vector instructions, and the OpenMP runtime that is loaded already."""

from __future__ import annotations

import ctypes
import functools
import re
from pathlib import Path
from typing import NamedTuple

import torch


class Level(NamedTuple):
    """A set of vector instructions that code is compiled for."""

    name: str
    needs: tuple[str, ...]
    """The names of the instructions in /proc/cpuinfo."""
    options: tuple[str, ...]
    """What a compiler is told."""


_AVX2 = ("avx2", "fma", "bmi2", "popcnt")
_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", *_AVX2)
LEVELS = (
    Level("AVX512", _AVX512, (*(f"-m{name}" for name in _AVX512), "-mprefer-vector-width=512")),
    Level("AVX2", _AVX2, tuple(f"-m{name}" for name in _AVX2)),
    Level("portable", (), ()),
)
"""From the most to the least; the last runs everywhere."""


def level() -> Level:
    """The level that PyTorch runs at (`ATEN_CPU_CAPABILITY` may lower it), or the next that this CPU really has."""
    name = torch.backends.cpu.get_cpu_capability().split("_")[0]
    first = next((i for i, level in enumerate(LEVELS) if level.name == name), len(LEVELS) - 1)
    return next(level for level in LEVELS[first:] if has(level))


def has(level: Level) -> bool:
    """Whether this CPU has every instruction of `level`, and its system saves their registers."""
    return cpu_flags().issuperset(level.needs)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instructions in /proc/cpuinfo that every core has; none where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return frozenset()
    cores = [frozenset(line.split()) for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)]
    return frozenset.intersection(*cores) if cores else frozenset()


class _Symbol(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def pool_entry(library: ctypes.CDLL) -> int | None:
    """The address at which `library` finds the function that starts OpenMP's threads."""
    try:
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    except AttributeError:
        return None


@functools.cache
def pool_of_torch() -> tuple[Path, int] | None:
    """The file of the OpenMP runtime that PyTorch has loaded, with `pool_entry`; None where PyTorch has none.

    Asked of the dynamic linker, since the file's name and place differ from build to build, and other packages may
    have loaded runtimes of their own.
    """
    try:
        address = pool_entry(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")))
        symbol = _Symbol()
        if address is None or not ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(symbol)):
            return None
    except (OSError, AttributeError):
        return None
    return Path(symbol.file.decode()), address
