"""What the tests of several families do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttentionV2

from fewpairs import KNN, MultiHead, swap_attention
from fewpairs.attention import ConvProjection, LinearProjection

ALL = KNN(topk=10_000)


def swapped(model: nn.Module, variant: Any = ALL, **options: Any) -> nn.Module:
    """A copy of the model with the variant in it."""
    model = copy.deepcopy(model)
    swap_attention(model, variant, **options)
    return model


def same(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    assert wanted.abs().max() > 0.1, "the model says nothing, so nothing is compared"
    return bool(torch.allclose(got, wanted, atol=tolerance, rtol=tolerance))


def alike(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether outputs differ by no more than a part of their largest value."""
    got, wanted = got.detach(), wanted.detach()
    assert wanted.abs().max() > 0.1, "the model says nothing, so nothing is compared"
    return bool((got - wanted).abs().max() <= tolerance * max(1.0, float(wanted.abs().max())))


def trained(model: nn.Module, image: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Output of the model in training mode, and what it gives each parameter."""
    model.train()
    torch.manual_seed(seed)
    output = model(image)
    output.square().mean().backward()
    return output, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def gradients_agree(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Asserts that the same parameters have gradients, equal up to a part of the largest of all."""
    assert got.keys() == wanted.keys()
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert torch.allclose(got[name], gradient, atol=tolerance * max(1, largest), rtol=1e-4), name


def rounds_like_the_original(model: nn.Module, image: Tensor) -> None:
    """Asserts that autocast errs with all keys kept by no more than twice what it errs in the original."""
    with torch.no_grad():
        exact = model(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            wanted, got = model(image), swapped(model)(image)
    rounding = (wanted.float() - exact).abs().max()
    assert got.dtype == wanted.dtype
    assert (got.float() - exact).abs().max() <= 2 * rounding


def goes_to_and_fro(model: nn.Module, image: Tensor) -> None:
    """Asserts that copies and pickles of a swapped model are it, and that the original's checkpoint is its own."""
    replaced = swapped(model, KNN(topk=3))
    assert list(replaced.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        wanted = replaced(image)
        assert torch.equal(copy.deepcopy(replaced)(image), wanted)
        other = pickle.loads(pickle.dumps(replaced))
        assert torch.equal(other(image), wanted)
        for parameter in other.parameters():
            parameter.zero_()
        assert not torch.equal(other(image), wanted)
        other.load_state_dict(model.state_dict(), strict=True)
        assert torch.equal(other(image), wanted)


def swaps_again_and_undoes(model: nn.Module, image: Tensor) -> None:
    """Asserts that softmax, then KV is KV, and that undoing both gives the original back to the bit."""
    direct = swapped(model, "kv")
    with torch.no_grad():
        before = model(image)
        first = swap_attention(model, "softmax")
        second = swap_attention(model, "kv")
        assert alike(model(image), direct(image))
        second.undo()
        first.undo()
        assert torch.equal(model(image), before)


def keeps_rows(before: dict[str, Tensor], after: dict[str, Tensor], key_map: Mapping[str, str | None]) -> None:
    """Asserts that every weight that stays is the last rows of what it was."""
    for old, new in key_map.items():
        if new is not None:
            rows = len(after[new]) if after[new].ndim else 1
            assert torch.equal(after[new].reshape(rows, -1), before[old].reshape(len(before[old]), -1)[-rows:]), old


def compiles_like_eager(model: nn.Module, image: Tensor) -> bool:
    """Whether the compiled model, one graph, answers as the model. Call it without the tests' checks of shapes."""
    torch.compiler.reset()
    with torch.no_grad():
        wanted = model(image)
        return same(torch.compile(model, backend="eager", fullgraph=True)(image), wanted)


PACKED = {"qkv": 3, "qk": 2}
"""Maps for several roles at once, queries first."""


def tie(model: nn.Module, names: Iterable[str]) -> None:
    """Give the queries of these layers the weights of their keys, however the layer holds them."""
    with torch.no_grad():
        for layer in map(model.get_submodule, names):
            packed = [(p, roles) for name, roles in PACKED.items() for p in _parameters(layer, name)]
            if (width := _key_width(layer)) is not None:
                for parameter, _ in packed:
                    heads = parameter.unflatten(0, (layer.num_heads, -1))
                    heads[:, :width] = heads[:, width : 2 * width]
                packed = []
            if isinstance(getattr(layer, "in_proj_weight", None), nn.Parameter):  # PyTorch's, and open_clip's
                packed += [(p, 3) for p in (layer.in_proj_weight, layer.in_proj_bias) if p is not None]
            elif isinstance(layer, MultiHead) and isinstance(layer.project, LinearProjection):
                packed += [(p, 3) for p in layer.project.linear.parameters()]
            for parameter, roles in packed:
                rows = len(parameter) // roles
                parameter[:rows] = parameter[rows : 2 * rows]
            for query, key in (
                ("q_proj", "k_proj"),
                ("query", "key"),
                ("to_q", "to_k"),
                ("q_norm", "k_norm"),
                ("ln_q", "ln_k"),
                ("q", "k"),
                ("pool_q", "pool_k"),
                ("norm_q", "norm_k"),
            ):
                if isinstance(getattr(layer, query, None), nn.Module) and hasattr(layer, key):
                    _copy(getattr(layer, query), getattr(layer, key))
            if isinstance(layer, nn.MultiheadAttention) and layer.q_proj_weight is not None:
                layer.q_proj_weight.copy_(layer.k_proj_weight)
            for mine, both in zip(_parameters(layer, "q"), _parameters(layer, "kv"), strict=False):
                mine.copy_(both[: len(mine)])
            if isinstance(layer, MultiHead) and isinstance(layer.project, ConvProjection):
                for part in (layer.project.conv, layer.project.norm, layer.project.linear):
                    part["q"].load_state_dict(part["k"].state_dict())
            if isinstance(getattr(layer, "q_bias", None), nn.Parameter):
                layer.q_bias.zero_()
            if isinstance(layer, ShiftedWindowAttentionV2):  # its keys have no bias, whatever stands in its place
                layer.qkv.bias[: len(layer.qkv.bias) // 3] = 0


def are_rows_of(few: Tensor, many: Tensor) -> bool:
    """Whether the first tensor has rows of the second, in their order."""
    rows = iter(many)
    return all(any(torch.equal(row, other) for other in rows) for row in few)


def _key_width(layer: Any) -> int | None:
    """The width of a head's keys, if the roles of each head stand together in the projection `qkv`."""
    if getattr(layer, "head_first", False):
        return layer.dim_head
    return getattr(layer, "key_dim", None)


def _parameters(layer: nn.Module, name: str) -> list[nn.Parameter]:
    part = getattr(layer, name, None)
    return list(part.parameters()) if isinstance(part, nn.Module) else []


def _copy(query: nn.Module, key: nn.Module) -> None:
    for name, parameter in query.named_parameters():
        its = getattr(key, name)
        parameter.copy_(torch.zeros_like(parameter) if its is None else its)
