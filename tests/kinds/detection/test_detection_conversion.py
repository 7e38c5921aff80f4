from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from detection_files import SIZE, make_coco, make_maps, make_voc, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.detection.conversion import convert
from fewpairs.kinds.detection.layouts.layouts import open_detection
from fewpairs.kinds.detection.source import DetectionSource


def same(one: DetectionSource, other: DetectionSource, *, masks: bool = False, ids: bool = True) -> None:
    """Two sources hold the same images, parts and objects."""
    assert one.classes == other.classes
    assert one.parts == other.parts
    for part in one.parts:
        left, right = one.part(part), other.part(part)
        if ids:
            assert [record.id for record in left] == [record.id for record in right]
        for first, second in zip(left, right, strict=True):
            assert first.size == second.size
            a, b = first.objects(masks=masks), second.objects(masks=masks)
            np.testing.assert_array_equal(a.boxes.numpy(), b.boxes.numpy())
            np.testing.assert_array_equal(a.labels.numpy(), b.labels.numpy())
            np.testing.assert_array_equal(a.crowd.numpy(), b.crowd.numpy())
            if masks:
                assert a.masks is not None
                assert b.masks is not None
                np.testing.assert_array_equal(a.masks.numpy(), b.masks.numpy())
                np.testing.assert_array_equal(a.area.numpy(), b.area.numpy())


def test_voc_to_coco_and_back(tmp_path: Path) -> None:
    source = open_detection("voc", make_voc(tmp_path / "voc"))
    done = convert(source, tmp_path / "coco", "coco")
    assert (done.images, done.objects, done.lost) == (5, 5, ())
    coco = open_detection("coco", tmp_path / "coco")
    same(source, coco)
    again = convert(coco, tmp_path / "again", "voc")
    assert again.lost == ("1 crowds are written as difficult objects",)
    same(source, open_detection("voc", tmp_path / "again"))
    original, copied = tmp_path / "voc" / "JPEGImages" / "a.png", tmp_path / "again" / "JPEGImages" / "a.png"
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.is_symlink()


def test_coco_to_coco_keeps_masks_areas_and_numbers(tmp_path: Path) -> None:
    source = open_detection("coco", make_coco(tmp_path / "one"))
    convert(source, tmp_path / "two", "coco", images="link")
    other = open_detection("coco", tmp_path / "two")
    same(source, other, masks=True)
    assert other.category_ids == (3, 7)
    assert [record.number for record in other.records] == [record.number for record in source.records]
    assert (tmp_path / "two" / "train" / "0.png").is_symlink()


def test_masks_do_not_travel_to_voc_and_that_is_said(tmp_path: Path) -> None:
    source = open_detection("coco", make_coco(tmp_path / "coco"))
    done = convert(source, tmp_path / "voc", "voc")
    assert "the masks of 3 objects" in done.lost[0]
    assert "1 crowds" in done.lost[1]
    assert "the areas of 1 objects" in done.lost[2]
    same(source, open_detection("voc", tmp_path / "voc"))


def test_label_maps_to_coco(tmp_path: Path) -> None:
    source = open_detection("nuclei-masks", make_maps(tmp_path / "maps"))
    convert(source, tmp_path / "coco", "coco")
    same(source, open_detection("coco", tmp_path / "coco"), masks=True)


BOXES = st.tuples(
    st.floats(0, 50, width=32), st.floats(0, 30, width=32), st.floats(0.5, 9, width=32), st.floats(0.5, 9, width=32)
)
OBJECTS = st.lists(st.tuples(BOXES, st.integers(0, 1), st.booleans()), max_size=4)


@settings(max_examples=8)
@given(st.lists(OBJECTS, min_size=1, max_size=3))
def test_any_boxes_go_to_voc_and_back(images: list) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        annotations = [
            {"id": 0, "image_id": place, "category_id": label, "bbox": list(box), "iscrowd": int(crowd)}
            for place, objects in enumerate(images)
            for box, label, crowd in objects
        ]
        for number, one in enumerate(annotations):
            one["id"] = number
        names = ["a b.png", "c/d.png", "c_d.png"]
        content = {
            "images": [
                {"id": place, "file_name": names[place], "height": SIZE[0], "width": SIZE[1]}
                for place in range(len(images))
            ],
            "categories": [{"id": 0, "name": "a & b"}, {"id": 1, "name": "ünï <c>"}],
            "annotations": annotations,
        }
        for entry in content["images"]:
            picture(root / "coco" / "images" / entry["file_name"])
        (root / "coco" / "instances_train.json").write_text(json.dumps(content))
        source = open_detection("coco", root / "coco")
        convert(source, root / "voc", "voc")
        if not {0, 1} <= {label for objects in images for _, label, _ in objects}:
            return  # VOC does not know a class without objects
        back = open_detection("voc", root / "voc")
        same(source, back, ids=False)
        convert(back, root / "again", "coco")
        same(back, open_detection("coco", root / "again"))


def test_images_of_one_name_in_two_parts_get_names_of_their_own(tmp_path: Path) -> None:
    make_coco(tmp_path / "coco")
    make_coco(tmp_path / "coco", part="val2017")
    source = open_detection("coco", tmp_path / "coco")
    convert(source, tmp_path / "voc", "voc")
    voc = open_detection("voc", tmp_path / "voc")
    assert [record.id for record in voc.part("val")] == ["val_0.png", "val_1.png", "val_2.png"]
    same(source, voc, ids=False)


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path) -> None:
    source = open_detection("voc", make_voc(tmp_path / "voc"))
    convert(source, tmp_path / "coco", "coco")
    with pytest.raises(InputError, match="is not empty; give another folder, or --overwrite"):
        convert(source, tmp_path / "coco", "coco")
    convert(source, tmp_path / "coco", "coco", overwrite=True, images="link")
    same(source, open_detection("coco", tmp_path / "coco"))
    convert(source, tmp_path / "coco", "coco", overwrite=True)
    assert not (tmp_path / "coco" / "train" / "a.png").is_symlink()
    with pytest.raises(InputError, match="is the data set itself"):
        convert(source, tmp_path / "voc", "coco", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        convert(source, tmp_path / "file", "coco")


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    source = open_detection("voc", make_voc(tmp_path / "voc"))
    with pytest.raises(InputError, match="unknown layout 'cocoa'"):
        convert(source, tmp_path / "new", "cocoa")
    with pytest.raises(InputError, match="images='move'"):
        convert(source, tmp_path / "new", "coco", images="move")
    make_coco(tmp_path / "odd", lambda content: content["categories"][1].update(name=" cat\n"))
    with pytest.raises(InputError, match="XML cannot hold"):
        convert(open_detection("coco", tmp_path / "odd"), tmp_path / "new", "voc")


def test_a_class_without_objects_is_named(tmp_path: Path) -> None:
    make_coco(tmp_path / "coco", lambda content: content["categories"].append({"id": 9, "name": "yak"}))
    done = convert(open_detection("coco", tmp_path / "coco"), tmp_path / "voc", "voc")
    assert "classes without an object, which VOC does not list: yak" in done.lost
