"""Linear evaluation trains a layer and leaves the encoder alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from fewpairs.errors import InputError
from fewpairs.models.probe import LinearProbe


def vit(**options: object) -> VisionTransformer:
    settings = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 3, "num_heads": 3, "num_classes": 10}
    return VisionTransformer(**{**settings, "drop_path_rate": 0.5, "proj_drop_rate": 0.5, **options})


def swin() -> SwinTransformer:
    return SwinTransformer(img_size=32, embed_dim=12, depths=(1, 1), num_heads=(1, 2), window_size=4)


IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_only_the_layer_learns() -> None:
    probe = LinearProbe(vit(), 4, blocks=2).train()
    before = {name: value.clone() for name, value in probe.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in probe.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(probe(IMAGE), torch.tensor([0, 0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    changed = {name for name, value in probe.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}
    assert not probe.encoder.training
    assert probe.head.training


def test_features_do_not_depend_on_the_mode() -> None:
    probe = LinearProbe(vit(), 4)
    assert torch.equal(probe.train().features(IMAGE), probe.eval().features(IMAGE))


def test_class_tokens_of_the_last_blocks_are_put_side_by_side() -> None:
    encoder = vit().eval()
    x = encoder.patch_embed(IMAGE)
    x = encoder.norm_pre(encoder.patch_drop(encoder._pos_embed(x)))
    expected = []
    for block in encoder.blocks:
        x = block(x)
        expected.append(encoder.norm(x)[:, 0])
    probe = LinearProbe(encoder, 4, blocks=2)
    torch.testing.assert_close(probe.features(IMAGE), torch.cat(expected[-2:], dim=-1))
    assert probe.head.in_features == 24
    torch.testing.assert_close(LinearProbe(encoder, 4).features(IMAGE), expected[-1])


def test_without_a_class_token_tokens_are_averaged() -> None:
    encoder = vit(class_token=False, global_pool="avg", fc_norm=False).eval()
    probe = LinearProbe(encoder, 4, blocks=3)
    tokens = encoder.forward_features(IMAGE)
    torch.testing.assert_close(probe.features(IMAGE)[:, 24:], tokens.mean(dim=1))


def test_models_in_stages_give_their_last_features() -> None:
    assert LinearProbe(swin(), 3)(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="classes=1"):
        LinearProbe(vit(), 1)
    with pytest.raises(InputError, match="blocks=0: VisionTransformer allows 1 to 3"):
        LinearProbe(vit(), 4, blocks=0)
    with pytest.raises(InputError, match="blocks=4: VisionTransformer allows 1 to 3"):
        LinearProbe(vit(), 4, blocks=4)
    with pytest.raises(InputError, match="SwinTransformer allows only 1"):
        LinearProbe(swin(), 3, blocks=2)
