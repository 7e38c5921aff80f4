"""What can be measured: an operator at a shape, or a whole model at a batch and an image size; each has a name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from fewpairs.attention import parse_variant
from fewpairs.errors import InputError, nearest
from fewpairs.ops.knn import check_topk, effective_topk

Pass = Literal["forward", "training"]
PASSES: tuple[Pass, ...] = ("forward", "training")
"""The forward pass alone, without a gradient; forward and backward (of a model: a whole training step)."""
OPERATORS = ("knn", "kv", "key_only", "softmax")
DTYPES = ("float32", "bfloat16")
DEVICES = ("cpu", "cuda")

_OPERATOR = re.compile(
    rf"(?P<op>{'|'.join(OPERATORS)})-b(?P<b>\d+)-h(?P<h>\d+)-n(?P<n>\d+)-d(?P<d>\d+)(-k(?P<topk>[\d.]+))?"
    rf"(-(?P<dtype>{'|'.join(DTYPES)}))?(-(?P<device>cuda))?"
)
_MODEL = re.compile(r"(?P<model>[\w.]+)-b(?P<batch>\d+)-(?P<size>\d+)px-(?P<attention>\w+)(-(?P<device>cuda))?")


@dataclass(frozen=True)
class OperatorCase:
    """Self-attention of `b` images, `h` heads, `n` tokens, heads of width `d`; of k-NN attention `topk` keys are kept.

    Raises:
        InputError: a number out of its range, or `topk` where there is none to set (or none where one is needed).
    """

    op: str
    b: int
    h: int
    n: int
    d: int
    topk: int | float | None = None
    dtype: str = "float32"
    device: str = "cpu"
    timed: bool = True
    """False: memory alone is of interest."""

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise InputError(f"operator {self.op!r} is not known; {nearest(self.op, (*OPERATORS, 'model'))}")
        if min(self.b, self.h, self.n, self.d) < 1:
            raise InputError(f"the shape b={self.b}, h={self.h}, n={self.n}, d={self.d} needs numbers from 1 on")
        if self.op == "knn" and self.topk is None:
            raise InputError("knn needs the number of keys that a query keeps: --topk 100, or -k100 in the case's name")
        if self.op != "knn" and self.topk is not None:
            raise InputError(f"{self.op} has no number of keys to choose; leave topk={self.topk} out")
        if self.topk is not None:
            check_topk(self.topk)
        _check_place(self.dtype, self.device)

    @property
    def name(self) -> str:
        """What the command line calls it: `knn-b8-h6-n197-d64-k100`, then dtype and device where they are others."""
        parts = [self.op, f"b{self.b}", f"h{self.h}", f"n{self.n}", f"d{self.d}"]
        parts += [f"k{self.topk}"] if self.topk is not None else []
        parts += [self.dtype] if self.dtype != "float32" else []
        return "-".join([*parts, *([self.device] if self.device != "cpu" else [])])

    @property
    def keys(self) -> int | None:
        """How many keys a query keeps, as a number; None where all of them count."""
        return None if self.topk is None else effective_topk(self.topk, self.n)


@dataclass(frozen=True)
class ModelCase:
    """A model on `batch` images of `size` x `size` pixels with another attention, beside its own, in float32.

    `model` is a segmenter of `fewpairs models` or any classifier of timm; `attention` a name as `knn100` or `kv`.
    """

    model: str
    batch: int
    size: int
    attention: str
    device: str = "cpu"
    timed: bool = True
    op: str = "model"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.batch < 1 or self.size < 1:
            raise InputError(f"{self.model}: batch={self.batch} and size={self.size} must be from 1 on")
        if self.dtype != "float32":
            raise InputError(f"{self.model}: whole models are measured in float32, not in {self.dtype}")
        _check_place(self.dtype, self.device)
        parse_variant(self.attention)

    @property
    def name(self) -> str:
        """What the command line calls it: `deit_small_patch16_224-b16-224px-knn100`."""
        name = f"{self.model}-b{self.batch}-{self.size}px-{self.attention}"
        return name if self.device == "cpu" else f"{name}-{self.device}"


Case = OperatorCase | ModelCase


def _check_place(dtype: str, device: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not measured; {nearest(dtype, DTYPES)}")
    if device not in DEVICES:
        raise InputError(f"device {device!r} is not known; {nearest(device, DEVICES)}")


def parse_case(name: str) -> Case | None:
    """The case of that name, or None where the text is no case's name.

    Raises:
        InputError: a case's name with a number out of its range.
    """
    if found := _OPERATOR.fullmatch(name):
        b, h, n, d = (int(found[letter]) for letter in "bhnd")
        topk = None if found["topk"] is None else parse_topk(found["topk"])
        place = {"dtype": found["dtype"] or "float32", "device": found["device"] or "cpu"}
        return OperatorCase(found["op"], b, h, n, d, topk, **place)  # type: ignore[arg-type]  # two texts
    if found := _MODEL.fullmatch(name):
        size, batch = int(found["size"]), int(found["batch"])
        return ModelCase(found["model"], batch, size, found["attention"], device=found["device"] or "cpu")
    return None


def parse_shape(text: str) -> tuple[int, int, int, int]:
    """(b, h, n, d) from `8,6,197,64`.

    Raises:
        InputError: anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--shape {text!r} must be b,h,n,d: four numbers from 1 on, such as 8,6,197,64")
    b, h, n, d = map(int, parts)
    return b, h, n, d


def parse_topk(text: str) -> int | float:
    """A number of keys (`100`) or a share of them (`0.5`).

    Raises:
        InputError: neither.
    """
    try:
        value: int | float = int(text) if text.isascii() and text.isdecimal() else float(text)
    except ValueError:
        raise InputError(
            f"topk {text!r} must be a number of keys such as 100, or a share of them such as 0.5"
        ) from None
    return check_topk(value)


def convert_case(case: Case, dtype: str | None, device: str | None) -> Case:
    """The case in another dtype or on another device, where one is given; whole models stay in float32."""
    if dtype is not None and isinstance(case, OperatorCase):
        case = replace(case, dtype=dtype)
    return case if device is None else replace(case, device=device)
