from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.layouts.open import LabelledOptions, detect_labelled, open_labelled
from fewpairs.kinds.classification.source import LabelledSource

WNIDS = ("n01440764", "n01443537", "n02119789")
ORDER = (WNIDS[2], WNIDS[0], WNIDS[1])
"""The development kit does not number classes in the order of their wnids."""
TRUTH = [1, 3, 2, 2]


@pytest.fixture
def imagenet(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    """Three training images of each class and a flat validation folder of four."""
    root = tmp_path / "imagenet"
    for wnid in WNIDS:
        for number in range(3):
            write_picture(root / "train" / wnid / f"{wnid}_{number}.JPEG")
    for number in range(1, 5):
        write_picture(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    return root


def opened(root: Path, **options: str) -> LabelledSource:
    return open_labelled("imagenet", root, LabelledOptions(**options))  # type: ignore[arg-type]


def expected(source: LabelledSource) -> None:
    assert source.classes == WNIDS
    found = [source.classes[source.label(index)] for index in source.indices("validation")]
    assert found == [ORDER[number - 1] for number in TRUTH]
    assert source.id(9) == "val/ILSVRC2012_val_00000001.JPEG"


def write_truth(root: Path, lines: list[str] | None = None) -> Path:
    path = root / "ILSVRC2012_validation_ground_truth.txt"
    path.write_text("\n".join(lines or [str(number) for number in TRUTH]) + "\n")
    return path


def write_meta(path: Path) -> None:
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(number, wnid, "fish, fishes", 0) for number, wnid in enumerate(ORDER, start=1)]
    savemat(path, {"synsets": np.array([*rows, (4, "n00001740", "entity", 3)], dtype=kind)})


def test_validation_in_class_folders(imagenet: Path, write_picture: Callable[..., Path]) -> None:
    for path in (imagenet / "val").iterdir():
        path.unlink()
    write_picture(imagenet / "val" / WNIDS[1] / "a.JPEG")
    source = opened(imagenet)
    assert source.counts("validation") == {WNIDS[0]: 0, WNIDS[1]: 1, WNIDS[2]: 0}
    assert detect_labelled(imagenet) == "imagenet"
    with pytest.raises(InputError, match="labels= and synsets= are for a validation folder without class folders"):
        opened(imagenet, labels="x.csv")


def test_numbers_and_a_list_of_synsets(imagenet: Path) -> None:
    write_truth(imagenet)
    (imagenet / "synsets.txt").write_text("".join(f"{wnid} a fish\n" for wnid in ORDER))
    expected(opened(imagenet))


def test_numbers_and_the_development_kit(imagenet: Path) -> None:
    kit = imagenet / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    write_truth(imagenet).rename(kit / "ILSVRC2012_validation_ground_truth.txt")
    write_meta(kit / "meta.mat")
    expected(opened(imagenet))


def test_the_table_of_kaggle(imagenet: Path) -> None:
    rows = [f"ILSVRC2012_val_{i:08d},{ORDER[number - 1]} 85 1 499 272 " for i, number in enumerate(TRUTH, start=1)]
    (imagenet / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(reversed(rows)) + "\n")
    expected(opened(imagenet))


def test_a_table_of_another_name(imagenet: Path) -> None:
    rows = [f"ILSVRC2012_val_{i:08d}.JPEG,{ORDER[number - 1]}" for i, number in enumerate(TRUTH, start=1)]
    (imagenet / "mine.csv").write_text("\n".join(rows))
    expected(opened(imagenet, labels="mine.csv"))


def test_files_that_are_needed_and_missing(imagenet: Path) -> None:
    with pytest.raises(InputError, match=r"labels of the images in .*val were not found; put LOC_val_solution\.csv or"):
        opened(imagenet)
    with pytest.raises(InputError, match=r"labels='x\.csv': .* does not exist"):
        opened(imagenet, labels="x.csv")
    write_truth(imagenet)
    with pytest.raises(InputError, match=r"wnids of the numbers .* name the file with synsets="):
        opened(imagenet)


def test_labels_that_do_not_fit(imagenet: Path) -> None:
    (imagenet / "synsets.txt").write_text("\n".join(ORDER))
    for lines, message in (
        (["1", "2"], "has 2 lines, but there are 4 images"),
        (["1", "2", "3", "4"], "line 4: '4' is no number from 1 to 3"),
        (["1", "2", "x", "1"], "line 3: 'x'"),
    ):
        write_truth(imagenet, lines)
        with pytest.raises(DataError, match=message):
            opened(imagenet)
    write_truth(imagenet)
    for text, message in (("fish\n", "should hold WordNet numbers"), ("", "but has nothing")):
        (imagenet / "synsets.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            opened(imagenet)
    (imagenet / "synsets.txt").write_text("n99999999\n" * 3)
    with pytest.raises(DataError, match="without training images: n99999999"):
        opened(imagenet)
    (imagenet / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"is not meta\.mat"):
        opened(imagenet, synsets="broken.mat")
    (imagenet / "val.csv").write_text("ILSVRC2012_val_00000001,n01440764\n")
    with pytest.raises(DataError, match=r"no row for 3 of 4 images: ILSVRC2012_val_00000002\.JPEG"):
        opened(imagenet)
    (imagenet / "val.csv").write_text("ILSVRC2012_val_00000001\n")
    with pytest.raises(DataError, match="lacks its second column"):
        opened(imagenet)
    (imagenet / "val" / "ILSVRC2012_val_00000004.JPEG").rename(imagenet / "val" / "odd.JPEG")
    (imagenet / "val.csv").unlink()
    (imagenet / "synsets.txt").write_text("\n".join(ORDER))
    with pytest.raises(DataError, match=r"odd\.JPEG does not end with a number"):
        opened(imagenet)


def test_folders_that_are_no_wnids(imagenet: Path) -> None:
    (imagenet / "train" / WNIDS[0]).rename(imagenet / "train" / "fish")
    with pytest.raises(DataError, match=r"fish are no WordNet numbers such as n01440764; .* kind=folder"):
        opened(imagenet)
