from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detection_files import SIZE, Content, coco_content, make_coco, opened, picture
from PIL import Image
from pycocotools.coco import COCO

from fewpairs.data.split import Split
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.detection.annotation_issues import DamagedAnnotationsError
from fewpairs.kinds.detection.layouts.open import detect_detection, open_detection


def test_images_objects_and_masks_are_cocos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = opened(make_coco(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.category_ids == (3, 7)
    assert source.category_of == {"cat": 3, "dog": 7}
    assert source.parts == ("train",)
    assert source.has_masks
    assert source.counts("train") == {"cat": 1, "dog": 1}
    assert source.crowds("train") == 1
    assert detect_detection(tmp_path) == "coco"
    coco = COCO(str(tmp_path / "annotations" / "instances_train2017.json"))
    capsys.readouterr()
    for record in source.records:
        objects, truth = record.objects(masks=True), coco.imgToAnns[record.number]
        assert len(objects) == len(truth) == record.count
        assert objects.masks is not None
        for place, one in enumerate(truth):
            left, top, width, height = one["bbox"]
            assert objects.boxes[place].tolist() == [left, top, left + width, top + height]
            assert source.category_ids[objects.labels[place]] == one["category_id"]
            assert float(objects.area[place]) == one["area"]
            assert bool(objects.crowd[place]) == bool(one["iscrowd"])
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # NumPy's, of pycocotools
                wanted = coco.annToMask(one)
            np.testing.assert_array_equal(objects.masks[place].numpy(), wanted)
    assert source.check.count("empty") == 1
    assert source.records[0].read().size == (60, 40)


def test_parts_are_told_by_the_names_of_files(tmp_path: Path) -> None:
    make_coco(tmp_path)
    make_coco(tmp_path, part="val2017")
    source = opened(tmp_path)
    assert source.parts == ("train", "validation")
    assert source.part("validation")[0].file == tmp_path / "val2017" / "0.png"
    with pytest.raises(InputError, match=r"no part 'test'; .*known: train, validation"):
        source.part("test")


def test_a_share_of_training_validates_where_there_is_no_such_part(tmp_path: Path) -> None:
    make_coco(tmp_path)
    split = Split(fraction=0.34, seed=3)
    source = open_detection("coco", tmp_path, split=split)
    assert (len(source.part("train")), len(source.part("validation"))) == (2, 1)
    assert "validation is 1 of the 3 training images, drawn with seed 3" in source.split
    again = open_detection("coco", tmp_path, split=split)
    assert [one.id for one in again.part("validation")] == [one.id for one in source.part("validation")]
    folds = [open_detection("coco", tmp_path, split=Split(folds=3, fold=fold, seed=3)) for fold in range(3)]
    assert [one.id for one in folds[0].part("validation")] == [one.id for one in source.part("validation")]
    assert sorted(one.id for fold in folds for one in fold.part("validation")) == ["0.png", "1.png", "2.png"]
    with pytest.raises(InputError, match=r"fold=3: with fraction=0\.34 the folds are 0 to 2"):
        open_detection("coco", tmp_path, split=Split(fraction=0.34, fold=3))


def test_roboflows_layout_and_other_folders(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        content = coco_content()
        for entry in content["images"]:
            picture(tmp_path / part / entry["file_name"])
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    source = opened(tmp_path)
    assert source.parts == ("train", "validation")
    assert source.part("validation")[0].file == tmp_path / "valid" / "0.png"
    assert detect_detection(tmp_path) == "coco"


def test_an_export_with_parts_in_other_words(tmp_path: Path) -> None:
    for part in ("Training", "Val", "test_set"):
        content = coco_content()
        for entry in content["images"]:
            picture(tmp_path / part / entry["file_name"])
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    assert detect_detection(tmp_path) == "coco"
    assert opened(tmp_path).parts == ("train", "validation", "test")
    (tmp_path / "Training").rename(tmp_path / "Val" / "inner")
    alone = opened(tmp_path / "Val" / "inner")
    assert (alone.parts, len(alone)) == (("train",), 3)


def test_names_of_parts_and_suffixes_in_capitals(tmp_path: Path) -> None:
    make_coco(tmp_path)
    old = tmp_path / "annotations" / "instances_train2017.json"
    old.rename(old.with_name("Instances_Train2017.JSON"))
    (tmp_path / "train2017").rename(tmp_path / "Train2017")
    assert opened(tmp_path).parts == ("train",)


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 2, 3, 4]],
        [[5, 6, 15, 6, 15, 14], [1, 2]],
        [[1, 2, 3, 4, 5, float("nan")]],
        "x",
        {"size": [9, 9], "counts": "1"},
    ],
)
def test_an_object_with_a_bad_mask_keeps_its_box_where_no_mask_is_needed(mask: object, tmp_path: Path) -> None:
    make_coco(tmp_path, annotation(0, segmentation=mask))
    with pytest.raises(DamagedAnnotationsError, match=r"annotation 1 \(id 1\) in 0\.png"):
        opened(tmp_path)
    source = opened(tmp_path, on_error="skip")
    assert source.check.count("bad-mask") == 1
    assert source.has_masks
    boxes, masks = source.records[0].objects(), source.records[0].objects(masks=True)
    assert boxes.boxes.tolist() == [[5, 6, 15, 14], [10, 0, 12, 5]]
    assert boxes.labels.tolist() == [0, 1]
    assert masks.boxes.tolist() == [[10, 0, 12, 5]]
    assert masks.labels.tolist() == [1]
    assert masks.masks is not None
    assert masks.masks.sum() == 10

    def without_box(content: Content) -> None:
        annotation(0, segmentation=mask)(content)
        del content["annotations"][0]["bbox"]

    make_coco(tmp_path, without_box)
    assert len(opened(tmp_path, on_error="skip").records[0].objects()) == 1


def test_files_and_folders_can_be_named(tmp_path: Path) -> None:
    make_coco(tmp_path)
    (tmp_path / "train2017").rename(tmp_path / "pictures")
    with pytest.raises(InputError, match=r"its image 0\.png lies in none of"):
        opened(tmp_path)
    named = opened(tmp_path, images="pictures", validation="annotations/instances_train2017.json")
    assert named.parts == ("validation",)
    with pytest.raises(InputError, match="is not a file"):
        opened(tmp_path, train="none.json")
    with pytest.raises(InputError, match="is not a folder"):
        opened(tmp_path, images="none/{part}")


def test_two_files_of_a_part_are_refused(tmp_path: Path) -> None:
    make_coco(tmp_path)
    make_coco(tmp_path, part="train2014")
    with pytest.raises(InputError, match="several files for train"):
        opened(tmp_path)


def test_classes_can_be_chosen_and_ordered(tmp_path: Path) -> None:
    source = opened(make_coco(tmp_path), classes=("dog",))
    assert source.classes == ("dog",)
    assert source.category_ids == (7,)
    assert source.check.count("other-class") == 1
    assert source.counts("train") == {"dog": 1}
    with pytest.raises(InputError, match="no category 'dig'; did you mean 'dog'"):
        opened(tmp_path, classes=("dig",))


def annotation(place: int, **values: object) -> Callable[[Content], None]:
    return lambda content: content["annotations"][place].update(values)


def image(place: int, **values: object) -> Callable[[Content], None]:
    return lambda content: content["images"][place].update(values)


def repeat(key: str, **values: object) -> Callable[[Content], None]:
    return lambda content: content[key].append(content[key][0] | values)


@pytest.mark.parametrize(
    ("change", "kind", "place"),
    [
        (annotation(0, category_id=5), "unknown-class", r"annotation 1 \(id 1\): category 5 in 0\.png"),
        (annotation(0, image_id=99), "missing-image", r"annotation 1 \(id 1\): image 99"),
        (repeat("images", file_name="x.png"), "repeated-image", r"image 4: id 10 \(x\.png\)"),
        (repeat("images", id=77), "repeated-image", r"image 4: file 0\.png \(id 77\)"),
        (image(0, height=80), "other-size", r"0\.png \(40 x 60 pixels, annotated as 80 x 60\)"),
        (image(0, file_name="gone.png"), "missing-file", r"gone\.png"),
        (image(0, file_name="../0.png"), "bad-image", "outside of its folder"),
        (image(0, height=0), "bad-image", "no height and width above 0"),
        (image(0, id="x"), "bad-image", "no whole number as id"),
        (annotation(0, segmentation=[[1, 2, 3, 4]]), "bad-mask", "2 points"),
        (annotation(0, segmentation={"size": [60, 40], "counts": [2400]}), "bad-mask", r"\[60, 40\]"),
        (annotation(0, segmentation={"size": [40, 60], "counts": [7]}), "bad-mask", "7 pixels"),
        (annotation(0, segmentation={"size": [40, 60], "counts": "\\"}), "bad-mask", "pixels|within"),
        (annotation(0, segmentation="x"), "bad-mask", "neither polygons"),
        (annotation(0, bbox=[1, 2, 3]), "bad-object", "not four numbers"),
        (annotation(0, bbox=[1, 2, 3, float("nan")]), "bad-object", "not four numbers"),
        (annotation(0, area=-1), "bad-object", "area"),
        (annotation(0, iscrowd=2), "bad-object", "iscrowd"),
        (lambda content: content["annotations"].append(4), "bad-object", "is not an object"),
    ],
)
def test_contradictions_stop_with_every_place_named(
    tmp_path: Path, change: Callable[[Content], None], kind: str, place: str
) -> None:
    make_coco(tmp_path, change)
    with pytest.raises(DamagedAnnotationsError, match=place) as caught:
        opened(tmp_path)
    assert set(caught.value.issues) <= {kind, "missing-image", "bad-mask"}
    assert kind in caught.value.issues
    skipped = opened(tmp_path, on_error="skip")
    assert skipped.check.count(kind) == 1
    assert skipped.check.errors()


def test_everything_wrong_is_listed_at_once(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        annotation(0, category_id=5)(content)
        annotation(1, image_id=99)(content)
        image(2, file_name="gone.png")(content)

    make_coco(tmp_path, change)
    with pytest.raises(DamagedAnnotationsError, match="has 3 errors in its annotations") as caught:
        opened(tmp_path)
    assert set(caught.value.issues) == {"unknown-class", "missing-image", "missing-file"}


@pytest.mark.parametrize(
    ("change", "kind", "left"),
    [
        (annotation(0, bbox=[5, 6, 0, 8]), "no-area", 2),
        (annotation(0, bbox=[5, 6, -3, 8]), "no-area", 2),
        (annotation(0, bbox=[70, 6, 10, 8]), "outside", 2),
        (annotation(0, bbox=[50, 30, 20, 20]), "clipped", 3),
        (repeat("annotations"), "repeated-object", 3),
        (repeat("annotations", bbox=[1, 1, 2, 2]), "repeated-id", 4),
        (lambda content: content["annotations"][0].pop("segmentation"), "no-mask", 3),
        (annotation(0, segmentation=[]), "no-mask", 3),
        (annotation(0, segmentation=[[2, 2, 2, 2, 2, 2]]), "empty-mask", 3),
    ],
)
def test_oddities_are_counted_and_named(
    tmp_path: Path, change: Callable[[Content], None], kind: str, left: int
) -> None:
    source = opened(make_coco(tmp_path, change))
    assert source.check.count(kind) == 1
    assert len(source.table.labels) == left
    assert any("instances_train2017.json annotation" in sentence for sentence in source.check.sentences())
    height, width = SIZE
    assert (source.table.boxes >= 0).all()
    assert (source.table.boxes <= [width, height, width, height]).all()
    assert source.has_masks == (kind != "no-mask")


def test_boxes_areas_and_crowds_that_are_not_given(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for entry in content["annotations"]:
            for key in ("bbox", "area", "iscrowd"):
                del entry[key]

    objects = opened(make_coco(tmp_path, change)).records[0].objects()
    assert objects.boxes[0].tolist() == [5, 6, 15, 14]
    assert objects.area.tolist() == [80, 10]
    assert not objects.crowd.any()


def test_masks_are_refused_where_there_are_none(tmp_path: Path) -> None:
    source = opened(make_coco(tmp_path, annotation(0, segmentation=[])))
    with pytest.raises(InputError, match="boxes without masks"):
        source.records[0].objects(masks=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": }', r"line 2, column \d+: not JSON"),
        ("[]", "no list of images and of annotations and of categories"),
        ('{"images": [], "annotations": [], "categories": []}', "has no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category 1 has no"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "has no images"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "repeats the id 1",
        ),
    ],
)
def test_what_is_no_coco_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "instances_train.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        opened(tmp_path)


def test_parts_with_other_categories_are_refused(tmp_path: Path) -> None:
    make_coco(tmp_path)
    make_coco(tmp_path, lambda content: content.update(categories=[{"id": 1, "name": "cow"}]), part="val2017")
    with pytest.raises(DataError, match=r"has the categories 1 cow, .* has 3 cat, 7 dog"):
        opened(tmp_path)


def test_a_folder_without_coco_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no COCO JSON"):
        opened(tmp_path)
    with pytest.raises(InputError, match="unknown layout kind='cocoo'; did you mean 'coco'"):
        open_detection("cocoo", tmp_path)
    with pytest.raises(InputError, match="difficult: no option of the layout 'coco'"):
        opened(tmp_path, difficult="keep")
    with pytest.raises(InputError, match="is not a folder"):
        opened(tmp_path / "none")
    assert detect_detection(tmp_path) is None


def test_pictures_with_an_orientation_are_named_and_read_as_stored(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for place, entry in enumerate(content["images"]):
            entry["file_name"] = f"{place}.jpg"

    make_coco(tmp_path, change)
    for place in range(3):
        exif = Image.Exif()
        exif[0x0112] = 6 if place == 0 else 1
        picture(tmp_path / "train2017" / f"{place}.jpg", exif=exif)
    source = opened(tmp_path)
    assert source.check.found["turned"] == ["0.jpg (orientation 6)"]
    assert source.records[0].read().size == (60, 40)

    def turned(content: Content) -> None:
        change(content)
        image(0, height=60, width=40)(content)
        content["annotations"] = []

    make_coco(tmp_path, turned)
    with pytest.raises(DataError, match="as its EXIF orientation turns it"):
        opened(tmp_path)


def test_damaged_pictures_are_found_on_opening_or_on_reading(tmp_path: Path) -> None:
    make_coco(tmp_path)
    path = tmp_path / "train2017" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DamagedAnnotationsError, match=r"1\.png is not a readable picture"):
        opened(tmp_path)
    source = opened(tmp_path, look="none")
    with pytest.raises(DataError, match=r"1\.png is not a readable picture"):
        source.records[1].read()
    picture(path, (20, 20))
    with pytest.raises(DataError, match="annotations are for 40 x 60"):
        source.records[1].read()
