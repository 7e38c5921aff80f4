"""The processes of a run: one, or several under `accelerate launch` or torchrun."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, gather_object
from torch import distributed, nn

from fewpairs.errors import FewpairsError, InputError
from fewpairs.train.config import Device, Precision


def resolve_device(name: Device | str, precision: Precision = "fp32") -> torch.device:
    """Return the device that `name` stands for on this machine.

    Raises:
        InputError: the machine has no such device, or it cannot compute in `precision`.
    """
    cuda = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if cuda else "cpu") if name == "auto" else name)
    except RuntimeError as error:
        raise InputError(f"device={name!r} is unknown to PyTorch; allowed: auto, cpu, cuda, cuda:0, ...") from error
    if device.type == "cuda" and not cuda:
        raise InputError(f"device is {str(name)!r}, but PyTorch sees no CUDA device here; use device=cpu")
    if precision == "fp16" and device.type != "cuda":
        raise InputError("precision=fp16 needs a CUDA device for its loss scaling; use bf16 or fp32 on this one")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError(f"{torch.cuda.get_device_name(device)} cannot compute in bf16; use precision=fp16 or fp32")
    return device


@contextmanager
def evaluation_mode(model: nn.Module, device: str) -> Iterator[torch.device]:
    """Put the model on a device (see `resolve_device`) in evaluation mode; afterwards its own mode is restored."""
    resolved = resolve_device(device)
    was_training = model.training
    model.to(resolved).eval()
    try:
        yield resolved
    finally:
        model.train(was_training)


def start_processes(device: Device, precision: Precision, *, unused_parameters: bool = False) -> Accelerator:
    """Return the accelerator of this run; it joins the process group if a launcher started this process.

    `unused_parameters` tells data-parallel training that some parameters get no gradient.

    Raises:
        InputError: as `resolve_device`.
    """
    cpu = resolve_device(device, precision).type == "cpu"
    # accelerate keeps one state per process and refuses another precision or device, which a later run may need.
    GradientState._reset_state()
    AcceleratorState._reset_state(reset_partial_state=not distributed.is_initialized())
    return Accelerator(
        cpu=cpu,
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, find_unused_parameters=unused_parameters)
        ],
    )


def rank_and_world(device: torch.device) -> tuple[int, int]:
    """Return this process's index and the number of processes; join a launcher's group if that is not done yet."""
    if not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(cpu=device.type == "cpu")
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


@contextmanager
def prepare_training(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[nn.Module, torch.optim.Optimizer]]:
    """Wrap model and optimiser for precision and processes by accelerate; afterwards `model` is unwrapped again."""
    names = ("forward", "_original_forward", "_is_accelerate_prepared")
    before = {name: model.__dict__[name] for name in names if name in model.__dict__}
    try:
        yield accelerator.prepare_model(model), accelerator.prepare_optimizer(optimizer, device_placement=False)
    finally:
        for name in names:
            model.__dict__.pop(name, None)
        model.__dict__.update(before)
        accelerator.free_memory()


def leave_processes() -> None:
    """Leave the launcher's process group at the end of a command; a single process does nothing."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)


def gather_objects(items: list[Any]) -> list[Any]:
    """Return the items of all processes, in the order of their indices; every process must call this."""
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        return cast(list[Any], gather_object(items))
    return items


def run_on_main(accelerator: Accelerator, action: Callable[[], object]) -> None:
    """Run `action` in the first process; a FewpairsError that it raises is raised in all processes."""
    failure: list[FewpairsError | None] = [None]
    if accelerator.is_main_process:
        try:
            action()
        except FewpairsError as error:
            failure = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(failure)
    if failure[0] is not None:
        raise failure[0]


def sync_batch_norm(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Make batch normalisation use the global batch if there are several processes on GPUs.

    Raises:
        InputError: there are several processes on CPUs, where PyTorch cannot synchronise batch statistics, so that the
            result would depend on the number of processes.
    """
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if accelerator.num_processes == 1 or not layers:
        return model
    if accelerator.device.type == "cpu":
        raise InputError(
            f"{type(model).__name__} normalises over the batch (in {len(layers)} layers, such as {layers[0]!r}), which "
            f"{accelerator.num_processes} CPU processes cannot do together; train in one process, on GPUs, or choose a "
            f"model with group normalisation"
        )
    from timm.layers import convert_sync_batchnorm

    return cast(nn.Module, convert_sync_batchnorm(model))
