"""Our own architectures in timm's registry: `timm.create_model("linglo_b0", layout="grafted", attention="knn")`."""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor

from fewpairs.attention import Attention, KeyOnly, Softmax, parse_attention
from fewpairs.models.checkpoint_names import cvt_name, t2t_name
from fewpairs.models.encoders.cvt import CVT_13, CVT_21, CvT, CvTStage
from fewpairs.models.encoders.linglo import LinGlo
from fewpairs.models.encoders.linglo_layout import (
    LINGLO_B0,
    LINGLO_B1,
    LINGLO_B2,
    LINGLO_NANO,
    LINGLO_PICO,
    LinGloLayout,
    arrange,
)
from fewpairs.models.encoders.so_vit import SO_VIT_7, SoViT
from fewpairs.models.encoders.t2t_vit import T2T_VIT_T_19, T2TViT
from fewpairs.models.encoders.token_vit import Trunk
from fewpairs.types import Size


def _cfg(first_conv: str, crop_pct: float, size: Size = (224, 224)) -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, *size),
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
        "linglo_b0.untrained": _cfg("stages.0.embed.proj", 0.9),
        "linglo_b1.untrained": _cfg("stages.0.embed.proj", 0.9),
        "linglo_b2.untrained": _cfg("stages.0.embed.proj", 0.9),
        "linglo_nano.untrained": _cfg("stages.0.embed.proj", 1.0, (96, 128)),
        "linglo_pico.untrained": _cfg("stages.0.embed.proj", 1.0, (28, 28)),
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


ARRANGE = ("layout", "mlp_ratio", "expand", "squeeze", "reduction")
"""LinGlo's arguments besides timm's and `attention`: see `linglo_layout.arrange`."""


def build_linglo(base: LinGloLayout, options: dict[str, Any]) -> LinGlo:
    """Build a LinGlo from timm's model arguments, `attention` (KeyOnly when left out) and those of `ARRANGE`."""
    attention: str | Attention = options.pop("attention", KeyOnly())
    layout = arrange(base, **{name: options.pop(name) for name in ARRANGE if name in options})
    return LinGlo(layout, parse_attention(attention), **options)


def _linglo(name: str, base: LinGloLayout, pretrained: bool, options: dict[str, Any]) -> LinGlo:
    def build(**kwargs: Any) -> LinGlo:
        return build_linglo(base, kwargs)

    stages = len(options["layout"].stages if isinstance(options.get("layout"), LinGloLayout) else base.stages)
    model: LinGlo = build_model_with_cfg(
        build,
        name,
        pretrained,
        feature_cfg={"out_indices": tuple(range(stages)), "feature_cls": "getter"},
        **options,
    )
    return model


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


@register_model
def linglo_b0(pretrained: bool = False, **kwargs: Any) -> LinGlo:
    """LinGlo-b0, a reconstruction: 3.4 M parameters. `attention`, and the arguments of `linglo_layout.arrange`."""
    return _linglo("linglo_b0", LINGLO_B0, pretrained, kwargs)


@register_model
def linglo_b1(pretrained: bool = False, **kwargs: Any) -> LinGlo:
    """LinGlo-b1, a reconstruction: 13.1 M parameters. `attention`, and the arguments of `linglo_layout.arrange`."""
    return _linglo("linglo_b1", LINGLO_B1, pretrained, kwargs)


@register_model
def linglo_b2(pretrained: bool = False, **kwargs: Any) -> LinGlo:
    """LinGlo-b2, a reconstruction: 25.4 M parameters. `attention`, and the arguments of `linglo_layout.arrange`."""
    return _linglo("linglo_b2", LINGLO_B2, pretrained, kwargs)


@register_model
def linglo_nano(pretrained: bool = False, **kwargs: Any) -> LinGlo:
    """A LinGlo of 0.8 M parameters for pictures of about 100 pixels; arguments as `linglo_b0`."""
    return _linglo("linglo_nano", LINGLO_NANO, pretrained, kwargs)


@register_model
def linglo_pico(pretrained: bool = False, **kwargs: Any) -> LinGlo:
    """A LinGlo of two stages for 28x28 pixels, 0.1 M parameters with ten classes; arguments as `linglo_b0`."""
    return _linglo("linglo_pico", LINGLO_PICO, pretrained, kwargs)
