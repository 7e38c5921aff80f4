"""CvT in timm's registry: `timm.create_model("cvt_13", attention="kv", stride_kv=1)`."""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor

from latchkey.attention import Softmax, Variant, parse_variant
from latchkey.models.encoders.cvt import CVT_13, CVT_21, CvT, CvTStage
from latchkey.models.layouts import cvt_name

_CFG = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": None,
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "fixed_input_size": False,
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "first_conv": "stages.0.embed.proj",
    "classifier": "head",
    "license": "mit",
}
default_cfgs = generate_default_cfgs({"cvt_13.untrained": _CFG, "cvt_21.untrained": _CFG})


def _filter(weights: dict[str, Tensor], _model: CvT) -> dict[str, Tensor]:
    return {cvt_name(name): value for name, value in weights.items()}


def _build(name: str, stages: tuple[CvTStage, ...], pretrained: bool, options: dict[str, Any]) -> CvT:
    attention: str | Variant = options.pop("attention", Softmax(scale_by="width"))
    model: CvT = build_model_with_cfg(
        CvT,
        name,
        pretrained,
        pretrained_filter_fn=_filter,
        feature_cfg={"out_indices": tuple(range(len(stages))), "feature_cls": "getter"},
        stages=stages,
        attention=parse_variant(attention),
        **options,
    )
    return model


@register_model
def cvt_13(pretrained: bool = False, **kwargs: Any) -> CvT:
    """CvT-13: 20.0 M parameters. `attention` is a variant or its name, `stride_kv` the stride of keys and values."""
    return _build("cvt_13", CVT_13, pretrained, kwargs)


@register_model
def cvt_21(pretrained: bool = False, **kwargs: Any) -> CvT:
    """CvT-21: 31.6 M parameters. `attention` is a variant or its name, `stride_kv` the stride of keys and values."""
    return _build("cvt_21", CVT_21, pretrained, kwargs)
