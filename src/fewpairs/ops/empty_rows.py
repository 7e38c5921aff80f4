"""Rows without a key: the rule of all operators, and the strict check that finds them.

A row whose bias or mask leaves no key (all False, or all -inf) gives zeros, and zero gradients, in every kernel, eager
or compiled, as PyTorch's `scaled_dot_product_attention` does. Key-only attention has one row per head: if no position
counts, the whole head gives zeros.

`FEWPAIRS_STRICT=1` makes such a row an error that names it. The check reads the values, which costs time (on a GPU it
waits for them), and cannot be made while a graph is recorded or on the meta device.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.transforms import readable

REMEDY = "unset FEWPAIRS_STRICT to let them give zeros"


def check_pairs(bias: Tensor | None, key_bias: Tensor | None = None) -> None:
    """Check, if strict, that the biases `[b h n m]` and `[(h) m]` leave every query row a key.

    Raises:
        InputError: a row has none; the message names the first.
    """
    given = [term for term in (bias, key_bias) if term is not None]
    if not given or not all(readable(term) for term in given) or not strict():
        return
    left = torch.ones((), dtype=torch.bool, device=given[0].device)
    if bias is not None:
        left = left & _stays(bias)
    if key_bias is not None:
        left = left & _stays(key_bias).unsqueeze(-2)
    empty = ~left.any(dim=-1)
    if empty.any():
        first = empty.nonzero()[0].tolist()
        image, head, row = [0] * (3 - len(first)) + first
        raise InputError(
            f"the bias leaves no key to query n={row} (b={image}, h={head} of the bias), and {int(empty.sum())} such "
            f"rows in all; every query needs one key at least that is True, or above -inf; {REMEDY}"
        )


def check_positions(mask: Tensor | None) -> None:
    """Check, if strict, that the mask of positions `[b h n]` leaves every head one.

    Raises:
        InputError: a head has none; the message names the first.
    """
    if mask is None or not readable(mask) or not strict():
        return
    empty = ~mask.any(dim=-1)
    if empty.any():
        image, head = empty.nonzero()[0].tolist()
        raise InputError(
            f"the mask leaves no position of image b={image}, head h={head}, and of {int(empty.sum())} heads in all; "
            f"each needs one at least that is True; {REMEDY}"
        )


def strict() -> bool:
    """Whether rows without a key are an error: `FEWPAIRS_STRICT` is set, and not to 0."""
    return os.environ.get("FEWPAIRS_STRICT", "") not in ("", "0")


def _stays(term: Tensor) -> Tensor:
    return term if term.dtype == torch.bool else term != -torch.inf
