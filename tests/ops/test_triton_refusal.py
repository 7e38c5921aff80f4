"""When Triton's kernels refuse, each in one sentence, and that nothing imports Triton before one of them runs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from fewpairs.ops import kv_attention
from fewpairs.ops.dispatch import KernelRefused
from fewpairs.ops.key_only import triton as key_only
from fewpairs.ops.knn import triton as knn
from fewpairs.ops.kv import triton as kv
from fewpairs.ops.triton import refusal
from fewpairs.ops.triton.refusal import refuse_arguments

pytestmark = pytest.mark.skipif(refusal.INTERPRETED, reason="the interpreter is on")


class OnCuda:
    """What the refusal looks at of a tensor on a GPU."""

    is_cpu, is_cuda, device = False, True, torch.device("cuda")

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = type("Properties", (), {"major": 9})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(refusal, "MISSING", False)


@pytest.mark.usefixtures("hopper", "unchecked")
@pytest.mark.parametrize(
    ("tensors", "widths", "sentence"),
    [
        ((OnCuda(), OnCuda()), (128, 64), None),
        ((OnCuda(torch.bfloat16),), (1,), None),
        ((OnCuda(torch.float64),), (64,), "share one of float32, bfloat16 and float16, not float64"),
        ((OnCuda(), OnCuda(torch.float16)), (64,), "not float16, float32"),
        ((OnCuda(),), (64, 129), "heads are 129 wide, and 128 is the limit"),
        ((torch.zeros(1),), (64,), "not on a CUDA device"),
        ((torch.zeros(1, device="meta"),), (64,), "not on a CUDA device"),
    ],
)
def test_sentences(tensors: Any, widths: tuple[int, ...], sentence: str | None) -> None:
    told = refuse_arguments(tensors, widths)
    assert told is None if sentence is None else sentence in str(told)


@pytest.mark.usefixtures("hopper", "unchecked")
def test_what_is_installed_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors: Any = (OnCuda(),)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Properties", (), {"major": 7}))
    assert "older than compute capability 8.0" in str(refuse_arguments(tensors, (64,)))
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert "NVIDIA" in str(refuse_arguments(tensors, (64,)))
    monkeypatch.setattr(refusal, "MISSING", True)
    assert refuse_arguments(tensors, (64,)) == "Triton is not installed"


def test_operators_have_reasons_of_their_own() -> None:
    x = torch.zeros(1, 1, 3, 4)
    assert "euclidean" in str(knn.refuse_triton(x, x, x, topk=1, bias=None, scale=1.0, metric="euclidean"))
    assert kv.refuse_triton(x[:, :, :0], x[:, :, :0], gain=None, key_bias=None, scale=1.0) == "there are no keys"
    elsewhere = torch.zeros(3, device="meta")
    assert "device of the keys" in str(kv.refuse_triton(x, x, gain=None, key_bias=elsewhere, scale=1.0))
    assert "device of the keys" in str(key_only.refuse_triton(x, x, torch.zeros(1, 4, device="meta")))
    with pytest.raises(KernelRefused, match="kernel 'triton' refuses: the tensors are not on a CUDA device"):
        kv_attention(x, x, kernel="triton")


def test_no_exported_graph_holds_them() -> None:
    class Attend(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            told = knn.refuse_triton(x, x, x, topk=1, bias=None, scale=1.0, metric="dot")
            return x + ("exported" in str(told))

    x = torch.zeros(1, 1, 3, 4)
    assert torch.equal(torch.export.export(Attend(), (x,)).module()(x), x + 1)


def test_triton_is_imported_by_the_first_kernel_alone() -> None:
    code = (
        "import sys, torch; from fewpairs.ops import kv_attention; x = torch.zeros(1, 1, 3, 4); kv_attention(x, x); "
        "loaded = {name.rpartition('.')[2] for name in sys.modules if name.startswith('fewpairs')}; "
        "assert {name for name in loaded if name.startswith('triton_')} == {'triton_shapes'}; "
        "assert 'fewpairs.ops.triton.tiles' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
