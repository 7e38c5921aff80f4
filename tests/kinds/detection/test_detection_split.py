from __future__ import annotations

from pathlib import Path

import pytest
from detection_files import make_coco

from fewpairs.data.split import Split, held_out_units
from fewpairs.errors import InputError
from fewpairs.kinds.detection.annotation_issues import DamagedAnnotationsError
from fewpairs.kinds.detection.experiment import DetectionDataConfig, split_detection
from fewpairs.kinds.detection.layouts.open import open_detection


def test_a_share_of_the_training_part_is_held_out(tmp_path: Path) -> None:
    make_coco(tmp_path)
    held = set()
    for fold in range(3):
        data = DetectionDataConfig(kind="coco", root=str(tmp_path), split=Split(validation="train", folds=3, fold=fold))
        source = open_detection("coco", tmp_path, split=data.split)
        assert source.parts == ("train",)
        training, validation = split_detection(data, source)
        places = held_out_units(3, data.split)
        assert validation.rows.tolist() == sorted(source.part("train").rows[places].tolist())
        assert sorted([*training.rows.tolist(), *validation.rows.tolist()]) == [0, 1, 2]
        held |= set(validation.rows.tolist())
    assert held == {0, 1, 2}
    late = DetectionDataConfig(kind="coco", root=str(tmp_path), split=Split(validation="train", fraction=0.3, fold=3))
    with pytest.raises(InputError, match=r"data\.split\.fold=3: with fraction=0\.3 the folds are 0 to 2"):
        split_detection(late, open_detection("coco", tmp_path, split=late.split))


def test_decoding_finds_damage_in_the_middle_of_a_file(tmp_path: Path) -> None:
    make_coco(tmp_path)
    path = tmp_path / "train2017" / "1.png"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    split = Split(fraction=0.0)
    assert len(open_detection("coco", tmp_path, split=split, look="header").records) == 3
    with pytest.raises(DamagedAnnotationsError, match=r"1\.png is not a readable picture"):
        open_detection("coco", tmp_path, split=split, look="decode")
