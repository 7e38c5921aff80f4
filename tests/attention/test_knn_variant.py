"""k-NN attention as a variant: its options, its names, and its way into layers and models."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewpairs import KNN, KV, MultiHead, Softmax
from fewpairs.attention import Variant, parse_attention, parse_variant, variants_per_stage
from fewpairs.errors import InputError
from fewpairs.models import create_segmenter
from fewpairs.models.encoders import CvT, CvTStage, ViTConfig, build_vit
from fewpairs.types import Grid

SMALL = (CvTStage(16, 1, 1, 7, 4, 2), CvTStage(32, 2, 2), CvTStage(48, 3, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "topk=0 is out of range"),
        ({"topk": -3}, "topk=-3"),
        ({"topk": 1.5}, "topk=1.5"),
        ({"topk": 0.0}, "topk=0.0"),
        ({"topk": True}, "topk=True is of type bool"),
        ({"topk": float("nan")}, "topk=nan"),
        ({"topk": float("inf")}, "topk=inf"),
        ({"topk": "0.5"}, "topk='0.5' is of type str"),
        ({"metric": "cosine"}, "metric='cosine' is not known; allowed: 'dot', 'euclidean'"),
        ({"scale_by": "heads"}, "allowed: 'head', 'width'"),
    ],
)
def test_wrong_options_are_refused_at_construction(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KNN(**options)


@pytest.mark.parametrize(
    ("spec", "variant"),
    [
        ("knn", KNN()),
        ("KNN", KNN()),
        ("knn100", KNN(topk=100)),
        ({"name": "knn", "topk": 0.25}, KNN(topk=0.25)),
        ({"name": "knn", "topk": 30}, KNN(topk=30)),
        ({"name": "knn100", "metric": "euclidean"}, KNN(topk=100, metric="euclidean")),
    ],
)
def test_names_and_numbers(spec: object, variant: Variant) -> None:
    parsed = parse_variant(spec)
    assert parsed == variant
    assert type(parsed.topk) is type(variant.topk)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "knn", "topk": "a"}, "topk='a' must be of type int or float"),
        ({"name": "knn", "topk": True}, "topk=True must be of type int or float"),
        ({"name": "knn", "topk": 2.0}, "topk=2.0"),
        ("knn0", "topk=0"),
        ({"name": "knn100", "topk": 5}, "in its name and by topk=5"),
        ("kv100", "attention 'kv100' is not known"),
        ({"name": "knn", "top_k": 5}, "has no option 'top_k'; did you mean 'topk'"),
    ],
)
def test_wrong_specifications_are_explained(spec: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_variant(spec)


def test_a_list_of_specifications_is_one_a_stage_or_block() -> None:
    assert parse_attention("knn100") == KNN(topk=100)
    assert parse_attention(["kv", {"name": "knn", "topk": 7}, Softmax()]) == (KV(), KNN(topk=7), Softmax())
    for wrong in ([], None, 5):
        with pytest.raises(InputError, match="or a list with one variant per"):
            parse_attention(wrong)
    with pytest.raises(InputError, match="did you mean 'knn'"):
        parse_attention(["kv", "kknn"])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_spread_covers_every_block_in_order(depths: list[int]) -> None:
    blocks = [KNN(topk=i + 1) for i in range(sum(depths))]
    rows = variants_per_stage(blocks, depths)
    assert [len(row) for row in rows] == depths
    assert [variant for row in rows for variant in row] == blocks
    stages = [KNN(topk=i + 1) for i in range(len(depths))]
    assert variants_per_stage(stages, depths) == [[v] * depth for v, depth in zip(stages, depths, strict=True)]
    assert variants_per_stage(KV(), depths) == [[KV()] * depth for depth in depths]


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ([KNN()] * 4, r"4 variants for a model of stages=3 with depths=\(1, 2, 2\); give one variant, 3 .* or 5"),
        ([], "0 variants"),
        ("knn", "parse_attention"),
        (["knn"] * 3, "holds 'knn', not a variant"),
        (3, "neither a variant nor a sequence"),
    ],
)
def test_what_does_not_spread_is_refused(attention: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        variants_per_stage(attention, (1, 2, 2))


def chosen(model: torch.nn.Module) -> list[Variant]:
    return [module.variant for module in model.modules() if isinstance(module, MultiHead)]


def test_models_take_one_variant_a_stage_or_a_block() -> None:
    stages, blocks = [KNN(topk=4), Softmax(), KV()], [KNN(topk=i + 1) for i in range(5)]
    assert chosen(CvT(SMALL, stages, stride_kv=1)) == [KNN(topk=4), Softmax(), Softmax(), KV(), KV()]
    assert chosen(CvT(SMALL, blocks)) == blocks
    with pytest.raises(InputError, match="2 variants"):
        CvT(SMALL, stages[:2], stride_kv=1)
    config = ViTConfig(width=16, depth=3, heads=2, patch=8)
    assert chosen(build_vit(config, blocks[:3], image_size=(16, 16))) == blocks[:3]
    with pytest.raises(InputError, match="5 variants"):
        build_vit(config, blocks, image_size=(16, 16))


@pytest.mark.parametrize("name", ["setr_pup_small", "setr_mla_small", "conv_setr_cup_small", "cvt_setr_pup_small"])
def test_segmenters_with_knn_attention_learn_in_every_weight(name: str) -> None:
    model = create_segmenter(name, attention=KNN(topk=0.4), classes=2, in_channels=1)
    logits = model(torch.randn(2, 1, 24, 40))
    assert logits.shape == (2, 2, 24, 40)
    logits.square().mean().backward()
    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent


def test_segmenters_take_one_variant_a_stage_or_block() -> None:
    stages = [Softmax(), KNN(topk=20), KNN(topk=0.5)]
    model = create_segmenter("cvt_setr_pup_small", attention=stages, classes=2)
    assert [v for i, v in enumerate(chosen(model)) if i in (0, 1, 3)] == stages
    blocks = [KNN(topk=i + 1) for i in range(6)]
    assert chosen(create_segmenter("setr_pup_small", attention=blocks, classes=2)) == blocks
    assert chosen(create_segmenter("conv_setr_pup_small", attention=blocks, classes=2)) == blocks


def test_strided_keys_are_no_obstacle() -> None:
    """Keys are at stride 2, so the last stage has fewer than the paper's 100, which is clamped: it is dense there."""
    torch.manual_seed(0)
    model = CvT(SMALL, KNN(topk=100), num_classes=3).eval()
    torch.manual_seed(0)
    dense = CvT(SMALL, [KNN(topk=100), Softmax(), Softmax()], num_classes=3).eval()
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model(image), dense(image))


def layer_pair(topk: float) -> tuple[MultiHead, MultiHead]:
    dense, sparse = MultiHead(16, 4, Softmax()), MultiHead(16, 4, KNN(topk=topk))
    sparse.load_state_dict(dense.state_dict())  # the same weights under the same names
    return dense, sparse


def test_all_keys_are_softmax_and_fewer_are_not() -> None:
    x, grid = torch.randn(2, 15, 16), Grid(3, 5)
    for topk in (1.0, 15, 400):
        dense, sparse = layer_pair(topk)
        torch.testing.assert_close(sparse(x, grid), dense(x, grid))
    dense, sparse = layer_pair(14)
    assert (sparse(x, grid) - dense(x, grid)).abs().max() > 1e-4


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("topk", [5, 0.5])
def test_compiled_without_a_graph_break(topk: float) -> None:
    torch.compiler.reset()
    layer, x, grid = MultiHead(16, 4, KNN(topk=topk)), torch.randn(2, 15, 16), Grid(3, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, grid), layer(x, grid))
    compiled(x, grid).square().sum().backward()
    got = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x, grid).square().sum().backward()
    torch.testing.assert_close(got, [p.grad for p in layer.parameters()])


def test_bias_is_added_before_keys_are_chosen() -> None:
    def far_keys(grid: Grid) -> Tensor:
        bias = torch.zeros(4, grid.tokens, grid.tokens)
        bias[..., :3] = 1e4
        return bias

    layer, x, grid = MultiHead(16, 4, KNN(topk=3), bias=far_keys), torch.randn(1, 15, 16), Grid(3, 5)
    moved = x.clone()
    moved[:, 3:] = torch.randn(1, 12, 16)
    torch.testing.assert_close(layer(x, grid)[:, :3], layer(moved, grid)[:, :3])


def test_weights_of_the_core_sum_to_one_over_the_keys_kept() -> None:
    layer, x, grid = MultiHead(16, 4, KNN(topk=5)), torch.randn(2, 15, 16), Grid(3, 5)
    q, k, _ = layer.project(x, grid)
    weights = layer.core.weights(q, k)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 15))
    assert ((weights > 0).sum(-1) == 5).all()


def test_cost_is_that_of_the_dense_products() -> None:
    assert KNN(topk=3).terms(10, 20, 2, 8) == Softmax().terms(10, 20, 2, 8)
