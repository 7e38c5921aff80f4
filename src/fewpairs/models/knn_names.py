"""Classifiers with k-NN attention in timm's registry: `timm.create_model("deit_tiny_knn100_patch16_224")`.

The name is that of the dense model, with `knn`, or `knn` and the number of keys, before patch and image size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import timm
from timm.models import register_model
from torch import nn

from fewpairs.attention import KNN
from fewpairs.models.architectures import swap_every_layer
from fewpairs.models.classifiers import CLASSIFIERS, ClassifierSpec
from fewpairs.models.encoders import timm_registry


def knn_name(name: str, topk: int | float) -> str:
    """`swin_tiny_patch4_window7_224` -> `swin_tiny_knn_patch4_window7_224`; with 100 keys `..._knn100_...`."""
    mark = f"_knn{topk}" if isinstance(topk, int) else "_knn"
    sizes = re.search(r"_patch\d+.*$|_(224|384|448)$", name)
    place = sizes.start() if sizes else len(name)
    return name[:place] + mark + name[place:]


def _entry_point(name: str, spec: ClassifierSpec) -> Callable[..., nn.Module]:
    dense = spec.timm_name or name

    def build(pretrained: bool = False, topk: int | float = spec.topk, **kwargs: Any) -> nn.Module:
        variant = KNN(topk, scale_by=spec.scale_by)
        if name in timm_registry.default_cfgs:
            return timm.create_model(dense, pretrained=pretrained, attention=variant, **kwargs)
        return swap_every_layer(timm.create_model(dense, pretrained=pretrained, **kwargs), variant)

    build.__name__ = build.__qualname__ = knn_name(name, spec.topk)
    build.__doc__ = f"{spec.summary} with k-NN attention; `topk` is a number of keys or a fraction of them."
    return build


KNN_NAMES = {
    knn_name(name, spec.topk): name
    for name, spec in CLASSIFIERS.items()
    if spec.timm_name or name in timm_registry.default_cfgs
}
"""timm's name of a classifier with k-NN attention -> its name in `CLASSIFIERS`."""

for _name in KNN_NAMES.values():
    register_model(_entry_point(_name, CLASSIFIERS[_name]))
