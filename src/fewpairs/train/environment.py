"""Software and hardware that results come from, as data and as text."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewpairs import __version__

_PACKAGES = ("fewpairs", "torch", "torchvision", "timm", "accelerate", "monai", "numpy", "safetensors")


def describe_environment() -> dict[str, Any]:
    """Return versions and hardware as plain data."""
    import torch

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "cuda_devices": devices,
        "packages": versions,
    }


def processor_name() -> str | None:
    """Return the processor's model; None if the system does not tell (other than Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def describe_hardware(environment: Mapping[str, Any]) -> str:
    """Describe the device that PyTorch computes on."""
    import torch

    if environment["cuda_devices"]:
        return ", ".join(environment["cuda_devices"])
    return f"{environment['processor']}, {environment['cores']} cores, {torch.get_num_threads()} threads"


def source_commit() -> str:
    """Return the commit of the source tree, marked if files differ from it; without a checkout, the version."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"fewpairs {__version__}"
