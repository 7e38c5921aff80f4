"""Our own architectures in timm's registry: `timm.create_model("cvt_13", attention="kv", stride_kv=1)`."""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor

from latchkey.attention import Attention, Softmax, parse_attention
from latchkey.models.encoders.cvt import CVT_13, CVT_21, CvT, CvTStage
from latchkey.models.encoders.so_vit import SO_VIT_7, SoViT
from latchkey.models.encoders.t2t_vit import T2T_VIT_T_19, T2TViT
from latchkey.models.encoders.token_vit import Trunk
from latchkey.models.layouts import cvt_name, t2t_name


def _cfg(first_conv: str, crop_pct: float) -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": crop_pct,
        "interpolation": "bicubic",
        "fixed_input_size": False,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": first_conv,
        "classifier": "head",
    }


default_cfgs = generate_default_cfgs(
    {
        "cvt_13.untrained": _cfg("stages.0.embed.proj", 0.875),
        "cvt_21.untrained": _cfg("stages.0.embed.proj", 0.875),
        "t2t_vit_t_19.untrained": _cfg("", 0.9),
        "so_vit_7.untrained": _cfg("patch_embed.conv", 0.9),
    }
)


def _cvt_filter(weights: dict[str, Tensor], _model: CvT) -> dict[str, Tensor]:
    return {cvt_name(name): value for name, value in weights.items()}


def _cvt(name: str, stages: tuple[CvTStage, ...], pretrained: bool, options: dict[str, Any]) -> CvT:
    attention: str | Attention = options.pop("attention", Softmax(scale_by="width"))
    model: CvT = build_model_with_cfg(
        CvT,
        name,
        pretrained,
        pretrained_filter_fn=_cvt_filter,
        feature_cfg={"out_indices": tuple(range(len(stages))), "feature_cls": "getter"},
        stages=stages,
        attention=parse_attention(attention),
        **options,
    )
    return model


def _t2t_filter(weights: dict[str, Tensor], _model: T2TViT) -> dict[str, Tensor]:
    return {t2t_name(name): value for name, value in weights.items() if name != "pos_embed"}


def _tokens(kind: type, name: str, trunk: Trunk, pretrained: bool, options: dict[str, Any]) -> Any:
    attention: str | Attention = options.pop("attention", Softmax())
    return build_model_with_cfg(
        kind,
        name,
        pretrained,
        pretrained_filter_fn=_t2t_filter if kind is T2TViT else None,
        feature_cfg={"out_indices": (trunk.depth - 1,), "feature_cls": "getter"},
        trunk=trunk,
        attention=parse_attention(attention),
        **options,
    )


@register_model
def cvt_13(pretrained: bool = False, **kwargs: Any) -> CvT:
    """CvT-13: 20.0 M parameters.

    `attention` is a variant or its name, or a list of one a stage or a block; `stride_kv` is that of keys and values.
    """
    return _cvt("cvt_13", CVT_13, pretrained, kwargs)


@register_model
def cvt_21(pretrained: bool = False, **kwargs: Any) -> CvT:
    """CvT-21: 31.6 M parameters.

    `attention` is a variant or its name, or a list of one a stage or a block; `stride_kv` is that of keys and values.
    """
    return _cvt("cvt_21", CVT_21, pretrained, kwargs)


@register_model
def t2t_vit_t_19(pretrained: bool = False, **kwargs: Any) -> T2TViT:
    """T2T-ViT-t-19: 39.1 M parameters. `attention` is a variant or its name, or a list of one a stage, see `T2TViT`."""
    model: T2TViT = _tokens(T2TViT, "t2t_vit_t_19", T2T_VIT_T_19, pretrained, kwargs)
    return model


@register_model
def so_vit_7(pretrained: bool = False, **kwargs: Any) -> SoViT:
    """So-ViT-7: 5.5 M parameters. `attention` is a variant or its name, or a list of one a block."""
    model: SoViT = _tokens(SoViT, "so_vit_7", SO_VIT_7, pretrained, kwargs)
    return model
