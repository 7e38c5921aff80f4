"""Named benchmark cases: an operator at a shape, or a whole model at a batch size and an image size."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from fewpairs.attention import parse_variant
from fewpairs.errors import InputError, nearest
from fewpairs.ops.knn import check_topk, effective_topk

Pass = Literal["forward", "training"]
PASSES: tuple[Pass, ...] = ("forward", "training")
"""The forward pass without gradients; forward and backward pass (for a model: a whole training step)."""
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
    """Self-attention of `b` images, `h` heads, `n` tokens and head width `d`; k-NN attention keeps `topk` keys.

    Raises:
        InputError: a number is out of its range; `topk` is missing for k-NN attention, or given for another operator.
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
    """Whether time is measured; if False, only memory is."""

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise InputError(f"operator {self.op!r} is not known; {nearest(self.op, (*OPERATORS, 'model'))}")
        if min(self.b, self.h, self.n, self.d) < 1:
            raise InputError(f"the shape b={self.b}, h={self.h}, n={self.n}, d={self.d} needs numbers of 1 or more")
        if self.op == "knn" and self.topk is None:
            raise InputError("knn needs the number of keys per query: --topk 100, or -k100 in the case's name")
        if self.op != "knn" and self.topk is not None:
            raise InputError(f"{self.op} does not select keys; remove topk={self.topk}")
        if self.topk is not None:
            check_topk(self.topk)
        _check_place(self.dtype, self.device)

    @property
    def name(self) -> str:
        """The name on the command line: `knn-b8-h6-n197-d64-k100`, then dtype and device unless float32 and cpu."""
        parts = [self.op, f"b{self.b}", f"h{self.h}", f"n{self.n}", f"d{self.d}"]
        parts += [f"k{self.topk}"] if self.topk is not None else []
        parts += [self.dtype] if self.dtype != "float32" else []
        return "-".join([*parts, *([self.device] if self.device != "cpu" else [])])

    @property
    def keys(self) -> int | None:
        """The number of keys that a query keeps; None if all keys count."""
        return None if self.topk is None else effective_topk(self.topk, self.n)


@dataclass(frozen=True)
class ModelCase:
    """A float32 model on `batch` images of `size` x `size` pixels, with another attention and with its own.

    `model` is a segmenter of `fewpairs models` or a classifier of timm; `attention` is a name such as `knn100` or `kv`.
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
            raise InputError(f"{self.model}: batch={self.batch} and size={self.size} must be 1 or more")
        if self.dtype != "float32":
            raise InputError(f"{self.model}: whole models are measured in float32, not in {self.dtype}")
        _check_place(self.dtype, self.device)
        parse_variant(self.attention)

    @property
    def name(self) -> str:
        """The name on the command line: `deit_small_patch16_224-b16-224px-knn100`."""
        name = f"{self.model}-b{self.batch}-{self.size}px-{self.attention}"
        return name if self.device == "cpu" else f"{name}-{self.device}"


Case = OperatorCase | ModelCase


def _check_place(dtype: str, device: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not measured; {nearest(dtype, DTYPES)}")
    if device not in DEVICES:
        raise InputError(f"device {device!r} is not known; {nearest(device, DEVICES)}")


def parse_case(name: str) -> Case | None:
    """Return the case with this name, or None if it is not the name of a case.

    Raises:
        InputError: a number in the name is out of its range.
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
    """Parse `8,6,197,64` as (b, h, n, d).

    Raises:
        InputError: the text has another form.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--shape {text!r} must be b,h,n,d: four numbers of 1 or more, such as 8,6,197,64")
    b, h, n, d = map(int, parts)
    return b, h, n, d


def parse_topk(text: str) -> int | float:
    """Parse a number of keys (`100`) or a fraction of them (`0.5`).

    Raises:
        InputError: the text is neither.
    """
    try:
        value: int | float = int(text) if text.isascii() and text.isdecimal() else float(text)
    except ValueError:
        raise InputError(f"topk {text!r} must be a number of keys such as 100, or a fraction such as 0.5") from None
    return check_topk(value)


def convert_case(case: Case, dtype: str | None, device: str | None) -> Case:
    """Return the case with another dtype or device if given; whole models stay in float32."""
    if dtype is not None and isinstance(case, OperatorCase):
        case = replace(case, dtype=dtype)
    return case if device is None else replace(case, device=device)
