"""Models by name with attention as an argument: segmenters, encoders, classifiers, detectors.

Importing this registers with timm what timm lacks (`cvt_13`, `t2t_vit_t_19`, `so_vit_7`, `linglo_b0`), and
classifiers with k-NN attention (`deit_tiny_knn100_patch16_224`).
"""

from fewpairs.models.classifiers import (
    CLASSIFIERS,
    ClassifierSpec,
    classifier_spec,
    create_classifier,
    list_classifiers,
)
from fewpairs.models.detector import Detector
from fewpairs.models.detector_cost import CountedDetector
from fewpairs.models.detectors import DETECTORS, DetectorOptions, DetectorSpec, create_detector, detector_spec
from fewpairs.models.encoders import timm_registry as _timm_registry
from fewpairs.models.encoders.encoder_table import ENCODERS, EncoderSpec, create_encoder
from fewpairs.models.inference import InferenceConfig, InferenceSegmenter
from fewpairs.models.knn_names import KNN_NAMES
from fewpairs.models.pretrained import LoadReport, load_pretrained
from fewpairs.models.pyramid import Pyramid, create_pyramid
from fewpairs.models.segmenter import Segmenter
from fewpairs.models.segmenters import MODELS, ModelSpec, create_segmenter, list_models, load_segmenter, model_spec

REGISTERED = (*_timm_registry.default_cfgs, *KNN_NAMES)
"""Names that timm knows once this package is imported."""

__all__ = [
    "CLASSIFIERS",
    "DETECTORS",
    "ENCODERS",
    "KNN_NAMES",
    "MODELS",
    "REGISTERED",
    "ClassifierSpec",
    "CountedDetector",
    "Detector",
    "DetectorOptions",
    "DetectorSpec",
    "EncoderSpec",
    "InferenceConfig",
    "InferenceSegmenter",
    "LoadReport",
    "ModelSpec",
    "Pyramid",
    "Segmenter",
    "classifier_spec",
    "create_classifier",
    "create_detector",
    "create_encoder",
    "create_pyramid",
    "create_segmenter",
    "detector_spec",
    "list_classifiers",
    "list_models",
    "load_pretrained",
    "load_segmenter",
    "model_spec",
]
