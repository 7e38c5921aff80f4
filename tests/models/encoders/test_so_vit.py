"""So-ViT, its second-order pooling, and its name in timm's registry."""

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.attention import KNN, KV, Softmax
from fewpairs.errors import InputError
from fewpairs.models.encoders.so_vit import SecondOrderPool, SingularPower, SoViT
from fewpairs.models.encoders.token_vit import Trunk
from fewpairs.types import Grid

TINY = Trunk(width=16, depth=2, heads=4, mlp_ratio=2.0)


def tiny(attention=None, **options):
    return SoViT(TINY, attention or Softmax(), **{"img_size": 32, "num_classes": 5, "covariance": (6, 4), **options})


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (50, 37)])
@pytest.mark.parametrize("attention", [Softmax(), KNN(0.5), KV()])
def test_any_size(size, attention):
    model = tiny(attention).eval()
    image = torch.randn(2, 3, *size)
    tokens, grid = model.patch_embed(image)
    assert grid == model.patch_embed.grid(size) == Grid(-(-size[0] // 16), -(-size[1] // 16))
    assert tokens.shape == (2, grid.tokens, 16)
    assert model(image).shape == (2, 5)


def test_every_weight_learns():
    model = tiny(KNN(0.5)).train()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_keeping_every_key_is_softmax():
    dense, sparse = tiny().eval(), tiny(KNN(1.0)).eval()
    sparse.load_state_dict(dense.state_dict())
    image = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(sparse(image), dense(image), atol=1e-5, rtol=1e-4)


def root_of_singular_values(matrix):
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ torch.diag_embed(s.sqrt()) @ v


def test_power_is_exact_for_rank_one():
    matrix = torch.randn(3, 6, 1, dtype=torch.float64) @ torch.randn(3, 1, 4, dtype=torch.float64)
    result = SingularPower(4)(matrix)
    torch.testing.assert_close(result, root_of_singular_values(matrix).float(), atol=1e-4, rtol=1e-4)


def test_power_finds_the_largest_singular_value_with_steps_enough():
    """The rest of the matrix is divided by the root of the largest: section 4.2 of the paper, by an exact SVD."""
    matrix = torch.randn(5, 6, 4)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    first = s[:, :1]
    powered = torch.cat([first.sqrt(), s[:, 1:] / first.sqrt()], dim=1)
    expected = u @ torch.diag_embed(powered) @ v
    torch.testing.assert_close(SingularPower(4, steps=300)(matrix), expected, atol=1e-3, rtol=1e-3)


@given(st.floats(0.01, 100), st.integers(1, 5), st.integers(1, 5))
def test_power_scales_as_a_power_and_stays_finite(factor, rows, columns):
    torch.manual_seed(rows)
    normalise, matrix = SingularPower(columns), torch.randn(2, rows, columns)
    scaled = normalise(factor * matrix)
    assert scaled.isfinite().all()
    torch.testing.assert_close(scaled, factor**0.5 * normalise(matrix), atol=0.02 * (1 + factor), rtol=0.02)


def test_tokens_that_are_all_alike_have_no_covariance_and_finite_gradients():
    pool = SecondOrderPool(8, 6, 4)
    tokens = torch.ones(2, 9, 8, requires_grad=True)
    features = pool(tokens)
    features.sum().backward()
    assert features.abs().max() < 1e-2
    assert tokens.grad.isfinite().all()


def test_covariance_ignores_order_and_offset_of_tokens():
    pool, tokens = SecondOrderPool(8, 6, 4), torch.randn(2, 9, 8)
    expected = pool(tokens)
    torch.testing.assert_close(pool(tokens[:, torch.randperm(9)] + torch.randn(8)), expected, atol=1e-4, rtol=1e-3)


def test_head_joins_class_token_and_covariance():
    model, image = tiny().eval(), torch.randn(2, 3, 48, 48)
    features = model.forward_features(image)
    joined = model.forward_head(features, pre_logits=True)
    assert joined.shape == (2, 16 + 6 * 4)
    assert torch.equal(joined[:, :16], features[:, 0])
    torch.testing.assert_close(joined[:, 16:], model.second_order(features[:, 1:]))
    model.reset_classifier(3)
    assert model(image).shape == (2, 3)
    model.reset_classifier(0)
    assert model(image).shape == (2, model.head_hidden_size)
    with pytest.raises(InputError, match=r"token\+covariance"):
        model.reset_classifier(3, "avg")


def test_autocast_keeps_the_normalisation_in_full_precision():
    model, image = tiny().eval(), torch.randn(2, 3, 48, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(image)
        assert model.second_order(torch.randn(2, 9, 16)).dtype == torch.float32
    assert logits.isfinite().all()


class TestTimm:
    def create(self, **options):
        with torch.device("meta"):
            return timm.create_model("so_vit_7", **options)

    def test_arguments_reach_the_model(self):
        model = self.create(num_classes=7, in_chans=2, attention={"name": "knn", "topk": 0.25})
        assert model(torch.empty(2, 2, 64, 96, device="meta")).shape == (2, 7)
        assert model.blocks[6].attn.core.variant == KNN(0.25)

    def test_features_only(self):
        model = self.create(features_only=True)
        assert (model.feature_info.channels(), model.feature_info.reduction()) == ([256], [16])
        assert [x.shape for x in model(torch.empty(1, 3, 64, 96, device="meta"))] == [(1, 256, 4, 6)]
