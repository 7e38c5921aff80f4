"""Models whose layers cannot be exchanged in place, because something else holds on to them."""

from __future__ import annotations

import torch
from torch import nn

from fewpairs.errors import InputError

_WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "FSDPModule")
"""Classes of torch."""


def check_swappable(model: nn.Module) -> None:
    """Raises InputError if the model, or a part of it, is compiled, scripted or wrapped."""
    if not isinstance(model, nn.Module):
        raise InputError(f"swap_attention changes a torch.nn.Module in place; {type(model).__name__} is none")
    for name, module in model.named_modules():
        where = f"its part {name!r}" if name else "it"
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise InputError(
                f"this model cannot be swapped: {where} is compiled, and would go on with the old layers; swap first, "
                "then torch.compile"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"this model cannot be swapped: {where} is TorchScript; swap the Python model, then script"
            )
        for kind in type(module).__mro__:
            if kind.__name__ in _WRAPPERS and kind.__module__.startswith("torch."):
                raise InputError(
                    f"this model cannot be swapped: {where} is wrapped ({kind.__name__}), and the wrapper holds on to "
                    "the old weights; swap first, then wrap"
                )
