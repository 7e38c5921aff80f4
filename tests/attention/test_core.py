"""The place where heads are mixed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from fewpairs.attention import VARIANTS, Core, KeyOnly, Variant, has_pairs
from fewpairs.errors import InputError


def roles(variant: Variant, heads: int = 2, n: int = 7, d: int = 8) -> list[torch.Tensor]:
    return [torch.randn(3, heads, n, d) for _ in variant.roles]


PAIRWISE = [name for name in VARIANTS if has_pairs(VARIANTS[name]())]


@pytest.fixture(params=PAIRWISE)
def core(request: pytest.FixtureRequest) -> Core:
    return Core(VARIANTS[request.param](), 2, 8)


def test_explicit_weights_mix_as_the_variant_does(core: Core) -> None:
    tensors = roles(core.variant)
    fused = core(*tensors)
    core.fused_attn = False
    torch.testing.assert_close(core(*tensors), fused, atol=1e-5, rtol=1e-5)


def test_weights_sum_to_one_over_the_keys(core: Core) -> None:
    weights = core.weights(*roles(core.variant)[:-1])
    assert weights.shape == (3, 2, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 7))


def test_dropout_drops_weights_in_training_only(core: Core) -> None:
    dropping = Core(core.variant, 2, 8, dropout=0.5)
    dropping.load_state_dict(core.state_dict())
    tensors = roles(core.variant)
    torch.testing.assert_close(dropping.eval()(*tensors), core(*tensors))
    seen = []
    dropping.attn_drop.register_forward_hook(lambda _m, _args, out: seen.append(out))
    dropping.train()(*tensors)
    dropped = (seen[0] == 0).float().mean()
    assert 0.3 < dropped < 0.9


def test_the_scale_is_the_variants(core: Core) -> None:
    assert core.scale == 8**-0.5
    assert Core(type(core.variant)(scale_by="width"), 2, 8).scale == 16**-0.5


def test_copies_mix_alike(core: Core) -> None:
    tensors = roles(core.variant)
    for other in (copy.deepcopy(core), pickle.loads(pickle.dumps(core))):
        assert torch.equal(other(*tensors), core(*tensors))


def test_without_pairs_there_are_weights_of_positions() -> None:
    core, tensors = Core(KeyOnly(), 2, 8), roles(KeyOnly())
    torch.nn.init.normal_(core.mix.saliency)
    weights = core.saliency(tensors[0])
    assert weights.shape == (3, 2, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2))
    core.fused_attn = False
    with_flag = core(*tensors)
    core.fused_attn = True
    assert torch.equal(with_flag, core(*tensors))
    with pytest.raises(InputError, match=r"Core\.saliency"):
        core.weights(tensors[0])
    with pytest.raises(InputError, match=r"Core\.weights"):
        Core(VARIANTS["kv"](), 2, 8).saliency(tensors[0])
    with pytest.raises(InputError, match="has none over pairs; set it to 0"):
        Core(KeyOnly(), 2, 8, dropout=0.1)
