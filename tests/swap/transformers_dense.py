"""Tiny models of transformers that find, segment and see videos, with weights that make attention matter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Size = tuple[int, int]
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_queries": 6,
}
SWIN = {"patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}


def detr(size: Size, drop: float, **more: Any) -> nn.Module:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = transformers.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, backbone=None, num_labels=4, dropout=drop, **DETR, **more
    )
    return transformers.DetrForObjectDetection(config)


def maskformer(size: Size, drop: float, **more: Any) -> nn.Module:
    stages = {**SWIN, "depths": [2, 1, 1, 1], "num_heads": [2, 2, 4, 4]}
    backbone = transformers.SwinConfig(image_size=size[0], drop_path_rate=drop, **stages)
    decoder = transformers.DetrConfig(use_timm_backbone=False, backbone=None, dropout=drop, **DETR)
    config = transformers.MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=4,
        **more,
    )
    return transformers.MaskFormerForInstanceSegmentation(config)


def eomt(size: Size, drop: float, **more: Any) -> nn.Module:
    config = transformers.EomtConfig(
        **TINY, image_size=size[0], patch_size=8, num_blocks=1, num_queries=5, num_labels=4, drop_path_rate=drop, **more
    )
    return transformers.EomtForUniversalSegmentation(config)


def videomae(size: Size, drop: float, **more: Any) -> nn.Module:
    config = transformers.VideoMAEConfig(
        **TINY,
        intermediate_size=48,
        image_size=size[0],
        patch_size=8,
        num_frames=4,
        num_labels=4,
        hidden_dropout_prob=drop,
        **more,
    )
    return transformers.VideoMAEForVideoClassification(config)


def sam(size: Size, drop: float, **more: Any) -> nn.Module:
    vision = {
        **TINY,
        "output_channels": 16,
        "image_size": size[0],
        "patch_size": 8,
        "window_size": 3,
        "global_attn_indexes": [1],
        "mlp_dim": 48,
        "num_pos_feats": 8,
        "initializer_range": 0.02,
        "attention_dropout": drop,
    }
    prompt = {"hidden_size": 16, "image_size": size[0], "patch_size": 8, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 24, "iou_head_hidden_dim": 16}
    config = transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder, **more
    )
    return transformers.SamModel(config)


def swinv2(size: Size, drop: float, **more: Any) -> nn.Module:
    config = transformers.Swinv2Config(image_size=32, num_labels=4, drop_path_rate=drop, **SWIN, **more)
    return transformers.Swinv2ForImageClassification(config)


FAMILIES: dict[str, tuple[Callable[..., nn.Module], tuple[Size, Size]]] = {
    "detr": (detr, ((64, 64), (64, 96))),
    "maskformer": (maskformer, ((64, 64), (64, 96))),
    "eomt": (eomt, ((32, 32), (48, 48))),
    "videomae": (videomae, ((16, 16), (24, 24))),
    "sam": (sam, ((40, 40), (64, 64))),
    "swinv2": (swinv2, ((32, 32), (40, 36))),
}


class Answers(nn.Module):
    """A model of transformers as a function of the image alone, `[b 3 H W]` -> all its logits side by side."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        found = self.model(**self.inputs(image))
        names = ("logits", "pred_boxes", "class_queries_logits", "masks_queries_logits", "iou_scores", "pred_masks")
        return torch.cat([found[name].flatten(1) for name in names if name in found], dim=1)

    def inputs(self, image: Tensor) -> dict[str, Any]:
        """What the model is called with."""
        if isinstance(self.model, transformers.VideoMAEForVideoClassification):
            return {"pixel_values": torch.stack([image, image.flip(3), image.flip(2), -image], dim=1)}
        if isinstance(self.model, transformers.SamModel):
            return {"pixel_values": image, "input_points": torch.tensor([[[[5.0, 9.0], [20.0, 30.0]]]] * len(image))}
        return {"pixel_values": image}


@lru_cache
def _tiny(family: str, which: int, drop: float, implementation: str | None) -> tuple[Answers, Tensor]:
    build, sizes = FAMILIES[family]
    torch.manual_seed(1)
    more = {} if implementation is None else {"attn_implementation": implementation}
    model = Answers(build(sizes[which], drop, **more)).eval()
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, *sizes[which], generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            if "logit_scale" not in name:
                parameter.copy_(noise / fan_in**0.5 if fan_in > 1 else parameter.sign() + 0.3 * noise)
    return model, image


def tiny(
    family: str, which: int = 0, *, drop: float = 0.0, implementation: str | None = None
) -> tuple[Answers, Tensor]:
    """A model of the family for its first or second size, in evaluation mode, and two images for it."""
    return copy.deepcopy(_tiny(family, which, drop, implementation))
