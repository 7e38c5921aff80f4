"""Experiments by name: Python functions whose docstring promises command, hardware, time and score."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fewpairs.attention import KNN, Softmax
from fewpairs.kinds.kind import Experiment
from fewpairs.recipes import demo, detection, dino, fashion, imagenet, linglo, pictures, semantic, small, uw_madison
from fewpairs.recipes.recipe import Recipe

_SEGMENTATION: dict[str, Callable[[], Experiment]] = {
    "demo": demo.demo,
    "setr_qkv_uw_madison": uw_madison.setr_qkv,
    "setr_kv_uw_madison": uw_madison.setr_kv,
    "setr_kvpos_uw_madison": uw_madison.setr_kvpos,
    "conv_setr_qkv_uw_madison": uw_madison.conv_setr_qkv,
    "conv_setr_kv_uw_madison": uw_madison.conv_setr_kv,
    "conv_setr_kvpos_uw_madison": uw_madison.conv_setr_kvpos,
    "cvt_setr_qkv_uw_madison": uw_madison.cvt_setr_qkv,
    "cvt_setr_kv_uw_madison": uw_madison.cvt_setr_kv,
    "cvt_setr_kvpos_uw_madison": uw_madison.cvt_setr_kvpos,
    "setr_qkv_small": small.setr_qkv,
    "setr_kv_small": small.setr_kv,
    "setr_kvpos_small": small.setr_kvpos,
    "conv_setr_qkv_small": small.conv_setr_qkv,
    "conv_setr_kv_small": small.conv_setr_kv,
    "conv_setr_kvpos_small": small.conv_setr_kvpos,
    "cvt_setr_qkv_small": small.cvt_setr_qkv,
    "cvt_setr_kv_small": small.cvt_setr_kv,
    "cvt_setr_kvpos_small": small.cvt_setr_kvpos,
}

_PICTURES: dict[str, Callable[[], Experiment]] = {
    "deit_tiny_fine_tune": pictures.fine_tune,
    "deit_tiny_knn_fine_tune": pictures.fine_tune_knn,
    "linear_probe": pictures.linear_probe,
}

_DINO: dict[str, Recipe] = {
    "dino_small_imagenet": Recipe.of(dino.imagenet),
    "dino_small_knn_imagenet": Recipe.of(dino.imagenet_knn),
    "dino_linear_imagenet": Recipe.of(dino.linear_imagenet),
    "dino_linear_knn_imagenet": Recipe.of(dino.linear_imagenet_knn),
    "dino_pico_fashion": Recipe("Small ViT on Fashion-MNIST without labels.", partial(dino.fashion, Softmax())),
    "dino_pico_knn50_fashion": Recipe(
        "Small ViT on Fashion-MNIST without labels, k-NN attention with 50 % of the keys.",
        partial(dino.fashion, KNN(topk=0.5)),
    ),
    "dino_pico_linear_fashion": Recipe(
        "Linear evaluation of a frozen small ViT on Fashion-MNIST.", partial(dino.linear_fashion, Softmax())
    ),
    "dino_pico_linear_knn50_fashion": Recipe(
        "Linear evaluation of a frozen small ViT with k-NN attention on Fashion-MNIST.",
        partial(dino.linear_fashion, KNN(topk=0.5)),
    ),
}

_IMAGENET = {
    "deit_tiny": "deit_tiny_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_base": "deit_base_patch16_224",
    "so_vit_7": "so_vit_7",
    "visformer_tiny": "visformer_tiny",
    "cvt_13": "cvt_13",
    "cvt_21": "cvt_21",
    "tnt_s": "tnt_s_patch16_224",
    "volo_d1": "volo_d1_384",
    "volo_d3": "volo_d3_448",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "t2t_vit_t_19": "t2t_vit_t_19",
    "twins_svt_base": "twins_svt_base",
    "pit_b": "pit_b_224",
}
"""The paper's architectures by the name of their recipes."""

_FASHION = {"vit_pico": "Smallest ViT", "cvt_pico": "Smallest CvT", "swin_pico": "Smallest Swin"}

_SHARES = {25: KNN(topk=0.25), 50: KNN(topk=0.5), 75: KNN(topk=0.75)}


def _imagenet() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for short, name in _IMAGENET.items():
        found[f"{short}_imagenet"] = Recipe(f"{name} on ImageNet-1k, softmax attention.", partial(imagenet.dense, name))
        found[f"{short}_knn_imagenet"] = Recipe(f"{name} on ImageNet-1k, k-NN attention.", partial(imagenet.knn, name))
    for short in ("volo_d1", "volo_d3"):
        name = _IMAGENET[short]
        found[f"{short}_fine_tune"] = Recipe(f"{name} from its run at 224 pixels.", partial(imagenet.fine_tuned, name))
    for size in ("b0", "b1", "b2"):
        found[f"linglo_{size}_imagenet"] = Recipe(
            f"LinGlo-{size} (reconstruction) on ImageNet-1k, key-only attention.",
            partial(imagenet.key_only, f"linglo_{size}"),
        )
        found[f"pvt_v2_{size}_imagenet"] = Recipe(
            f"PVTv2-{size.upper()} on ImageNet-1k, softmax attention.", partial(imagenet.dense, f"pvt_v2_{size}")
        )
    return found


def _fashion() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for name, what in _FASHION.items():
        found[f"{name}_fashion"] = Recipe(
            f"{what} on Fashion-MNIST, softmax attention.", partial(fashion.study, name, Softmax())
        )
        for percent, variant in _SHARES.items():
            found[f"{name}_knn{percent}_fashion"] = Recipe(
                f"{what} on Fashion-MNIST, k-NN attention with {percent} % of the keys.",
                partial(fashion.study, name, variant),
            )
    return found


def _linglo() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for model, rival, data, on, make in (
        ("linglo_pico", "pvt_v2_pico", "fashion", "Fashion-MNIST", linglo.on_fashion),
        ("linglo_nano", "pvt_v2_nano", "trashnet", "photos of 96x128 pixels", linglo.on_photos),
    ):
        for ending, row in linglo.ABLATIONS.items():
            name = f"{model}{ending}"
            found[f"{name}_{data}"] = Recipe(
                f"Small LinGlo (reconstruction) on {on}: {row.summary}.",
                partial(make, name.replace("_", "-"), linglo.classifier(model, row)),
            )
        found[f"{rival}_{data}"] = Recipe(
            f"PVTv2 of the size of {model} on {on}.", partial(make, rival.replace("_", "-"), linglo.rival(model))
        )
    return found


def _detection() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for encoder in ("linglo_b0", "linglo_b1", "linglo_b2", "pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2"):
        for name, title, long in (
            ("retinanet", "RetinaNet", False),
            ("mask_rcnn", "Mask R-CNN", False),
            ("mask_rcnn", "Mask R-CNN", True),
        ):
            length = "36 epochs, multi-scale" if long else "12 epochs"
            found[f"{name}_{encoder}_{'3x' if long else '1x'}_coco"] = Recipe(
                f"{title} on {encoder}, COCO, {length}.", partial(detection.coco, name, encoder, long=long)
            )
    for encoder in ("linglo_b0", "pvt_v2_b0"):
        found[f"retinanet_{encoder}_bccd"] = Recipe(
            f"RetinaNet on {encoder}: blood cells (BCCD) from scratch, for a CPU.", partial(detection.bccd, encoder)
        )
        found[f"mask_rcnn_{encoder}_nuclei"] = Recipe(
            f"Mask R-CNN on {encoder}: nuclei (DSB 2018) from scratch, for a CPU.", partial(detection.nuclei, encoder)
        )
    return found


def _semantic() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    linglo, pvt = (f"linglo_b{size}" for size in range(3)), (f"pvt_v2_b{size}" for size in range(3))
    for encoder in (*linglo, *pvt):
        found[f"fpn_{encoder}_ade20k"] = Recipe(
            f"Semantic FPN on {encoder}, ADE20K.", partial(semantic.fpn_ade20k, encoder)
        )
    found["upernet_swin_tiny_ade20k"] = Recipe(
        "UperNet on Swin-Tiny, ADE20K.", partial(semantic.upernet_ade20k, "swin_tiny_patch4_window7_224")
    )
    for encoder in ("linglo_b1", "pvt_v2_b1"):
        found[f"fpn_{encoder}_cityscapes"] = Recipe(
            f"Semantic FPN on {encoder}, Cityscapes.", partial(semantic.fpn_cityscapes, encoder)
        )
    for encoder in ("linglo_b0", "pvt_v2_b0"):
        found[f"fpn_{encoder}_nuclei"] = Recipe(
            f"Narrow Semantic FPN on {encoder}, nuclei against background, for a CPU.",
            partial(semantic.fpn_nuclei, encoder),
        )
        found[f"fpn_{encoder}_heart"] = Recipe(
            f"Narrow Semantic FPN on {encoder}, eight parts of the heart, for a CPU.",
            partial(semantic.fpn_heart, encoder),
        )
    return found


RECIPES: dict[str, Recipe] = {
    **{name: Recipe.of(make) for name, make in _SEGMENTATION.items()},
    **_fashion(),
    **_linglo(),
    **{name: Recipe.of(make) for name, make in _PICTURES.items()},
    **_imagenet(),
    **_DINO,
    **_detection(),
    **_semantic(),
}
"""Every recipe that the command line can name."""
