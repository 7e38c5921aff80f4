"""From files to batches: layouts on disk, a memory-mapped store, splits, datasets, and files out again."""

from fewpairs.data.classification import (
    LABELLED_KINDS,
    DamagedImagesError,
    LabelledAugment,
    LabelledChunks,
    LabelledCollate,
    LabelledDataset,
    LabelledOptions,
    LabelledShares,
    LabelledSource,
    LabelledSplit,
    LabelledView,
    Mixing,
    check_images,
    deit_augment,
    detect_labelled,
    open_labelled,
    small_augment,
    split_labelled,
)
from fewpairs.data.dataset import Sample, ScanDataset, SliceDataset, collate
from fewpairs.data.folder import ImageFolder
from fewpairs.data.intensity import IntensityStatistics, intensity_statistics, normalise
from fewpairs.data.layouts import KINDS, SourceOptions, detect_kind, open_source
from fewpairs.data.nifti import Nifti, msd
from fewpairs.data.phantom import make_phantom
from fewpairs.data.preparation import prepare
from fewpairs.data.rle import rle_decode, rle_encode
from fewpairs.data.source import ScanFiles, Source
from fewpairs.data.splits import Split, check_split, split_cases, split_fraction, split_listed
from fewpairs.data.store import Store, StoredScan
from fewpairs.data.transforms import Augment
from fewpairs.data.uw_madison import ORGANIZER_EXCLUSIONS, UWMadison
from fewpairs.data.view import View

__all__ = [
    "KINDS",
    "LABELLED_KINDS",
    "ORGANIZER_EXCLUSIONS",
    "Augment",
    "DamagedImagesError",
    "ImageFolder",
    "IntensityStatistics",
    "LabelledAugment",
    "LabelledChunks",
    "LabelledCollate",
    "LabelledDataset",
    "LabelledOptions",
    "LabelledShares",
    "LabelledSource",
    "LabelledSplit",
    "LabelledView",
    "Mixing",
    "Nifti",
    "Sample",
    "ScanDataset",
    "ScanFiles",
    "SliceDataset",
    "Source",
    "SourceOptions",
    "Split",
    "Store",
    "StoredScan",
    "UWMadison",
    "View",
    "check_images",
    "check_split",
    "collate",
    "deit_augment",
    "detect_kind",
    "detect_labelled",
    "intensity_statistics",
    "make_phantom",
    "msd",
    "normalise",
    "open_labelled",
    "open_source",
    "prepare",
    "rle_decode",
    "rle_encode",
    "small_augment",
    "split_cases",
    "split_fraction",
    "split_labelled",
    "split_listed",
]
