"""Object detection: the published settings on COCO, and blood cells and nuclei small enough for a CPU.

The settings on COCO are those of PVTv2's RetinaNet and Mask R-CNN (arXiv 2106.13797): AdamW with a rate of 1e-4 and a
weight decay of 1e-4, batches of 16, 12 epochs (1x) with the rate divided by 10 after 8 and 11, or 36 (3x) after 27 and
33 and with multi-scale training, 500 steps of warm-up, without images that hold no objects. We could not obtain the
settings of the LinGlo paper (arXiv 2207.00188), so both use PVTv2's. Encoders start from ImageNet weights, those of the
recipes `linglo_b0_imagenet`, `pvt_v2_b0_imagenet` and so on, or for PVTv2 `model.pretrained=timm:pvt_v2_b0.in1k`.
Several processes share a batch: start four with `fit.batch_size=4`. We have not run these at scale and promise no
score.
"""

from __future__ import annotations

from typing import Literal

from fewpairs.data.split import Split
from fewpairs.kinds.detection.experiment import DetectionDataConfig, DetectionExperiment, DetectionModelConfig
from fewpairs.kinds.detection.view import DetectionAugment, DetectionView
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig

IMAGES = 117_266
"""The number of images in COCO's train2017 that hold objects."""

BATCH = 16
EPOCH = IMAGES // BATCH
WARMUP = 500


def coco(name: str, encoder: str, schedule: Literal["1x", "3x"]) -> DetectionExperiment:
    """A detector on COCO: 12 epochs at 800 pixels (1x), or 36 at 480 to 800 (3x).

    `fewpairs train retinanet_linglo_b0_1x_coco data.root=FOLDER model.pretrained=FILE`
    """
    epochs, drops = (36, (27, 33)) if schedule == "3x" else (12, (8, 11))
    masks, attention = name == "mask_rcnn", "keyonly" if encoder.startswith("linglo") else "softmax"
    return DetectionExperiment(
        name=f"{name}-{encoder}-{schedule}",
        model=DetectionModelConfig(
            name=name,
            encoder=encoder,
            drop_path=0.1,
            pretrained=f"runs/{encoder}-{attention}-seed0/best.safetensors",
        ),
        data=DetectionDataConfig(kind="coco", root="coco", empty=False),
        view=DetectionView(short=800, long=1333),
        augment=DetectionAugment(sizes=(480, 800) if schedule == "3x" else None, flip=0.5),
        fit=FitConfig(
            steps=epochs * EPOCH,
            batch_size=BATCH,
            precision="bf16",
            clip=None,
            evaluate_every=EPOCH,
            checkpoint_every=EPOCH,
            log_every=50,
            monitor="mask_ap" if masks else "ap",
            workers=12,
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-4, weight_decay=1e-4),
        schedule=ScheduleConfig(
            name="step", warmup=WARMUP, warmup_from=1e-3, milestones=tuple(EPOCH * epoch for epoch in drops)
        ),
    )


BCCD_ANCHORS = (
    (20.0, 40.0, 52.0),
    (64.0, 80.0, 104.0),
    (128.0, 160.0, 200.0),
    (256.0, 320.0, 400.0),
    (512.0, 640.0, 800.0),
)
"""At 240 pixels platelets are 14 to 25 pixels wide, red cells 44 to 58, white cells 64 to 116, and nearly square."""


def bccd(encoder: str) -> DetectionExperiment:
    """RetinaNet on blood cells (BCCD, 364 photos, three classes) from scratch, for two CPU cores.

    `fewpairs train retinanet_linglo_b0_bccd data.root=FOLDER`. It trains on the parts train and validation (292 photos)
    and is scored once, at the end, on test (72), so that nothing is chosen on the scored photos. Group normalisation, a
    high rate and long training replace pretraining (arXiv 1811.08883). AP50 0.851 with LinGlo-b0 and 0.875 with
    PVTv2-b0, one seed each, in 25 to 40 minutes of one core of an AMD EPYC.
    """
    steps = 1500
    return DetectionExperiment(
        name=f"retinanet-{encoder}-bccd",
        model=DetectionModelConfig(
            name="retinanet",
            encoder=encoder,
            width=64,
            norm="group",
            anchor_sizes=BCCD_ANCHORS,
            anchor_ratios=(1.0,),
        ),
        data=DetectionDataConfig(
            kind="voc", root="bccd-blood-cells", split=Split(train=("train", "validation"), validation="test")
        ),
        view=DetectionView(short=240, long=320),
        augment=DetectionAugment(
            sizes=(208, 272), step=16, flip=0.5, vertical_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2
        ),
        fit=FitConfig(
            steps=steps,
            batch_size=8,
            clip=1.0,
            ema=0.995,
            evaluate_every=steps,
            checkpoint_every=250,
            log_every=25,
            monitor="ap50",
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="cosine", warmup=100, floor=0.01),
    )


NUCLEI_ANCHORS = ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,))
"""Nuclei are 8 to 35 pixels wide, some 60."""


def nuclei(encoder: str) -> DetectionExperiment:
    """Mask R-CNN on nuclei (Data Science Bowl 2018) from scratch, for two CPU cores.

    `fewpairs train mask_rcnn_linglo_b0_nuclei data.root=FOLDER`. Up to 200 objects of an image are detected and scored.
    Mask AP50 0.826 with LinGlo-b0 and 0.802 with PVTv2-b0, one seed each, in 11 and 16 minutes of one core (AMD EPYC).
    """
    steps = 500
    return DetectionExperiment(
        name=f"mask-rcnn-{encoder}-nuclei",
        model=DetectionModelConfig(
            name="mask_rcnn",
            encoder=encoder,
            width=64,
            hidden=256,
            samples=128,
            norm="group",
            anchor_sizes=NUCLEI_ANCHORS,
            detections=200,
        ),
        data=DetectionDataConfig(
            kind="nuclei-masks",
            root="dsb2018-nuclei",
            split=Split(train=("train", "validation"), validation="test"),
        ),
        view=DetectionView(short=256, long=352),
        augment=DetectionAugment(
            jitter=(0.75, 1.5), crop=(192, 192), flip=0.5, vertical_flip=0.5, brightness=0.2, contrast=0.2
        ),
        fit=FitConfig(
            steps=steps,
            batch_size=4,
            clip=1.0,
            ema=0.99,
            evaluate_every=steps,
            checkpoint_every=200,
            log_every=25,
            monitor="mask_ap50",
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="cosine", warmup=60, floor=0.01),
    )
