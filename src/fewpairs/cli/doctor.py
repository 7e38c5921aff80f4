"""`fewpairs doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from fewpairs.cli.output import echo

State = Literal["good", "note", "bad"]

PACKAGES = {
    "torch": "2.8",
    "torchvision": "0.23",
    "timm": "1.0.20",
    "monai": "1.5",
    "accelerate": "1.10",
    "nibabel": "5.3",
    "safetensors": "0.5",
    "pydantic": "2.11",
}
"""The packages that fewpairs imports, with the lowest supported versions."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    state: State
    text: str
    remedy: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check this installation: versions, imports, devices, a training step, disk; say what is wrong and how to fix it.

    The exit status is 1 when a check fails.

    Example: `fewpairs doctor`
    """
    findings = [finding for check in CHECKS for finding in check()]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        marks = {"good": "ok  ", "note": "note", "bad": "BAD "}
        for finding in findings:
            echo(f"{marks[finding.state]} {finding.subject}: {finding.text}")
            if finding.remedy:
                echo(f"     -> {finding.remedy}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def python() -> Iterator[Finding]:
    """Checks the version of Python."""
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Finding("python", "good" if good else "bad", version, "" if good else "use Python 3.11 or newer")


def packages() -> Iterator[Finding]:
    """Checks that every package is installed, new enough, and can be imported."""
    for name, least in PACKAGES.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "bad", "not installed", f"pip install '{name}>={least}'")
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken package raises is what the user has to know
            remedy = f"reinstall it: pip install --force-reinstall '{name}>={least}'"
            if name == "torchvision":
                remedy = "torch and torchvision differ in build; install both from the same index, without pins"
            yield Finding(name, "bad", f"{version} does not import: {str(error).splitlines()[0]}", remedy)
            continue
        if numbers(version) < numbers(least):
            yield Finding(name, "bad", f"{version} is older than {least}", f"pip install '{name}>={least}'")
        else:
            yield Finding(name, "good", version)


def numbers(version: str) -> tuple[int, ...]:
    """`"2.11.0+cpu"` -> `(2, 11, 0)`."""
    parts = version.split("+")[0].split(".")
    return tuple(int(digits) for part in parts if (digits := "".join(c for c in part if c.isdigit())))


def devices() -> Iterator[Finding]:
    """Lists the devices of PyTorch."""
    torch = importlib.import_module("torch")
    yield Finding("cpu", "good", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            text = f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
            yield Finding(f"cuda:{index}", "good", text)
    else:
        yield Finding("cuda", "note", "no device; paper-scale recipes need one, small recipes and the demo do not")


def work() -> Iterator[Finding]:
    """Checks that every attention runs forward and backward in a small segmenter, with finite gradients."""
    import torch

    from fewpairs.attention import VARIANTS, parse_variant
    from fewpairs.models import create_segmenter

    for name in VARIANTS:
        model = create_segmenter("setr_pup_small", attention=parse_variant(name), classes=2, in_channels=1)
        model(torch.randn(1, 1, 32, 48)).square().mean().backward()
        broken = [key for key, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        if broken:
            yield Finding(f"attention {name}", "bad", f"gradients of {broken[0]} are not finite", "please report this")
        else:
            yield Finding(f"attention {name}", "good", "one training step runs")


def kernels() -> Iterator[Finding]:
    """Lists the compiler, instruction set, folder and number of the compiled C++ kernels."""
    from fewpairs.cli.kernels import LIBRARIES, library_of
    from fewpairs.ops.native import Unavailable, cache

    remedy = "slower kernels are used instead; install a C++ compiler such as g++"
    if os.environ.get("FEWPAIRS_NATIVE") == "0":
        yield Finding("kernels", "note", "C++ is switched off by FEWPAIRS_NATIVE=0")
        return
    try:
        libraries = {library.name: library for op in LIBRARIES if (library := library_of(op)) is not None}
        reasons = [library.unavailable() for library in libraries.values() if library.tried]
        refused = next((reason for reason in reasons if reason is not None), None)
        if refused is not None:
            raise Unavailable(refused)
        plans = [library.plan() for library in libraries.values()]
        folder = cache.folder()
        reason = cache.distrust(folder) if folder.exists() else None
    except (Unavailable, OSError) as error:
        yield Finding("kernels", "note", f"none in C++: {error}", remedy)
        return
    if reason is not None:
        remedy = f"chmod go-w {folder}, or set FEWPAIRS_CACHE to a folder that you, and nobody else, can write"
        yield Finding("kernels", "bad", f"{folder} {reason}, so every process compiles its own C++ kernels", remedy)
        return
    compiled = sum(cache.find(folder / plan.file) for plan in plans)
    how = f"{plans[0].version.splitlines()[1]}, for {plans[0].level}"
    rest = "" if compiled == len(plans) else ", the rest on first use"
    yield Finding("kernels", "good", f"{how}; in {folder}: {compiled} of {len(plans)} compiled{rest}")


def folders() -> Iterator[Finding]:
    """Checks that the cache can be written and has room."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        yield Finding("cache", "bad", f"{cache} cannot be written", "set XDG_CACHE_HOME, or data.cache for a run")
    elif free < 2:
        yield Finding("cache", "note", f"{cache} has {free:.1f} GiB free", "decoded data may need more; set data.cache")
    else:
        yield Finding("cache", "good", f"{cache}, {free:.0f} GiB free")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (python, packages, devices, work, kernels, folders)
