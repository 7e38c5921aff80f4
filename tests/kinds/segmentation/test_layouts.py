from __future__ import annotations

from pathlib import Path

import pytest

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.layouts.folder import ImageFolder
from fewpairs.kinds.segmentation.layouts.nifti import Nifti
from fewpairs.kinds.segmentation.layouts.open import SourceOptions, detect_kind, open_source
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison


def test_every_layout_is_opened_and_found_out(phantom_once: Path, decathlon: Path, pictures: Path) -> None:
    classes = SourceOptions(classes=("a", "b"))
    assert isinstance(open_source("uw-madison", phantom_once), UWMadison)
    assert isinstance(open_source("msd", decathlon, classes), Nifti)
    assert isinstance(open_source("folder", pictures, classes), ImageFolder)
    plain = SourceOptions(classes=("a", "b"), images="imagesTr", labels="labelsTr", axis=1)
    source = open_source("nifti", decathlon, plain)
    assert len(source.scans()[0].slice_ids) == 6
    assert [detect_kind(root) for root in (phantom_once, decathlon, pictures)] == ["uw-madison", "msd", "folder"]
    (decathlon / "imagesTr").rename(decathlon / "images")
    assert detect_kind(decathlon) == "nifti"


def test_an_unknown_layout_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'uw-madison'"):
        open_source("uw_madison", tmp_path)
    with pytest.raises(InputError, match="none of the known layouts"):
        detect_kind(tmp_path)


def test_no_option_is_accepted_and_ignored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="axis, classes: no option of the layout 'uw-madison'"):
        open_source("uw-madison", tmp_path, SourceOptions(classes=("a",), axis=1))
    with pytest.raises(InputError, match="colours: no option of the layout 'msd'"):
        open_source("msd", tmp_path, SourceOptions(colours={"a": (1, 2, 3)}))


def test_what_a_layout_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give classes="):
        open_source("folder", tmp_path)
    with pytest.raises(InputError, match=r"have no label numbers \(background=0, a=85\); give names alone"):
        open_source("folder", tmp_path, SourceOptions(classes={"a": 85}, nonzero=True))
    with pytest.raises(InputError, match="is not a folder"):
        open_source("msd", tmp_path / "none")
