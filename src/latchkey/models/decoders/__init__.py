"""From an encoder's maps to logits."""

from latchkey.models.decoders.cup import CUPDecoder
from latchkey.models.decoders.fpn import SemanticFPN
from latchkey.models.decoders.layers import Norm
from latchkey.models.decoders.setr import AuxiliaryHead, MLADecoder, NaiveDecoder, PUPDecoder
from latchkey.models.decoders.upernet import UperNet

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
