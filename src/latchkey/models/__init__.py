"""Segmentation models: encoder -> decoder -> logits, with attention as an argument.

Importing this registers CvT with timm (`cvt_13`, `cvt_21`).
"""

from latchkey.models.encoders import timm_registry as _timm_registry
from latchkey.models.encoders.named import ENCODERS, EncoderSpec, create_encoder
from latchkey.models.pretrained import LoadReport, load_pretrained
from latchkey.models.segmenter import Segmenter
from latchkey.models.zoo import MODELS, ModelSpec, create_segmenter, list_models, model_spec

REGISTERED = tuple(_timm_registry.default_cfgs)
"""Names that timm knows once this package is imported."""

__all__ = [
    "ENCODERS",
    "MODELS",
    "REGISTERED",
    "EncoderSpec",
    "LoadReport",
    "ModelSpec",
    "Segmenter",
    "create_encoder",
    "create_segmenter",
    "list_models",
    "load_pretrained",
    "model_spec",
]
