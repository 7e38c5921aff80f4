"""Decoders: an encoder's maps -> logits."""

from fewpairs.models.decoders.cup import CUPDecoder
from fewpairs.models.decoders.fpn import SemanticFPN
from fewpairs.models.decoders.layers import Norm
from fewpairs.models.decoders.setr import AuxiliaryHead, MLADecoder, NaiveDecoder, PUPDecoder
from fewpairs.models.decoders.upernet import UperNet

__all__ = [
    "AuxiliaryHead",
    "CUPDecoder",
    "MLADecoder",
    "NaiveDecoder",
    "Norm",
    "PUPDecoder",
    "SemanticFPN",
    "UperNet",
]
