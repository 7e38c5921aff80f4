"""Opens the decoded data of an experiment's settings, in its cache folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fewpairs.kinds.segmentation.layouts.open import open_source
from fewpairs.kinds.segmentation.overview import label_notes
from fewpairs.kinds.segmentation.preparation import prepare
from fewpairs.kinds.segmentation.store import Store

if TYPE_CHECKING:
    from fewpairs.kinds.segmentation.experiment import SegmentationDataConfig


def open_store(config: SegmentationDataConfig, *, progress: bool = True) -> tuple[Store, tuple[str, ...]]:
    """Return the decoded data of `config`, made at first use and after its files have changed, and notes on files."""
    source = open_source(config.kind, config.root, config.source)
    store = prepare(source, cache_folder(config), progress=progress)
    return store, (*source.notes, *label_notes(config.kind, config.root, store))


def cache_folder(config: SegmentationDataConfig) -> Path:
    """The folder of the decoded data of `config`: `data.cache`, or one in the user's cache."""
    if config.cache is not None:
        return Path(config.cache)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(config.root).resolve()
    key = hashlib.sha256(repr((config.kind, str(root), config.source)).encode()).hexdigest()
    return user / "fewpairs" / f"{root.name}-{key[:12]}"
