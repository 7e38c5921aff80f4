from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_files import SIZE, make_maps
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fewpairs.data.split import Split
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.detection.annotation_issues import DamagedAnnotationsError
from fewpairs.kinds.detection.layouts.label_maps import objects_of
from fewpairs.kinds.detection.layouts.open import detect_detection, open_detection
from fewpairs.kinds.detection.masks import decode_masks
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource


def opened(root: Path, split: Split | None = None, **options: object) -> DetectionSource:
    return open_detection("nuclei-masks", root, DetectionOptions(**options), split=split)  # type: ignore[arg-type]


def test_every_number_is_an_object(tmp_path: Path) -> None:
    source = opened(make_maps(tmp_path))
    assert source.classes == ("nucleus",)
    assert source.parts == ("train", "validation", "test")
    assert detect_detection(tmp_path) == "nuclei-masks"
    for record in source.records:
        stored = np.asarray(Image.open(tmp_path / "masks" / record.id))
        objects = record.objects(masks=True)
        assert objects.masks is not None
        for place, number in enumerate(np.unique(stored)[1:]):
            np.testing.assert_array_equal(objects.masks[place].numpy(), stored == number)
        assert objects.boxes.tolist() == [[3, 2, 9, 8], [41, 22, 43, 24], [40, 20, 60, 30]]
        assert objects.area.tolist() == [36, 4, 196]
        assert not objects.crowd.any()


@given(
    arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 500]))
    | arrays(np.int32, (4, 5), elements=st.sampled_from([0, 3, 2**30]))
)
def test_objects_put_together_are_the_map(labels: np.ndarray) -> None:
    found = objects_of(labels, "here")
    masks = decode_masks([one.mask or "" for one in found], labels.shape)
    numbers = [int(one.place.split()[-1]) for one in found]
    whole = sum((mask * number for mask, number in zip(masks, numbers, strict=True)), np.zeros(labels.shape, int))
    np.testing.assert_array_equal(whole, labels)


def test_without_an_index_a_share_validates(tmp_path: Path) -> None:
    make_maps(tmp_path)
    (tmp_path / "index.csv").unlink()
    source = opened(tmp_path, split=Split(fraction=0.34), classes=("cell",))
    assert source.classes == ("cell",)
    assert [len(source.part(part)) for part in source.parts] == [2, 1]


def test_parts_can_be_named(tmp_path: Path) -> None:
    make_maps(tmp_path)
    index = tmp_path / "index.csv"
    index.write_text(index.read_text().replace(",val", ",fold1").replace(",test", ",train"))
    source = opened(tmp_path, train="train", validation="fold1")
    assert [len(source.part(part)) for part in source.parts] == [2, 1]
    alone = opened(tmp_path, train="train", split=Split(fraction=0.0))
    assert alone.parts == ("train",)
    assert alone.check.found["unlisted"] == ["val (fold1)"]
    with pytest.raises(DamagedAnnotationsError, match=r"index\.csv line 3: split 'fold1' is none of train, val"):
        opened(tmp_path)


def test_contradictions_are_all_named(tmp_path: Path) -> None:
    make_maps(tmp_path)
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(tmp_path / "masks" / "train.png")
    Image.fromarray(np.full((*SIZE, 3), (0, 0, 9), np.uint8)).save(tmp_path / "masks" / "val.png")
    (tmp_path / "images" / "test.png").unlink()
    with (tmp_path / "index.csv").open("a") as file:
        file.write("more,60,40,train\nval,60,40,train\n")
    with pytest.raises(DamagedAnnotationsError) as caught:
        opened(tmp_path)
    found = caught.value.issues
    assert set(found) == {"other-size", "unreadable", "missing-file", "missing-annotation", "repeated-image"}
    assert "in colour" in found["unreadable"][0]
    with pytest.raises(DamagedAnnotationsError):
        opened(tmp_path, on_error="skip")


def test_what_cannot_be_a_label_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images is not a folder"):
        opened(tmp_path)
    make_maps(tmp_path)
    with pytest.raises(InputError, match="of a single class; name one"):
        opened(tmp_path, classes=("a", "b"))
    (tmp_path / "index.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        opened(tmp_path)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_that_do_not_number_their_objects_are_an_error(value: int, tmp_path: Path) -> None:
    make_maps(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels > 0, value, 0).astype(np.uint8)).save(path)
    said = rf"all have one number: the number {value} in all, with objects apart from each other in test\.png"
    with pytest.raises(DamagedAnnotationsError, match=said):
        opened(tmp_path)
    assert opened(tmp_path, on_error="skip").counts("train") == {"nucleus": 1}
    for path in (tmp_path / "masks").iterdir():
        labels = np.zeros(SIZE, np.uint8)
        labels[4:9, 4:9] = value
        Image.fromarray(labels).save(path)
    assert opened(tmp_path).check.found == {}


def test_files_that_no_reader_takes_are_named_and_other_suffixes_read(tmp_path: Path) -> None:
    make_maps(tmp_path)
    (tmp_path / "images" / "a.heic").touch()
    path = tmp_path / "masks" / "val.png"
    Image.open(path).convert("I;16").save(path.with_suffix(".TIF"))
    path.unlink()
    index = tmp_path / "index.csv"
    index.write_text(index.read_text().replace(",val", ",Valid").replace("test,", " test ,"))
    source = opened(tmp_path)
    assert source.parts == ("train", "validation", "test")
    assert source.check.found == {"other-file": ["images/a.heic"]}
    path.with_suffix(".jpg").touch()
    with pytest.raises(DataError, match="JPEG changes pixel values"):
        opened(tmp_path)


@pytest.mark.data
def test_nuclei_are_counted_as_their_readme_does(real_data: Path) -> None:
    source = opened(real_data / "dsb2018-nuclei")
    assert [len(source.part(part)) for part in source.parts] == [319, 74, 78]
    assert sum(source.counts(part)["nucleus"] for part in source.parts) == 15826
    assert source.check.found == {}
