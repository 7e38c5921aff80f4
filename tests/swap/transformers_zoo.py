"""One tiny model of each family of transformers that can be swapped, with weights that make attention matter."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import transformers
from einops import rearrange
from torch import Tensor, nn

Size = tuple[int, int]


class Family(NamedTuple):
    """How a tiny model is built, and called at its second size."""

    model: str
    config: str
    options: dict[str, Any]
    sizes: tuple[Size, Size] = ((32, 32), (48, 40))
    call: dict[str, Any] = {}  # noqa: RUF012  (nobody writes to it)
    drop: str | None = "hidden_dropout_prob"
    """The option under which it drops, in training, something else than attention weights."""


VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
LABELS = {"num_labels": 5}
RESIZED = {"interpolate_pos_encoding": True}
FAMILIES: dict[str, Family] = {
    "vit": Family("ViTForImageClassification", "ViTConfig", VIT | LABELS, call=RESIZED),
    "deit": Family("DeiTForImageClassification", "DeiTConfig", VIT | LABELS, call=RESIZED),
    "dinov2": Family("Dinov2ForImageClassification", "Dinov2Config", VIT | LABELS, drop="drop_path_rate"),
    "dinov2-registers": Family(
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        VIT | LABELS | {"num_register_tokens": 2},
        drop="drop_path_rate",
    ),
    "dinov3": Family("DINOv3ViTModel", "DINOv3ViTConfig", VIT | {"num_register_tokens": 2}, drop="drop_path_rate"),
    "ijepa": Family("IJepaForImageClassification", "IJepaConfig", VIT | LABELS, call=RESIZED),
    "vit-msn": Family("ViTMSNForImageClassification", "ViTMSNConfig", VIT | LABELS, call=RESIZED),
    "vit-mae": Family("ViTMAEModel", "ViTMAEConfig", VIT | {"mask_ratio": 0.0}, call=RESIZED),
    "beit": Family(
        "BeitForImageClassification",
        "BeitConfig",
        VIT | LABELS | {"use_relative_position_bias": True, "layer_scale_init_value": 0.5},
        call=RESIZED,
        drop="drop_path_rate",
    ),
    "swin": Family(
        "SwinForImageClassification",
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
        | LABELS,
        ((32, 32), (40, 36)),
        drop="drop_path_rate",
    ),
    "segformer": Family(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {
            "num_encoder_blocks": 2,
            "depths": [1, 1],
            "sr_ratios": [2, 1],
            "hidden_sizes": [16, 32],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "num_attention_heads": [2, 4],
            "mlp_ratios": [2, 2],
            "decoder_hidden_size": 16,
        }
        | LABELS,
        drop="drop_path_rate",
    ),
    "dpt": Family("DPTModel", "DPTConfig", VIT | {"is_hybrid": False}),
    "yolos": Family("YolosModel", "YolosConfig", VIT | {"image_size": [32, 32], "num_detection_tokens": 3}),
    "clip": Family("CLIPVisionModel", "CLIPVisionConfig", VIT, call=RESIZED, drop=None),
    "siglip": Family("SiglipVisionModel", "SiglipVisionConfig", VIT, call=RESIZED, drop=None),
    "siglip2": Family("Siglip2VisionModel", "Siglip2VisionConfig", VIT, drop=None),
}


class Answers(nn.Module):
    """A model of transformers as a function of the image alone: `[b 3 H W]` -> logits, or the last hidden state."""

    def __init__(self, model: nn.Module, call: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, image: Tensor) -> Tensor:
        output = self.model(**self.inputs(image))
        return output.logits if "logits" in output else output.last_hidden_state

    def inputs(self, image: Tensor) -> dict[str, Any]:
        """What the model is called with."""
        return {"pixel_values": image, **self.call}


class PatchAnswers(Answers):
    """The same for SigLIP 2, which takes patches of 8x8 pixels, the first of them padding here."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image)[:, 1:]

    def inputs(self, image: Tensor) -> dict[str, Any]:
        patches = rearrange(image, "b c (h y) (w x) -> b (h w) (y x c)", y=8, x=8)
        shape = torch.tensor([[image.shape[2] // 8, image.shape[3] // 8]]).expand(len(image), -1)
        there = torch.ones(patches.shape[:2], dtype=torch.long).index_fill(1, torch.tensor(0), 0)
        return {"pixel_values": patches, "pixel_attention_mask": there, "spatial_shapes": shape}


class UnmaskedAnswers(Answers):
    """The same for ViT-MAE, which hides and shuffles patches by chance if it is not told how."""

    def inputs(self, image: Tensor) -> dict[str, Any]:
        patches = image.shape[2] // 8 * (image.shape[3] // 8)
        return {**super().inputs(image), "noise": torch.linspace(0, 1, patches).expand(len(image), -1)}


KINDS = {"siglip2": PatchAnswers, "vit-mae": UnmaskedAnswers}


@lru_cache
def _tiny(family: str, which: int, drop: float, implementation: str | None) -> tuple[Answers, Tensor]:
    model, config, options, sizes, call, dropped = FAMILIES[family]
    more = {dropped: drop} if dropped else {}
    if implementation is not None:
        more["attn_implementation"] = implementation
    built = getattr(transformers, model)(getattr(transformers, config)(**options, **more)).eval()
    answers = KINDS.get(family, Answers)(built, call if which else {})
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, *sizes[which], generator=generator)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            parameter.copy_(1.5 * noise / fan_in**0.5 if fan_in > 1 else parameter.sign() + 0.3 * noise)
            if name.startswith(("classifier", "decode_head.classifier")) and fan_in:
                parameter.div_(3)
    return answers, image


def tiny(
    family: str, which: int = 0, *, drop: float = 0.0, implementation: str | None = None
) -> tuple[Answers, Tensor]:
    """A model of the family, to be called with its first or second size, in evaluation mode, and two images for it."""
    return copy.deepcopy(_tiny(family, which, drop, implementation))
