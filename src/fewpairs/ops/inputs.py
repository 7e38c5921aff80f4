"""Checks of the arguments of all attention operators: one rule for each question, one sentence for each error.

- Every letter of a shape has one size in all tensors of a call. Keys and values may have fewer heads than queries (in
  KV and key-only attention, values than keys) if their number divides h: each serves neighbours, like `enable_gqa`.
- Queries, keys and values share one floating-point dtype. Under autocast they are cast to its dtype first, as in
  PyTorch's own attention; key-only attention, which multiplies no matrices, takes the widest of its inputs there, as
  autocast does for softmax. Biases, gains and saliency may have any floating-point dtype.
- Masks are boolean (True keeps) or floating-point (added to the scores); integers are refused.

Only shapes, dtypes and devices are read, never values, so that the checks hold for fake tensors and in compiled graphs.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.ops.transforms import recorded

METRICS = ("dot", "euclidean")


class Role(NamedTuple):
    """An argument of heads, with the letters of its shape; the last but one counts its positions."""

    name: str
    letters: tuple[str, str, str, str]

    def __str__(self) -> str:
        return f"{self.name} [{' '.join(self.letters)}]"


QKV = (Role("q", ("b", "h", "n", "d")), Role("k", ("b", "h", "m", "d")), Role("v", ("b", "h", "m", "e")))
KV = (Role("k", ("b", "h", "n", "d")), Role("v", ("b", "h", "n", "e")))
KEY_ONLY = (*KV[:1], Role("v", ("b", "h", "n", "d")), Role("gate", ("b", "h", "n", "d")))


def heads(roles: Sequence[Role], *tensors: Tensor) -> list[Tensor]:
    """Check that the tensors have four dimensions that agree, and return them in one dtype and with h heads each.

    Raises:
        InputError: they do not fit; the message names the arguments, the letters and the shapes.
    """
    for role, x in zip(roles, tensors, strict=False):
        if not isinstance(x, Tensor):
            raise InputError(f"{role.name} must be a tensor [{' '.join(role.letters)}], not {type(x).__name__}")
        if x.ndim != 4:
            raise InputError(
                f"{role.name} must have the four dimensions [{' '.join(role.letters)}]; its shape is {list(x.shape)}"
            )
    cast = _autocast(tensors, widest=roles is KEY_ONLY)
    first = cast[0]
    shape, dtype, device = first.shape, first.dtype, first.device
    if not dtype.is_floating_point or dtype.itemsize < 2:
        raise InputError(f"{_names(roles, cast)} must hold floating-point numbers, not {dtype}; convert them first")
    for x in cast:
        if x.dtype != dtype:
            raise InputError(
                f"{_names(roles, cast)} must share one dtype, not {_listed(x.dtype for x in cast)}; convert them first"
            )
        if x.device != device:
            raise InputError(f"{_names(roles, cast)} must lie on one device, not {_listed(x.device for x in cast)}")
    if any(x.shape != shape for x in cast):
        cast = _agreeing(roles, cast)
    position = roles[1].letters[2]
    if cast[1].shape[2] == 0:
        raise InputError(
            f"k and v have no keys ({position} = 0): there are no positions to attend to; give them one at least"
        )
    if shape[3] == 0:
        raise InputError(f"{_names(roles, cast)} have heads of width d = 0, which have no scores; give them width")
    return cast


def pair_bias(bias: Tensor | None, q: Tensor, m: int) -> Tensor | None:
    """Check a bias `[b h n m]` of the pairs, where b, h and n may be 1, and return it with all rows.

    Raises:
        InputError: it does not fit q `[b h n d]` and m keys.
    """
    if bias is None:
        return None
    b, h, n = q.shape[:3]
    if not isinstance(bias, Tensor):
        raise InputError(f"bias must be a tensor [b h n m], not {type(bias).__name__}")
    fits = bias.ndim == 4 and bias.shape[0] in (1, b) and bias.shape[1] in (1, h)
    if not fits or bias.shape[2] not in (1, n) or bias.shape[3] != m:
        raise InputError(
            f"bias must be [b h n m] = [{b} {h} {n} {m}], with 1 for b or h or n where it is shared; its shape is "
            f"{list(bias.shape)}"
        )
    if not (bias.is_floating_point() or bias.dtype == torch.bool):
        raise InputError(
            f"bias must be floating-point (added to the scores) or boolean (True keeps the pair), not {bias.dtype}; "
            "convert a mask of 0 and 1 by .bool()"
        )
    _check_device("bias", bias, q)
    return bias if bias.shape[2] == n else bias.expand(-1, -1, n, -1)


def key_bias(key_bias: Tensor | None, bias: Tensor | None, k: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Check a bias of the keys, `[n]`, `[h n]` or `[b h n]`, where b and h may be 1.

    Returns it as `[n]` or `[h n]`, and the bias of the pairs, of which it becomes a part if it differs between images.

    Raises:
        InputError: it does not fit k `[b h n d]`, or `[x n]` could be one per image or one per head.
    """
    if key_bias is None:
        return None, bias
    b, h, n = k.shape[:3]
    if not isinstance(key_bias, Tensor):
        raise InputError(f"key_bias must be a tensor [n], [h n] or [b h n], not {type(key_bias).__name__}")
    shape = key_bias.shape
    if key_bias.ndim == 2 and shape == (b, n) and b == h and b > 1:
        raise InputError(
            f"key_bias {list(shape)} could be one per image or one per head, of which there are {b} each; write "
            f"[1 h n] for one per head, or [b 1 n] for one per image"
        )
    fits = key_bias.ndim in (1, 2, 3) and shape[-1] == n
    if not fits or (key_bias.ndim > 1 and shape[-2] not in (1, h)) or (key_bias.ndim == 3 and shape[0] not in (1, b)):
        raise InputError(
            f"key_bias must be [n], [h n] or [b h n] = [{b} {h} {n}], with 1 for b or h where it is shared; its shape "
            f"is {list(shape)}"
        )
    if not key_bias.is_floating_point():
        raise InputError(
            f"key_bias must be floating-point (added to the scores), not {key_bias.dtype}; a boolean mask of keys is a "
            "bias [b 1 1 n]"
        )
    _check_device("key_bias", key_bias, k)
    if key_bias.ndim == 3 and shape[0] == 1:
        key_bias = key_bias[0]
    if key_bias.ndim < 3:
        return (key_bias[0] if key_bias.ndim == 2 and key_bias.shape[0] == 1 else key_bias), bias
    rows = key_bias.unsqueeze(-2).expand(-1, -1, n, -1)
    if bias is None:
        return None, rows
    return None, torch.where(bias, rows, -torch.inf) if bias.dtype == torch.bool else bias + rows


def scaled(scale: float | Tensor | None, q: Tensor) -> tuple[Tensor, float]:
    """Return q, and the number that multiplies the scores; a scale that is a tensor multiplies q and gets a gradient.

    Raises:
        InputError: see `gained`.
    """
    factor, number = gained(scale, None, q)
    return (q, number) if factor is None else ((q * _per_head(factor)).to(q.dtype), number)


def gained(scale: float | Tensor | None, gain: Tensor | None, k: Tensor) -> tuple[Tensor | None, float]:
    """Return the factor of the scores that is a tensor, `[]` or `[h]`, and the one that is a number.

    Raises:
        InputError: `scale` is neither None, a finite number nor a tensor `[]` or `[h]`; or `gain` is no such tensor.
    """
    gain = gain if gain is None else _factor("gain", gain, k)
    if isinstance(scale, Tensor):
        scale = _factor("scale", scale, k)
        return (scale if gain is None else gain * scale), 1.0
    if scale is None:
        return gain, k.shape[3] ** -0.5
    if type(scale) not in (float, int, torch.SymFloat, torch.SymInt):
        if not isinstance(scale, numbers.Real) or isinstance(scale, bool):
            raise InputError(
                f"scale={scale!r} is of type {type(scale).__name__}; it must be a finite number, or a tensor [] or [h]"
            )
        scale = float(scale)
    if not -math.inf < scale < math.inf:
        raise InputError(f"scale={scale!r} must be a finite number; None takes d ** -0.5")
    return gain, scale


def check_topk(topk: object) -> int | float:
    """Return `topk` as an int (a number of keys) or a float (a fraction of them); numbers of NumPy are taken too.

    Raises:
        InputError: `topk` is neither an integer of 1 or more nor a fraction in (0, 1].
    """
    allowed = "allowed: an int of 1 or more (a number of keys) or a float in (0, 1] (a fraction of the keys)"
    if type(topk) not in (int, float) and not isinstance(topk, bool):
        topk = int(topk) if isinstance(topk, numbers.Integral) else topk
        topk = float(topk) if isinstance(topk, numbers.Real) and not isinstance(topk, int) else topk
    if type(topk) is int:
        if topk >= 1:
            return topk
    elif type(topk) is float:
        if 0 < topk <= 1:
            return topk
    else:
        remedy = "; topk.item() is the number of a tensor" if isinstance(topk, Tensor) else ""
        raise InputError(f"topk={topk!r} is of type {type(topk).__name__}; {allowed}{remedy}")
    raise InputError(f"topk={topk!r} is out of range; {allowed}")


def effective_topk(topk: int | float, m: int) -> int:
    """Return how many of `m` keys a query keeps: an int is clamped to m, a fraction is rounded (at least 1).

    Raises:
        InputError: see `check_topk`.
    """
    topk = check_topk(topk)
    if recorded():
        count: int = _symbolic_topk(topk, m)
        return count
    return min(topk, m) if isinstance(topk, int) else max(1, int(topk * m + 0.5))


def _symbolic_topk(topk: int | float, m: Any) -> Any:
    """Do as `effective_topk` for a graph that is being recorded, in which it stays a function of m.

    `torch.jit.trace` gives the size as a tensor, the other recorders as an integer or a symbol.
    """
    if isinstance(topk, float):
        share = Fraction(topk).limit_denominator(10**6)
        count = (2 * share.numerator * m + share.denominator) // (2 * share.denominator)
        return count.clamp(min=1) if isinstance(m, Tensor) else torch.sym_max(1, count)
    return m.clamp(max=topk) if isinstance(m, Tensor) else torch.sym_min(topk, m)


def check_metric(metric: str) -> None:
    """Raise InputError unless `metric` is "dot" or "euclidean"."""
    if metric not in METRICS:
        raise InputError(f"metric={metric!r} is not known; allowed: 'dot', 'euclidean'")


def saliency(saliency: Tensor, k: Tensor) -> None:
    """Check the saliency of key-only attention: `[h d]`, or logits `[b h n]` or `[b h n d]`.

    Raises:
        InputError: it does not fit k `[b h n d]`.
    """
    b, h, n, d = k.shape
    if not isinstance(saliency, Tensor):
        raise InputError(f"saliency must be a tensor [h d], [b h n] or [b h n d], not {type(saliency).__name__}")
    shape = saliency.shape
    if shape != {2: (h, d), 3: (b, h, n), 4: (b, h, n, d)}.get(saliency.ndim) or not saliency.is_floating_point():
        raise InputError(
            f"saliency must be a vector per head [h d] = [{h} {d}], or logits [b h n] = [{b} {h} {n}] or [b h n d], of "
            f"floating-point numbers; its shape is {list(shape)}, its dtype {saliency.dtype}"
        )
    _check_device("saliency", saliency, k)


def position_mask(mask: Tensor | None, k: Tensor) -> Tensor | None:
    """Check a mask of positions, `[b h n]` or `[b h 1 n]`, where b and h may be 1, and return it as `[b h n]`.

    Raises:
        InputError: it does not fit k `[b h n d]`, or is not boolean.
    """
    if mask is None:
        return None
    b, h, n, _ = k.shape
    if not isinstance(mask, Tensor):
        raise InputError(f"mask must be a boolean tensor [b h n], not {type(mask).__name__}")
    shape = mask.shape if mask.ndim != 4 or mask.shape[2] != 1 else (*mask.shape[:2], mask.shape[3])
    fits = len(shape) == 3 and shape[0] in (1, b) and shape[1] in (1, h) and shape[2] == n
    if mask.dtype != torch.bool or not fits:
        raise InputError(
            f"mask must be boolean [b h n] = [{b} {h} {n}] or [b h 1 n] (1 for b or h where it is shared), True where "
            f"a position counts; its shape is {list(mask.shape)}, its dtype {mask.dtype}"
        )
    _check_device("mask", mask, k)
    return (mask if mask.ndim == 3 else mask.squeeze(2)).expand(b, h, n)


def _autocast(tensors: Sequence[Tensor], *, widest: bool) -> list[Tensor]:
    """Cast to the dtype of the current autocast region, or to the widest input; float64 stays, as in PyTorch."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype, narrow = torch.get_autocast_dtype(device), (torch.float32, torch.float16, torch.bfloat16)
    if widest:
        if all(x.dtype == tensors[0].dtype for x in tensors):
            return list(tensors)
        dtype = torch.float32
    return [x.to(dtype) if x.dtype in narrow and x.device.type == device else x for x in tensors]


def _agreeing(roles: Sequence[Role], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Check that every letter has one size, and return the tensors with h heads each."""
    sizes: dict[str, int] = {}
    for role, x in zip(roles, tensors, strict=False):
        for letter, size in zip(role.letters, x.shape, strict=True):
            known = sizes.setdefault(letter, size)
            if known != size and not (letter == "h" and known and size and known % size == 0):
                raise _disagreement(roles, tensors, role, letter)
    h = sizes["h"]
    return [x if x.shape[1] == h else _repeat(x, h) for x in tensors]


def _repeat(x: Tensor, h: int) -> Tensor:
    return x.expand(-1, h, -1, -1) if x.shape[1] == 1 else x.repeat_interleave(h // x.shape[1], dim=1)


def _factor(name: str, x: Tensor, k: Tensor) -> Tensor:
    h = k.shape[1]
    if not isinstance(x, Tensor) or not x.is_floating_point() or not (x.ndim == 0 or x.shape in ((1,), (h,))):
        found = f"shape {list(x.shape)}, dtype {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"{name} must be a floating-point tensor [], or [h] = [{h}] for one per head, not {found}")
    _check_device(name, x, k)
    return x


def _per_head(factor: Tensor) -> Tensor:
    return factor if factor.ndim == 0 else factor.reshape(-1, 1, 1)


def _check_device(name: str, x: Tensor, like: Tensor) -> None:
    if x.device != like.device:
        raise InputError(f"{name} must lie on the device of q, k and v, {like.device}, not on {x.device}")


def _disagreement(roles: Sequence[Role], tensors: Sequence[Tensor], role: Role, letter: str) -> InputError:
    """Return the error of `role`, whose size of `letter` is not that of the first role that has it."""
    before = next(other for other in roles if letter in other.letters)
    shapes = [list(tensors[roles.index(each)].shape) for each in (before, role)]
    shared = _listed(each for each in role.letters if each in before.letters)
    hint = f"; fewer heads of {role.name} are allowed if they divide h" if letter == "h" else ""
    return InputError(f"{before} and {role} must agree in {shared}; their shapes are {_listed(shapes)}{hint}")


def _names(roles: Sequence[Role], tensors: Sequence[Tensor]) -> str:
    return _listed(role.name for role, _ in zip(roles, tensors, strict=False))


def _listed(items: object) -> str:
    *most, last = [str(item) for item in items]  # type: ignore[attr-defined]  # any iterable
    return f"{', '.join(most)} and {last}" if most else last
