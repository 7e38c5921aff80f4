"""From files to batches: layouts on disk, a memory-mapped store, splits, datasets, and files out again."""

from latchkey.data.dataset import Sample, ScanDataset, SliceDataset, collate
from latchkey.data.folder import ImageFolder
from latchkey.data.intensity import IntensityStatistics, intensity_statistics, normalise
from latchkey.data.layouts import KINDS, SourceOptions, detect_kind, open_source
from latchkey.data.nifti import Nifti, msd
from latchkey.data.phantom import make_phantom
from latchkey.data.preparation import prepare
from latchkey.data.rle import rle_decode, rle_encode
from latchkey.data.source import ScanFiles, Source
from latchkey.data.splits import Split, check_split, split_cases, split_fraction, split_listed
from latchkey.data.store import Store, StoredScan
from latchkey.data.transforms import Augment
from latchkey.data.uw_madison import ORGANIZER_EXCLUSIONS, UWMadison
from latchkey.data.view import View

__all__ = [
    "KINDS",
    "ORGANIZER_EXCLUSIONS",
    "Augment",
    "ImageFolder",
    "IntensityStatistics",
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
    "check_split",
    "collate",
    "detect_kind",
    "intensity_statistics",
    "make_phantom",
    "msd",
    "normalise",
    "open_source",
    "prepare",
    "rle_decode",
    "rle_encode",
    "split_cases",
    "split_fraction",
    "split_listed",
]
