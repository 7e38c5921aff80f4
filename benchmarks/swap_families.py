"""The families of the swap table: the tiny models that the tests have of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from fewpairs import Softmax
from fewpairs.models.encoders import CvT, CvTStage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "swap"))
import libraries_zoo
import timm_zoo
import torchvision_zoo
import transformers_dense
import transformers_zoo
from swapping import are_rows_of, tie

Model = Callable[[int], tuple[nn.Module, Tensor]]
"""The tiny model of a family for its first (0) or second (1) image size, and images."""


def families() -> Iterator[tuple[str, str, Model]]:
    """Library, family and its models."""
    for name in timm_zoo.FAMILIES:
        yield "timm", name, lambda which, name=name: timm_zoo.tiny(name, which)
    for name in transformers_zoo.FAMILIES:
        yield "transformers", name, lambda which, name=name: transformers_zoo.tiny(name, which)
    for name in transformers_dense.FAMILIES:
        yield "transformers", name, lambda which, name=name: scaled(*transformers_dense.tiny(name, which))
    for name in libraries_zoo.FAMILIES:
        library = {"monai": "MONAI", "smp": "segmentation_models_pytorch", "clip": "open_clip"}[name.split("-")[0]]
        yield library, name, lambda which, name=name: scaled(*libraries_zoo.tiny(name, which))
    for name in torchvision_zoo.FAMILIES:
        yield "torchvision", name, lambda which, name=name: torchvision_zoo.tiny(name, which)
    yield "torch", "nn.TransformerEncoder", encoder
    yield "fewpairs", "CvT", cvt


class Scaled(nn.Module):
    """A model whose outputs are divided by a number, so that differences are parts of the largest output."""

    def __init__(self, model: nn.Module, largest: float) -> None:
        super().__init__()
        self.model, self.largest = model, largest

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image) / self.largest


@torch.no_grad()
def scaled(model: nn.Module, image: Tensor) -> tuple[nn.Module, Tensor]:
    """The model with outputs of one at most, and its images."""
    return Scaled(model, max(1.0, float(model(image).abs().max()))), image


def encoder(which: int) -> tuple[nn.Module, Tensor]:
    """PyTorch's encoder on a sequence; its layers are `nn.MultiheadAttention`."""
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(), torch.randn(2, (16, 30)[which], 32)


def cvt(which: int) -> tuple[nn.Module, Tensor]:
    """fewpairs' CvT with keys at the places of the queries."""
    torch.manual_seed(1)
    stages = (CvTStage(8, 1, 1, 7, 4, 2), CvTStage(16, 2, 1), CvTStage(24, 3, 2))
    model = CvT(stages, Softmax("width"), stride_kv=1, num_classes=4)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "cls" not in name:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval(), torch.randn(2, 3, *((48, 48), (48, 64))[which])


__all__ = ["Model", "are_rows_of", "families", "tie"]
