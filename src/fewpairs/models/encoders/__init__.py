"""Encoders: image -> maps, with attention as an argument."""

from fewpairs.models.encoders.base import Encoder
from fewpairs.models.encoders.cvt import CVT_13, CVT_21, CvT, CvTStage
from fewpairs.models.encoders.cvt_encoder import CvTEncoder
from fewpairs.models.encoders.hybrid import R50, HybridEncoder, StemConfig, build_stem
from fewpairs.models.encoders.linglo import LinGlo
from fewpairs.models.encoders.linglo_layout import (
    LINGLO_B0,
    LINGLO_B1,
    LINGLO_B2,
    LINGLO_NANO,
    LINGLO_PICO,
    LinGloLayout,
    LinGloStage,
    MBConvShape,
    arrange,
)
from fewpairs.models.encoders.so_vit import SO_VIT_7, SoViT
from fewpairs.models.encoders.t2t_vit import T2T_VIT_T_19, T2TViT
from fewpairs.models.encoders.vit import BlockAttention, ViTConfig, ViTEncoder, build_vit

__all__ = [
    "CVT_13",
    "CVT_21",
    "LINGLO_B0",
    "LINGLO_B1",
    "LINGLO_B2",
    "LINGLO_NANO",
    "LINGLO_PICO",
    "R50",
    "SO_VIT_7",
    "T2T_VIT_T_19",
    "BlockAttention",
    "CvT",
    "CvTEncoder",
    "CvTStage",
    "Encoder",
    "HybridEncoder",
    "LinGlo",
    "LinGloLayout",
    "LinGloStage",
    "MBConvShape",
    "SoViT",
    "StemConfig",
    "T2TViT",
    "ViTConfig",
    "ViTEncoder",
    "arrange",
    "build_stem",
    "build_vit",
]
