"""A layer's kernel may be named, at the swap or later."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from timm_zoo import tiny
from torch import Tensor, nn

from fewpairs import KNN, KVPos, swap_attention
from fewpairs.attention import VARIANTS, Core, KeyOnly, Variant, kernel_names, use_kernel
from fewpairs.cost import cost_breakdown
from fewpairs.errors import InputError
from fewpairs.models import create_segmenter
from fewpairs.ops import dispatch

VARIANT = pytest.mark.parametrize("variant", [make() for make in VARIANTS.values()] + [KeyOnly("R2")], ids=str)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that ran since."""
    names: list[str] = []
    choose = dispatch.choose

    def noting(*args: object, **options: object) -> dispatch.Kernel:
        kernel = choose(*args, **options)  # type: ignore[arg-type]
        names.append(kernel.name)
        return kernel

    for operator in ("softmax", "kv", "knn", "key_only"):
        monkeypatch.setattr(f"fewpairs.ops.{operator}.choose", noting)
    return names


@VARIANT
@pytest.mark.usefixtures("uncounted")
def test_a_swapped_model_computes_with_the_kernel_that_it_names(variant: Variant, ran: list[str]) -> None:
    model, image = tiny("vit")
    free = copy.deepcopy(model)
    swap_attention(free, variant)
    receipt = swap_attention(model, variant, kernel="reference")
    model.load_state_dict(free.state_dict())
    wanted = free(image)
    ran.clear()
    torch.testing.assert_close(model(image), wanted, atol=1e-5, rtol=1e-5)
    assert ran == ["reference"] * 2
    assert receipt.kernel == receipt.to_dict()["kernel"] == "reference"
    assert "kernel: reference" in str(receipt)
    ran.clear()
    pickle.loads(pickle.dumps(copy.deepcopy(model)))(image)
    assert ran == ["reference"] * 2
    assert use_kernel(model, None) == 2
    ran.clear()
    model(image)
    assert "reference" not in ran


@pytest.mark.usefixtures("uncounted")
def test_explicit_weights_come_from_the_named_kernel_too(ran: list[str]) -> None:
    model, image = tiny("vit")
    swap_attention(model, KNN(4), kernel="masked")
    model.blocks[0].attn.fused_attn = False
    model(image)
    assert ran == ["masked"] * 2


@VARIANT
def test_every_variant_names_the_reference_and_no_kernel_of_others(variant: Variant) -> None:
    assert "reference" in kernel_names(variant)
    core = Core(variant, 2, 8)
    with pytest.raises(InputError, match="kernel='mosaic' does not exist for"):
        core.kernel = "mosaic"
    assert core.kernel is None


def test_a_kernel_that_a_variant_lacks_changes_nothing() -> None:
    model, _ = tiny("vit")
    kept = list(model.modules())
    with pytest.raises(InputError, match="kernel='bounded' does not exist for KV"):
        swap_attention(model, ["knn", "kv"], kernel="bounded")
    assert list(model.modules()) == kept
    with pytest.raises(InputError, match="swap first"):
        use_kernel(model, "reference")


def test_a_variant_of_ones_own_need_not_know_kernels() -> None:
    class Own(KNN):
        kernels = ()

        def build(self, heads: int, dim_head: int):  # type: ignore[no-untyped-def]
            return lambda _q, _k, v: v

    core, v = Core(Own(), 2, 8), torch.randn(1, 2, 3, 8)
    assert torch.equal(core(v, v, v), v)
    with pytest.raises(InputError, match="declares no kernels to choose from; leave kernel=None"):
        core.kernel = "reference"


@pytest.mark.parametrize("kernel", ["native", "bounded"])
def test_costs_are_counted_whatever_the_kernel_is(kernel: str) -> None:
    model, image = tiny("vit")
    receipt = swap_attention(model, KNN(4), kernel=kernel)
    assert receipt.macs_after is not None
    assert cost_breakdown(model, tuple(image.shape[-2:])).macs == receipt.macs_after
    assert [core.kernel for core in cores(model)] == [kernel] * 2


def test_fewpairs_own_models_take_a_kernel(ran: list[str]) -> None:
    model = create_segmenter("setr_pup_small", attention=KVPos(), classes=2, in_channels=1).eval()
    count = use_kernel(model, "reference")
    image = torch.randn(1, 1, 32, 32)
    assert ask(model, image, ran) == ["reference"] * count
    assert count == len(cores(model)) == 6


def ask(model: nn.Module, image: Tensor, ran: list[str]) -> list[str]:
    ran.clear()
    with torch.no_grad():
        model(image)
    return ran


def cores(model: nn.Module) -> list[Core]:
    return [module for module in model.modules() if isinstance(module, Core)]
