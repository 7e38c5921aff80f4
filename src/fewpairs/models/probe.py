"""Linear evaluation: one layer trained on the features of a frozen encoder."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from fewpairs.errors import InputError


class LinearProbe(nn.Module):
    """Frozen encoder -> linear classifier, as DINO (arXiv 2104.14294) and others score self-supervised features.

    The encoder stays in evaluation mode and gets no gradient, so only `head` is trained.

    Args:
        encoder: a timm model; its classifier is removed.
        blocks: number of last blocks whose class tokens, each after the final norm, are concatenated (4 for a ViT-S in
            DINO's tables, 1 for a ViT-B); without a class token, the means of the tokens. 1 takes the encoder's own
            features, for any architecture.

    Raises:
        InputError: there are fewer than two classes, or the encoder does not have `blocks` blocks of equal width.
    """

    def __init__(self, encoder: nn.Module, classes: int, *, blocks: int = 1) -> None:
        super().__init__()
        if classes < 2:
            raise InputError(f"classes={classes}: a classifier needs at least two")
        depth = _equal_blocks(encoder)
        if blocks < 1 or (blocks > 1 and blocks > depth):
            allowed = f"1 to {depth}" if depth else "only 1, because its blocks differ in width"
            raise InputError(f"blocks={blocks}: {type(encoder).__name__} allows {allowed}")
        encoder.reset_classifier(0)  # type: ignore[operator]  # timm's interface
        self.encoder = encoder.requires_grad_(False).eval()
        self.blocks = blocks
        self.head = nn.Linear(blocks * int(encoder.num_features), classes)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """`[b c H W]` -> logits `[b classes]`."""
        with torch.no_grad():
            features = self.features(image)
        logits: Tensor = self.head(features)
        return logits

    def features(self, image: Tensor) -> Tensor:
        """`[b c H W]` -> `[b blocks*c]`."""
        if self.blocks == 1:
            features: Tensor = self.encoder(image)
            return features
        encoder: Any = self.encoder
        options = {"indices": self.blocks, "norm": True, "output_fmt": "NLC", "intermediates_only": True}
        if encoder.num_prefix_tokens:
            layers = encoder.forward_intermediates(image, return_prefix_tokens=True, **options)
            return torch.cat([prefix[:, 0] for _, prefix in layers], dim=-1)
        return torch.cat([tokens.mean(dim=1) for tokens in encoder.forward_intermediates(image, **options)], dim=-1)


def _equal_blocks(encoder: nn.Module) -> int:
    """Return the number of blocks if all have one width; 0 for architectures with stages."""
    blocks = getattr(encoder, "blocks", None)
    plain = isinstance(blocks, nn.Module) and hasattr(encoder, "num_prefix_tokens")
    return len(blocks) if plain and hasattr(encoder, "forward_intermediates") else 0  # type: ignore[arg-type]
