"""Every Triton kernel is compiled to machine code for an H100 or H200, which needs no GPU: as it would be launched."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from fewpairs.ops.key_only import triton_launch as key_only  # noqa: E402
from fewpairs.ops.knn import triton_launch as knn  # noqa: E402
from fewpairs.ops.kv import triton_launch as kv  # noqa: E402
from fewpairs.ops.triton.refusal import INTERPRETED  # noqa: E402

pytestmark = pytest.mark.skipif(INTERPRETED, reason="the interpreter is on")

HOPPER = GPUTarget("cuda", 90, 32)
SHARED = 227 * 2**10
"""Bytes of shared memory that a block may have there."""
STACK = 1024
"""Bytes of registers that a thread may spill."""
TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int32: "*i32"}
TYPES |= {torch.uint8: "*u8", torch.float64: "*fp64"}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")

Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path / "triton")
        yield


def launches(module: Any, run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """What `run` would launch."""
    made: list[Launch] = []

    def record(kernel: Any, programs: int, like: Tensor, *args: Any, **options: Any) -> None:
        assert programs > 0
        made.append((kernel, args, {"enable_fp_fusion": True, **options}))

    monkeypatch.setattr(module, "launch", record)
    run()
    return made


def specialised(value: Any) -> tuple[str, Any, bool]:
    """Type, constant and divisibility by 16, as Triton takes an argument."""
    if isinstance(value, Tensor):
        return TYPES[value.dtype], None, True
    if isinstance(value, float):
        return "fp32", None, False
    if value == 1:
        return "constexpr", 1, False
    return "i32", None, value % 16 == 0


def compiled(launch: Launch) -> Any:
    kernel, args, options = launch
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in options:
            signature[name], constants[(place,)] = "constexpr", options[name]
            continue
        kind, constant, divisible = specialised(args[place])
        signature[name] = kind
        if kind == "constexpr":
            constants[(place,)] = constant
        if divisible:
            attributes[(place,)] = [["tt.divisibility", 16]]
    assert set(options) <= {*kernel.arg_names, *OPTIONS}
    assert len(args) + sum(name in options for name in kernel.arg_names) == len(kernel.arg_names)
    settings = {name: options[name] for name in OPTIONS if name in options}
    return triton.compile(ASTSource(kernel, signature, constants, attributes), target=HOPPER, options=settings)


def resources(cubin: bytes, folder: Path) -> tuple[int, int]:
    """Registers and bytes of stack of a thread."""
    (folder / "kernel.cubin").write_bytes(cubin)
    tool = Path(triton.__path__[0]) / "backends/nvidia/bin/cuobjdump"
    told = subprocess.run([tool, "--dump-resource-usage", folder / "kernel.cubin"], capture_output=True, text=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", told.stdout)
    assert found, told.stderr
    return int(found[1]), int(found[2])


def examine(all_launches: list[Launch], folder: Path, *, no_wgmma: tuple[str, ...] = ()) -> None:
    for launch in all_launches:
        kernel = compiled(launch)
        name = launch[0].__name__
        assert kernel.asm["cubin"][:4] == b"\x7fELF"
        registers, stack = resources(kernel.asm["cubin"], folder)
        print(name, launch[2], "registers", registers, "stack", stack, "shared", kernel.metadata.shared)  # noqa: T201
        assert kernel.metadata.shared <= SHARED, name
        assert stack <= STACK, (name, registers, stack)
        if name in no_wgmma:
            assert "wgmma.mma" not in kernel.asm["ptx"], name


def knn_launches(
    dtype: torch.dtype, shape: tuple[int, int, int, int, int], monkeypatch: pytest.MonkeyPatch, bias: str = "none"
) -> list[Launch]:
    b, h, n, m, d = shape
    q, k, v = (torch.empty(b, h, length, d, dtype=dtype) for length in (n, m, m))
    term = {"none": None, "numbers": torch.empty(1, h, n, m, dtype=dtype), "mask": torch.empty(b, 1, n, m).bool()}[bias]

    def run() -> None:
        out, *kept = knn.forward(q, k, v, term, 7, 0.125)
        knn.backward(out, q, k, v, term, out, *kept, 0.125, bias == "numbers")

    return launches(knn, run, monkeypatch)


def kv_launches(dtype: torch.dtype, n: int, d: int, monkeypatch: pytest.MonkeyPatch, *, position: bool) -> list[Launch]:
    k, v = torch.empty(2, 2, 3, n, d, dtype=dtype)
    terms = (torch.empty(3), torch.empty(n), torch.empty(1, 3, n, n)) if position else (None, None, None)

    def run() -> None:
        out, *kept = kv.forward(k, v, *terms, 0.125)
        kv.backward(out, k, v, *terms, out, *kept, 0.125, position)

    return launches(kv, run, monkeypatch)


def key_only_launches(dtype: torch.dtype, n: int, d: int, form: int, monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    k, v = torch.empty(2, 2, 3, n, d, dtype=dtype)
    saliency = [torch.empty(3, d), torch.empty(2, 3, n), torch.empty(2, 3, n, d)][form]
    mask, gate = (torch.ones(2, 3, n).bool(), torch.empty_like(k)) if form else (None, None)

    def run() -> None:
        out, *kept = key_only.forward(k, v, saliency, mask, gate)
        key_only.backward(out, k, v, saliency, mask, gate, *kept)

    return launches(key_only, run, monkeypatch)


SAME_INSTRUCTION = ("select_on_chip", "select_streaming", "mix", "of_queries")


def test_kernels_with_and_without_a_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = torch.bfloat16
    examine(knn_launches(dtype, (2, 3, 49, 49, 32), monkeypatch)[1:2], tmp_path, no_wgmma=("mix",))
    examine(key_only_launches(dtype, 49, 32, 0, monkeypatch)[:1], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("m", [197, 1024, 2048, 4096])
def test_every_kernel_of_knn(dtype: torch.dtype, m: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = knn_launches(dtype, (1, 6, 197, m, 64), monkeypatch)
    examine(made[:1] if m in (1024, 2048) else made, tmp_path, no_wgmma=SAME_INSTRUCTION)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", ["numbers", "mask"])
def test_knn_with_a_bias_and_wide_heads(
    dtype: torch.dtype, bias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A width that is no power of two, and sizes of 1, which Triton turns into constants."""
    d = {"numbers": 96, "mask": 128}[bias]
    examine(knn_launches(dtype, (2, 1, 49, 50, d), monkeypatch, bias), tmp_path, no_wgmma=SAME_INSTRUCTION)
    examine(knn_launches(dtype, (1, 1, 1, 1, 16), monkeypatch, bias), tmp_path, no_wgmma=SAME_INSTRUCTION)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("d", "position"), [(64, False), (64, True), (128, True), (128, False)])
def test_every_kernel_of_kv(
    dtype: torch.dtype, d: int, position: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine(kv_launches(dtype, 197, d, monkeypatch, position=position), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("form", [0, 1, 2])
def test_every_kernel_of_key_only(
    dtype: torch.dtype, form: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine(key_only_launches(dtype, 65536, 64, form, monkeypatch), tmp_path)
    examine(key_only_launches(dtype, 1, 128, form, monkeypatch), tmp_path)
