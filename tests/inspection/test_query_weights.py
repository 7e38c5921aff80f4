"""Weights recomputed from queries and keys against what the attention layer itself computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewpairs.attention import KNN, KV, Core, KVPos, Softmax
from fewpairs.inspection import query_weights
from fewpairs.inspection.measures import dropped_mass, truncate
from fewpairs.inspection.query_weights import measure_queries, weights_in_chunks
from fewpairs.inspection.token_positions import find_positions

B, H, N, M, D = 4, 2, 9, 9, 5


def roles(variant: Any) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(B, H, N, D) for _ in variant.roles)


def joined(core: Core, given: tuple[torch.Tensor, ...], bias: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
    parts = list(weights_in_chunks(core, given, bias))
    keeping = [keep for _, keep in parts if keep is not None]
    return torch.cat([weights for weights, _ in parts], 2), torch.cat(keeping, 2) if keeping else None


BIASES = {
    "none": None,
    "numbers": torch.randn(1, H, N, M, generator=torch.Generator().manual_seed(1)),
    "windows": torch.randn(B, 1, N, M, generator=torch.Generator().manual_seed(2)),
    "mask": (torch.rand(B, 1, N, M, generator=torch.Generator().manual_seed(3)) < 0.7) | torch.eye(N, dtype=torch.bool),
}


@pytest.mark.parametrize("chunk", [1, 300, 2**22])
@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("variant", [Softmax("width"), KNN(4), KNN(0.3, "euclidean"), KNN(100)], ids=str)
def test_weights_are_those_of_the_layer(
    variant: Any, bias: torch.Tensor | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_weights, "CHUNK", chunk)
    core, given = Core(variant, H, D), roles(variant)
    weights, keeping = joined(core, given, bias)
    after = weights if keeping is None else truncate(weights, keeping)
    torch.testing.assert_close(after, core.weights(*given[:-1], bias=bias))
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, N))


@pytest.mark.parametrize("variant", [KV(), KVPos(d_pos=6, init="random")], ids=["kv", "kvpos"])
def test_weights_of_attention_without_queries(variant: Any) -> None:
    core, given = Core(variant, H, D), roles(variant)
    weights, keeping = joined(core, given, None)
    assert keeping is None
    torch.testing.assert_close(weights, core.weights(*given[:-1]))


def test_half_precision_is_measured_in_float32() -> None:
    given = tuple(role.bfloat16() for role in roles(KNN(4)))
    weights, keeping = joined(Core(KNN(4), H, D), given, None)
    assert weights.dtype == torch.float32
    assert (keeping.sum(-1) == 4).all()


def test_numbers_and_chosen_queries_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    core, given = Core(KNN(4), H, D), roles(KNN(4))
    layout = find_positions(B, N, M, (48, 48))
    assert layout is not None
    positions = [layout.position(0.1, 0.9), layout.position(0.7, 0.2), layout.position(0.1, 0.9)]
    whole, drawn = measure_queries(core, given, None, layout, positions)
    monkeypatch.setattr(query_weights, "CHUNK", 2 * B * H * M)
    parts, drawn_in_parts = measure_queries(core, given, None, layout, positions)
    for name in ("entropy", "entropy_kept", "distance", "distance_kept", "dropped"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), msg=name)
    for one, other, position in zip(drawn, drawn_in_parts, positions, strict=True):
        torch.testing.assert_close(one.weights, other.weights)
        assert one.position == position
    weights, keeping = joined(core, given, None)
    torch.testing.assert_close(whole.dropped, dropped_mass(weights, keeping).transpose(0, 1).flatten(1))
    torch.testing.assert_close(drawn[1].weights, weights[positions[1].batch, :, positions[1].token])


def test_distances_need_places() -> None:
    measures, _ = measure_queries(Core(Softmax(), H, D), roles(Softmax()), None, None, [])
    assert measures.distance is None
    assert measures.dropped is None
    assert measures.entropy.shape == (H, B * N)


def test_equal_weights_look_as_far_as_the_grid_is_wide() -> None:
    """On a 1 x 2 grid a query's mean distance is half the step to its neighbour."""
    layout = find_positions(1, 2, 2, (16, 32))
    zeros = torch.zeros(1, 1, 2, D)
    measures, _ = measure_queries(Core(Softmax(), 1, D), (zeros, zeros, zeros), None, layout, [])
    assert measures.distance is not None
    assert measures.distance.tolist() == [[0.5, 0.5]]
