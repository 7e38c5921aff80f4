"""Experiments by name. Their functions' docstrings promise command, hardware, time and score.

The table holds text alone and imports a recipe's module when the recipe is called, so that listing it is quick.
"""

from __future__ import annotations

from fewpairs.recipes.recipe import Recipe

_SINGLE = {
    "deit_tiny_fine_tune": Recipe(
        "DeiT-Tiny from its ImageNet weights on a folder for each class, softmax attention.", "pictures:fine_tune"
    ),
    "deit_tiny_knn_fine_tune": Recipe(
        "DeiT-Tiny from its ImageNet weights on a folder for each class, k-NN attention with 100 keys.",
        "pictures:fine_tune_knn",
    ),
    "linear_probe": Recipe(
        "Linear evaluation: one layer on the features of a frozen ViT-S/16.", "pictures:linear_probe"
    ),
}

_DINO = {
    "dino_small_imagenet": Recipe("ViT-S/16 on ImageNet-1k without labels (DINO), softmax attention.", "dino:imagenet"),
    "dino_small_knn_imagenet": Recipe(
        "ViT-S/16 on ImageNet-1k without labels (DINO), k-NN attention with 100 keys, all 37 in local crops.",
        "dino:imagenet_knn",
    ),
    "dino_linear_imagenet": Recipe(
        "Linear evaluation on ImageNet-1k, class tokens of four blocks of a frozen ViT-S/16, softmax attention.",
        "dino:linear_imagenet",
    ),
    "dino_linear_knn_imagenet": Recipe(
        "Linear evaluation on ImageNet-1k, class tokens of four blocks of a frozen ViT-S/16, k-NN attention.",
        "dino:linear_imagenet_knn",
    ),
    "dino_pico_fashion": Recipe("Small ViT on Fashion-MNIST without labels.", "dino:fashion", ("softmax",)),
    "dino_pico_knn50_fashion": Recipe(
        "Small ViT on Fashion-MNIST without labels, k-NN attention with 50 % of the keys.",
        "dino:fashion",
        ({"name": "knn", "topk": 0.5},),
    ),
    "dino_pico_linear_fashion": Recipe(
        "Linear evaluation of a frozen small ViT on Fashion-MNIST.", "dino:linear_fashion", ("softmax",)
    ),
    "dino_pico_linear_knn50_fashion": Recipe(
        "Linear evaluation of a frozen small ViT with k-NN attention on Fashion-MNIST.",
        "dino:linear_fashion",
        ({"name": "knn", "topk": 0.5},),
    ),
}

_KV_STUDY = (
    ("setr", "SETR-PUP on ViT-B/16, {} attention", "data.root=FOLDER", "SETR-PUP"),
    (
        "conv_setr",
        "R50 stem, ViT-B/16, CUP decoder; {}",
        "data.root=FOLDER",
        "convolutional stem and CUP decoder with skips",
    ),
    ("cvt_setr", "CvT-13 with unstrided keys, PUP decoder; {}", "...", "CvT with unstrided keys and PUP decoder"),
)
"""The models of the KV-attention study: name, description and rest of the command at paper scale, small description."""

_KV_ATTENTIONS = {"qkv": ("query-key-value", "softmax"), "kv": ("key-value", "kv"), "kvpos": ("KV+Pos", "kvpos")}

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
"""The architectures of the k-NN attention paper by the name of their recipes."""

_FASHION = {"vit_pico": "Smallest ViT", "cvt_pico": "Smallest CvT", "swin_pico": "Smallest Swin"}

_LINGLO = {
    "": "key-only attention and convolution by turns",
    "_grafted": "convolution in the first half of the stages, key-only attention after",
    "_attention": "key-only attention alone",
    "_convolution": "convolution alone",
    "_softmax": "softmax attention and convolution by turns",
    "_kv": "key-value attention and convolution by turns",
    "_knn50": "k-NN attention with 50 % of the keys and convolution by turns",
    "_r1c": "key-only attention with a logit a channel (R1c)",
    "_r2": "key-only attention that gates values by the pooled key (R2)",
    "_r3": "key-only attention with a convolution of the values added (R3)",
}
"""The rows of `recipes.linglo.ABLATIONS`, by the end of the recipe's name."""


def _kv_study() -> dict[str, Recipe]:
    large: dict[str, Recipe] = {}
    small: dict[str, Recipe] = {}
    for model, told, rest, told_small in _KV_STUDY:
        for short, (words, attention) in _KV_ATTENTIONS.items():
            name = f"{model}_{short}_uw_madison"
            large[name] = Recipe(
                f"{told.format(words)}. `fewpairs train {name} {rest}`.", "uw_madison:study", (model, attention)
            )
            small[f"{model}_{short}_small"] = Recipe(
                f"Small {told_small}, {words} attention.", "small:study", (model, attention)
            )
    return large | small


def _imagenet() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for short, name in _IMAGENET.items():
        found[f"{short}_imagenet"] = Recipe(f"{name} on ImageNet-1k, softmax attention.", "imagenet:dense", (name,))
        found[f"{short}_knn_imagenet"] = Recipe(f"{name} on ImageNet-1k, k-NN attention.", "imagenet:knn", (name,))
    for short in ("volo_d1", "volo_d3"):
        name = _IMAGENET[short]
        found[f"{short}_fine_tune"] = Recipe(f"{name} from its run at 224 pixels.", "imagenet:fine_tuned", (name,))
    for size in ("b0", "b1", "b2"):
        found[f"linglo_{size}_imagenet"] = Recipe(
            f"LinGlo-{size} (reconstruction) on ImageNet-1k, key-only attention.",
            "imagenet:key_only",
            (f"linglo_{size}",),
        )
        found[f"pvt_v2_{size}_imagenet"] = Recipe(
            f"PVTv2-{size.upper()} on ImageNet-1k, softmax attention.", "imagenet:dense", (f"pvt_v2_{size}",)
        )
    return found


def _fashion() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for name, what in _FASHION.items():
        found[f"{name}_fashion"] = Recipe(
            f"{what} on Fashion-MNIST, softmax attention.", "fashion:study", (name, "softmax")
        )
        for percent in (25, 50, 75):
            found[f"{name}_knn{percent}_fashion"] = Recipe(
                f"{what} on Fashion-MNIST, k-NN attention with {percent} % of the keys.",
                "fashion:study",
                (name, {"name": "knn", "topk": percent / 100}),
            )
    return found


def _linglo() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for size, data, on, source in (
        ("pico", "fashion", "Fashion-MNIST", "linglo:on_fashion"),
        ("nano", "trashnet", "photos of 96x128 pixels", "linglo:on_photos"),
    ):
        model, other = f"linglo_{size}", f"pvt_v2_{size}"
        for ending, what in _LINGLO.items():
            found[f"{model}{ending}_{data}"] = Recipe(
                f"Small LinGlo (reconstruction) on {on}: {what}.", source, (model, ending)
            )
        found[f"{other}_{data}"] = Recipe(f"PVTv2 of the size of {model} on {on}.", source, (other,))
    return found


def _detection() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for encoder in ("linglo_b0", "linglo_b1", "linglo_b2", "pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2"):
        for name, title, schedule, length in (
            ("retinanet", "RetinaNet", "1x", "12 epochs"),
            ("mask_rcnn", "Mask R-CNN", "1x", "12 epochs"),
            ("mask_rcnn", "Mask R-CNN", "3x", "36 epochs, multi-scale"),
        ):
            found[f"{name}_{encoder}_{schedule}_coco"] = Recipe(
                f"{title} on {encoder}, COCO, {length}.", "detection:coco", (name, encoder, schedule)
            )
    for encoder in ("linglo_b0", "pvt_v2_b0"):
        found[f"retinanet_{encoder}_bccd"] = Recipe(
            f"RetinaNet on {encoder}: blood cells (BCCD) from scratch, for a CPU.", "detection:bccd", (encoder,)
        )
        found[f"mask_rcnn_{encoder}_nuclei"] = Recipe(
            f"Mask R-CNN on {encoder}: nuclei (DSB 2018) from scratch, for a CPU.", "detection:nuclei", (encoder,)
        )
    return found


def _semantic() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for encoder in ("linglo_b0", "linglo_b1", "linglo_b2", "pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2"):
        found[f"fpn_{encoder}_ade20k"] = Recipe(
            f"Semantic FPN on {encoder}, ADE20K.", "semantic:fpn_ade20k", (encoder,)
        )
    found["upernet_swin_tiny_ade20k"] = Recipe(
        "UperNet on Swin-Tiny, ADE20K.", "semantic:upernet_ade20k", ("swin_tiny_patch4_window7_224",)
    )
    for encoder in ("linglo_b1", "pvt_v2_b1"):
        found[f"fpn_{encoder}_cityscapes"] = Recipe(
            f"Semantic FPN on {encoder}, Cityscapes.", "semantic:fpn_cityscapes", (encoder,)
        )
    for encoder in ("linglo_b0", "pvt_v2_b0"):
        found[f"fpn_{encoder}_nuclei"] = Recipe(
            f"Narrow Semantic FPN on {encoder}, nuclei against background, for a CPU.",
            "semantic:fpn_nuclei",
            (encoder,),
        )
        found[f"fpn_{encoder}_heart"] = Recipe(
            f"Narrow Semantic FPN on {encoder}, eight parts of the heart, for a CPU.", "semantic:fpn_heart", (encoder,)
        )
    return found


RECIPES: dict[str, Recipe] = {
    "demo": Recipe(
        "Small SETR-PUP on phantom scans; `fewpairs demo` trains it with QKV, KV and KV+Pos attention.", "demo:demo"
    ),
    **_kv_study(),
    **_fashion(),
    **_linglo(),
    **_SINGLE,
    **_imagenet(),
    **_DINO,
    **_detection(),
    **_semantic(),
}
"""Every recipe that the command line can name."""
