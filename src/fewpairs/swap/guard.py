"""Refusal of models whose layers cannot be replaced in place because they are compiled or wrapped."""

from __future__ import annotations

import torch
from torch import nn

from fewpairs.errors import InputError

_WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "FSDPModule")
"""Names of torch classes that wrap a model."""


def check_swappable(model: nn.Module) -> None:
    """Raise InputError if the model, or a part of it, is compiled, scripted or wrapped."""
    if not isinstance(model, nn.Module):
        raise InputError(f"swap_attention changes a torch.nn.Module in place; {type(model).__name__} is not a module")
    for name, module in model.named_modules():
        where = f"its part {name!r}" if name else "it"
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise InputError(
                f"this model cannot be swapped: {where} is compiled and would keep the old layers; swap first, "
                "then torch.compile"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"this model cannot be swapped: {where} is TorchScript; swap the Python model, then script it"
            )
        for kind in type(module).__mro__:
            if kind.__name__ in _WRAPPERS and kind.__module__.startswith("torch."):
                raise InputError(
                    f"this model cannot be swapped: {where} is wrapped ({kind.__name__}), and the wrapper keeps "
                    "the old weights; swap first, then wrap"
                )
