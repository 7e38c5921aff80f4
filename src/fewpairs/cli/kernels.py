"""`fewpairs kernels`: the kernel that computes an operator for given arguments, and why others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewpairs.cli.output import echo

if TYPE_CHECKING:
    import torch

    from fewpairs.ops.dispatch import Kernel
    from fewpairs.ops.native import Library

OPERATORS = ("softmax", "knn", "kv", "key_only", "global_key")
DTYPES = ("float32", "bfloat16", "float16", "float64")
BIASES = ("none", "float", "bool", "key")
LIBRARIES = {
    "knn": "fewpairs.ops.knn.native",
    "kv": "fewpairs.ops.kv.native",
    "key_only": "fewpairs.ops.key_only.native",
}
"""The module that declares the C++ library of an operator; other operators have none."""


def kernels(
    op: Annotated[str, typer.Option(help=f"Operator: {', '.join(OPERATORS)}.", metavar="OP")],
    shape: Annotated[str, typer.Option(help="Images, heads, queries, width of a head.", metavar="B,H,N,D")],
    keys: Annotated[int | None, typer.Option(help="Keys of each head; as many as queries by default.")] = None,
    topk: Annotated[str | None, typer.Option(help="For knn: keys that a query keeps, 100, or 0.5 of them.")] = None,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    device: Annotated[str, typer.Option(help="Device by PyTorch's name: cpu, cuda, cuda:1.")] = "cpu",
    grad: Annotated[bool, typer.Option("--grad/--no-grad", help="All inputs need a gradient, as in training.")] = False,
    bias: Annotated[
        str,
        typer.Option(help="none; float (added to the scores); bool (a mask); key (kv: a number a key, as in kvpos)."),
    ] = "none",
    kernel: Annotated[str | None, typer.Option(help="Use this kernel; its refusal is an error.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which kernel runs for given shapes, and one sentence for each other kernel that says why it does not.

    Nothing is computed and no memory of that size is allocated; a C++ kernel is compiled unless it was before.

    Example: fewpairs kernels --op knn --shape 8,6,197,64 --topk 100 --grad
    """
    import json

    import torch

    from fewpairs.errors import InputError
    from fewpairs.ops.dispatch import choose, explain

    sizes = parse_shape(shape)
    for name, value, allowed in (("op", op, OPERATORS), ("dtype", dtype, DTYPES), ("bias", bias, BIASES)):
        if value not in allowed:
            raise InputError(f"--{name} {value!r} is not known; allowed: {', '.join(allowed)}")
    with torch.set_grad_enabled(grad):
        table, args, options = arguments(
            op,
            sizes,
            keys,
            parse_topk(topk),
            bias,
            {"dtype": getattr(torch, dtype), "device": parse_device(device), "requires_grad": grad},
        )
        chosen = choose(table, kernel, *args, **options).name
        lines = explain(table, *args, **options)
    if kernel is not None:
        lines = [(name, asked_for(text, name == kernel)) for name, text in lines]
    library = library_of(op)
    native = describe(library) if library is not None and library.path is not None else None
    if as_json:
        case = {"op": op, "shape": sizes, "keys": args[-2].shape[2], "topk": options.get("topk"), "dtype": dtype}
        rest = {"device": device, "grad": grad, "bias": bias, "chosen": chosen, "native": native}
        typer.echo(json.dumps({**case, **rest, "kernels": dict(lines)}, indent=2))
        return
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        echo(f"{name:<{width}}  {text}")
    if native is not None:
        echo(f"C++: {native['path']}, compiled for {native['level']} by {native['compiler']}")


def asked_for(text: str, wanted: bool) -> str:
    """The sentence about a kernel when one was chosen by name."""
    if wanted:
        return "chosen, as asked"
    return text if text.startswith("refuses") else "could run, but another is asked for"


def parse_shape(text: str) -> tuple[int, int, int, int]:
    """(b, h, n, d) from `B,H,N,D`.

    Raises:
        InputError: the text is anything else.
    """
    from fewpairs.errors import InputError

    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"--shape {text!r} must be four whole numbers: images, heads, queries, width, as 8,6,197,64")
    b, h, n, d = map(int, parts)
    if d == 0:
        raise InputError(f"--shape {text!r} has heads of width 0; the last number must be 1 at least")
    return b, h, n, d


def parse_topk(text: str | None) -> int | float | None:
    """A whole number of keys, or a share of them written with a decimal point.

    Raises:
        InputError: the text is neither.
    """
    from fewpairs.errors import InputError

    if text is None:
        return None
    try:
        return int(text) if text.strip().isdecimal() else float(text)
    except ValueError:
        raise InputError(f"--topk {text!r} must be a number of keys such as 100, or a share such as 0.5") from None


def parse_device(text: str) -> torch.device:
    """The device, which must be usable.

    Raises:
        InputError: PyTorch does not know it, or cannot use it here.
    """
    import torch

    from fewpairs.errors import InputError

    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {text!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def arguments(
    op: str,
    shape: tuple[int, int, int, int],
    keys: int | None,
    topk: int | float | None,
    bias: str,
    made: dict[str, Any],
) -> tuple[tuple[Kernel, ...], tuple[torch.Tensor, ...], dict[str, Any]]:
    """The kernels of `op` and the arguments that its public function passes: tensors of true shape without memory.

    Args:
        made: dtype, device and requires_grad of the tensors.

    Raises:
        InputError: the options do not fit the operator.
    """
    from fewpairs.errors import InputError
    from fewpairs.ops import inputs, key_only, knn, kv, softmax

    if op == "knn" and topk is None:
        raise InputError("--op knn needs --topk, a number of keys such as 100, or a share of them such as 0.5")
    if op != "knn" and topk is not None:
        raise InputError(f"--topk belongs to knn; {op} weighs every key")
    if keys is not None and op not in ("softmax", "knn"):
        raise InputError(f"--keys belongs to softmax and knn; {op} has no queries beside its keys")
    if keys is not None and not 0 <= keys < 10**9:
        raise InputError(f"--keys {keys} must be a number of keys, 0 or more")
    allowed = {"kv": BIASES, "key_only": ("none", "bool"), "global_key": ("none", "bool")}.get(op, BIASES[:3])
    if bias not in allowed:
        raise InputError(f"--bias {bias} does not fit {op}; allowed: {', '.join(allowed)}")
    (b, h, n, d), m = shape, shape[2] if keys is None else keys
    q, k, v = (broadcast((b, h, length, d), **made) for length in (n, m, m))
    pairs = None
    if bias in ("float", "bool"):
        pairs = broadcast((1, 1, n, m), **(made if bias == "float" else masked(made)))
    if op == "softmax":
        return softmax.KERNELS, (q, k, v), {"bias": pairs, "scale": d**-0.5}
    if op == "knn":
        inputs.heads(inputs.QKV, q, k, v)
        count = knn.effective_topk(topk if topk is not None else 1, m)
        return knn.KERNELS, (q, k, v), {"topk": count, "bias": pairs, "scale": d**-0.5, "metric": "dot"}
    if op == "kv":
        row = broadcast((n,), **made) if bias == "key" else None
        return kv.KERNELS, (k, v), {"gain": None, "key_bias": row, "scale": d**-0.5, "bias": pairs}
    if n == 0:
        raise InputError(f"--op {op} needs one position at least; the third number of --shape is 0")
    mask = broadcast((b, h, n), **masked(made)) if bias == "bool" else None
    options: dict[str, Any] = {"mask": mask, "gate": None}
    if op == "global_key":
        return key_only.GLOBAL_KERNELS, (k, v, broadcast((h, d), **made)), {**options, "scale": d**-0.5}
    return key_only.KERNELS, (k, v, broadcast((h, d), **made)), options


def broadcast(shape: tuple[int, ...], *, requires_grad: bool, **made: Any) -> torch.Tensor:
    """A tensor of `shape` that takes the memory of its last dimension only.

    Raises:
        InputError: no tensor can be that large.
    """
    import math

    import torch

    from fewpairs.errors import InputError

    if math.prod(shape) >= 2**60:
        raise InputError(
            f"a tensor of {' x '.join(map(str, shape))} numbers is beyond any memory; check --shape, --keys"
        )
    return torch.empty(shape[-1], **made).expand(shape).requires_grad_(requires_grad)


def masked(made: dict[str, Any]) -> dict[str, Any]:
    """The options `made` for a boolean tensor."""
    import torch

    return {**made, "dtype": torch.bool, "requires_grad": False}


def library_of(op: str) -> Library | None:
    """The C++ library of an operator, or None."""
    import importlib

    if op not in LIBRARIES:
        return None
    library: Library = importlib.import_module(LIBRARIES[op]).LIBRARY
    return library


def describe(library: Library) -> dict[str, str]:
    """The path of a loaded library and how it was compiled."""
    plan = library.plan()
    return {
        "path": str(library.path),
        "compiler": " ".join([*plan.compiler, *plan.options]),
        "version": plan.version.splitlines()[1],
        "level": plan.level,
    }
