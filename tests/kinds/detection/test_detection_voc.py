from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from detection_files import make_voc, picture, voc_file, voc_list, voc_object
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.data.description import Check
from fewpairs.data.split import Split
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.detection.annotation_issues import DamagedAnnotationsError
from fewpairs.kinds.detection.layouts.open import detect_detection, open_detection
from fewpairs.kinds.detection.layouts.voc import read_voc
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource


def opened(root: Path, split: Split | None = None, look: Check = "header", **options: object) -> DetectionSource:
    return open_detection("voc", root, DetectionOptions(**options), split=split, look=look)  # type: ignore[arg-type]


def test_parts_classes_and_boxes(tmp_path: Path) -> None:
    source = opened(make_voc(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.parts == ("train", "validation", "test")
    assert not source.has_masks
    first, second, third = source.part("train")
    assert (first.id, first.size, first.file) == ("a.png", (40, 60), tmp_path / "JPEGImages" / "a.png")
    objects = first.objects()
    assert objects.boxes.tolist() == [[1, 2, 11, 12], [0, 0, 60, 40]]
    assert objects.labels.tolist() == [0, 1]
    assert objects.area.tolist() == [100, 2400]
    assert objects.masks is None
    assert second.objects().crowd.tolist() == [True]
    assert third.count == 0
    assert source.part("validation")[0].objects().boxes[0].tolist() == [3.5, 4.25, 20, 30]
    assert len(source.part("train").with_objects()) == 1
    assert detect_detection(tmp_path) == "voc"


def test_difficult_objects_are_ignored_kept_or_dropped(tmp_path: Path) -> None:
    make_voc(tmp_path)
    kept, dropped = opened(tmp_path, difficult="keep"), opened(tmp_path, difficult="drop")
    assert kept.part("train")[1].objects().crowd.tolist() == [False]
    assert dropped.part("train")[1].count == 0
    assert opened(tmp_path).check.found["difficult"] == ["b.xml object 1 (cat)"]


def test_pixels_are_counted_from_one_in_the_challenges(tmp_path: Path) -> None:
    make_voc(tmp_path)
    assert opened(tmp_path, first_pixel=1).records[0].objects().boxes[0].tolist() == [0, 1, 11, 12]
    source = "<source><database>The VOC2007 Database</database></source>"
    voc_file(tmp_path, "a", voc_object("cat", (1, 1, 1, 1)), extra=source)
    assert opened(tmp_path).records[0].objects().boxes.tolist() == [[0, 0, 1, 1]]
    assert opened(tmp_path, first_pixel=0).check.count("no-area") == 1


def test_boxes_without_area_and_outside_are_counted_and_named(tmp_path: Path) -> None:
    make_voc(tmp_path)
    boxes = [(5, 5, 5, 5), (70, 5, 80, 9), (-2, -2, 4, 4), (1, 1, 3, 3)]
    voc_file(tmp_path, "a", *(voc_object("cat", box) for box in boxes))
    source = opened(tmp_path)
    assert source.check.found["no-area"] == ["a.xml object 1 (cat) (5,5,5,5)"]
    assert source.check.found["outside"] == ["a.xml object 2 (cat) (70,5,80,9 in 60 x 40)"]
    assert source.check.found["clipped"] == ["a.xml object 3 (cat) (-2,-2,4,4 in 60 x 40)"]
    assert source.records[0].objects().boxes.tolist() == [[0, 0, 4, 4], [1, 1, 3, 3]]
    assert source.records[0].objects().area.tolist() == [16, 4]


def test_without_lists_a_share_validates(tmp_path: Path) -> None:
    for name in "abcde":
        voc_file(tmp_path, name, voc_object("cat", (1, 1, 3, 3)))
    source = opened(tmp_path, split=Split(test_fraction=0.2))
    assert [len(source.part(part)) for part in ("train", "validation", "test")] == [3, 1, 1]


def test_trainval_is_for_training_where_there_is_no_train(tmp_path: Path) -> None:
    make_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    voc_list(tmp_path, "trainval", "a 1", "b -1", "c  0")
    assert [one.id for one in opened(tmp_path).part("train")] == ["a.png", "b.png", "c.png"]
    named = opened(tmp_path, train="trainval", split=Split(fraction=0.4))
    assert [len(named.part(part)) for part in named.parts] == [2, 1]
    assert named.check.found["unlisted"] == ["d", "e"]
    with pytest.raises(InputError, match="is not a file"):
        opened(tmp_path, train="none")


def test_of_several_pictures_the_one_named_is_taken(tmp_path: Path) -> None:
    voc_file(tmp_path, "a", voc_object("cat", (1, 1, 3, 3)))
    picture(tmp_path / "JPEGImages" / "a.jpg")
    assert opened(tmp_path).records[0].id == "a.jpg"
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("other.jpg", "a.png"))
    assert opened(tmp_path).records[0].id == "a.png"


def test_a_size_that_is_not_given_is_the_files(tmp_path: Path) -> None:
    voc_file(tmp_path, "a", voc_object("cat", (1, 1, 3, 3)), size=(0, 0))
    for looked in ("header", "none"):
        source = opened(tmp_path, look=looked)
        assert source.records[0].size == (40, 60)
        assert source.check.found["no-size"] == ["a.png"]


def test_contradictions_are_all_named(tmp_path: Path) -> None:
    make_voc(tmp_path)
    voc_list(tmp_path, "val", "d", "d", "gone", "a")
    voc_file(tmp_path, "b", size=(99, 60))
    voc_file(tmp_path, "c", "<object><name>cat</name></object>", "<object></object>")
    (tmp_path / "JPEGImages" / "e.png").unlink()
    (tmp_path / "Annotations" / "d.xml").write_text("<annotation>\n<object>\n</annotation>")
    with pytest.raises(DamagedAnnotationsError) as caught:
        opened(tmp_path)
    found = caught.value.issues
    assert found["repeated-image"] == ("val.txt line 2: d (validation)",)
    assert found["missing-annotation"] == ("gone",)
    assert found["two-parts"] == ("a.png (train and validation)",)
    assert found["other-size"] == ("b.png (40 x 60 pixels, annotated as 99 x 60)",)
    assert "not four numbers: xmin=None" in found["bad-object"][0]
    assert "has no name" in found["bad-object"][1]
    assert found["missing-file"][0].endswith("e.jpg")
    assert "d.xml, line 3: not readable as XML" in found["unreadable"][0]
    skipped = opened(tmp_path, on_error="skip")
    assert [one.id for one in skipped.records] == ["a.png", "c.png"]


def test_classes_can_be_chosen(tmp_path: Path) -> None:
    source = opened(make_voc(tmp_path), classes=("dog",))
    assert source.classes == ("dog",)
    assert source.check.count("other-class") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("<a/>", "outermost element is <a>"), ("<annotation>", "line 1: not readable"), ("", "line 1: not readable")],
)
def test_what_is_no_voc_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_voc(path)


@pytest.mark.parametrize(("value", "wrong"), [("2", True), ("x", True), ("", False), (" 1 ", False)])
def test_difficult_is_0_or_1(tmp_path: Path, value: str, wrong: bool) -> None:
    voc_file(tmp_path, "a", voc_object("cat", (1, 1, 3, 3)).replace("<difficult>0", f"<difficult>{value}"))
    found = read_voc(tmp_path / "Annotations" / "a.xml")
    assert bool(found.wrong) == wrong
    assert len(found.objects) == (not wrong)


def test_a_folder_without_voc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="JPEGImages is not a folder; name it with images="):
        opened(tmp_path)
    voc_file(tmp_path, "a")
    with pytest.raises(DataError, match="no annotation holds an object"):
        opened(tmp_path)


@given(st.text(st.sampled_from("<>/&;1.-e \n") | st.characters(), max_size=12), st.integers(0, 400))
def test_whatever_is_changed_is_read_or_refused(text: str, place: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        voc_file(root, "a", voc_object("cat", (1, 1, 3, 3)), voc_object("dog", (1, 1, 3, 3), difficult=1))
        path = root / "Annotations" / "a.xml"
        whole = path.read_text()
        path.write_text(whole[:place] + text + whole[place + len(text) :], encoding="utf-8", errors="surrogatepass")
        for on_error in ("stop", "skip"):
            try:
                source = opened(root, on_error=on_error)
            except InputError:
                continue
            assert len(source.records[0].objects()) <= 2


@pytest.mark.data
def test_blood_cells_are_counted_as_their_readme_does(real_data: Path) -> None:
    source = opened(real_data / "bccd-blood-cells")
    assert [len(source.part(part)) for part in source.parts] == [205, 87, 72]
    counts = {name: sum(source.counts(part)[name] for part in source.parts) for name in source.classes}
    assert counts == {"Platelets": 361, "RBC": 4155 - 2, "WBC": 372}
    assert sorted(place[:16] for place in source.check.found["no-area"]) == ["BloodImage_00338", "BloodImage_00343"]
    assert set(source.check.found) == {"no-area"}


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Training", "Val", "test_set")])
def test_xml_files_beside_the_images_of_each_part(names: tuple[str, ...], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        for place in range(number + 1):
            voc_file(tmp_path / "made", f"{name} {place}", voc_object("cat", (1, 1, 3, 3)))
        (tmp_path / "made" / "JPEGImages").rename(
            tmp_path / "root" / name if number else _made(tmp_path / "root") / name
        )
        for path in (tmp_path / "made" / "Annotations").iterdir():
            path.rename(tmp_path / "root" / name / path.name)
    picture(tmp_path / "root" / names[0] / "more.png")
    (tmp_path / "root" / names[0] / "README.roboflow.txt").touch()
    assert detect_detection(tmp_path / "root") == "voc"
    source = opened(tmp_path / "root")
    assert [len(source.part(part)) for part in ("train", "validation", "test")] == [1, 2, 3]
    first = source.part("validation")[1]
    assert (first.id, first.file) == (f"{names[1]} 1.png", tmp_path / "root" / names[1] / f"{names[1]} 1.png")
    assert source.check.found == {
        "no-annotation": ["more.png"],
        "other-file": [f"{names[0]}/README.roboflow.txt"],
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_annotations_beside_images_and_suffixes_in_capitals(tmp_path: Path) -> None:
    make_voc(tmp_path)
    (tmp_path / "JPEGImages").rename(tmp_path / "images")
    (tmp_path / "Annotations").rename(tmp_path / "annotations")
    (tmp_path / "annotations" / "a.xml").rename(tmp_path / "annotations" / "a.XML")
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / "a.PNG")
    assert detect_detection(tmp_path) == "voc"
    assert [one.id for one in opened(tmp_path).part("train")] == ["a.PNG", "b.png", "c.png"]


def test_ids_in_lists_may_hold_blanks_and_suffixes(tmp_path: Path) -> None:
    for name in ("my cat 1", "my cat", "b", "c.d"):
        voc_file(tmp_path, name, voc_object("cat", (1, 1, 3, 3)))
    voc_list(tmp_path, "train", "my cat 1", "my cat  -1", "b.png", "c.d 1", "not there 1")
    with pytest.raises(DamagedAnnotationsError) as caught:
        opened(tmp_path)
    assert caught.value.issues == {"missing-annotation": ("not there",)}
    source = opened(tmp_path, on_error="skip", split=Split(fraction=0.0))
    assert [one.id for one in source.records] == ["my cat 1.png", "my cat.png", "b.png", "c.d.png"]


def test_lists_in_other_words_and_two_of_one_part(tmp_path: Path) -> None:
    make_voc(tmp_path)
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "val.txt").rename(lists / "Validation.txt")
    voc_list(tmp_path, "cat_train", "a 1")
    assert opened(tmp_path).parts == ("train", "validation", "test")
    voc_list(tmp_path, "valid", "d")
    with pytest.raises(InputError, match="several lists for validation: Validation, valid; name one"):
        opened(tmp_path)


def test_a_class_that_no_object_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no object has the class 'Dog'; did you mean 'dog'"):
        opened(make_voc(tmp_path), classes=("cat", "Dog"))


@pytest.mark.parametrize("value", ["nan", "a few", "", "inf"])
def test_boxes_of_text_or_nan_are_skipped_and_named(value: str, tmp_path: Path) -> None:
    make_voc(tmp_path)
    bad = voc_object("cat", (1, 1, 3, 3)).replace("<xmax>3<", f"<xmax>{value}<")
    voc_file(tmp_path, "a", voc_object("cat", (5, 5, 9, 9)), bad)
    with pytest.raises(DamagedAnnotationsError, match=r"a\.xml object 2 \(cat\) has a box that is not four numbers"):
        opened(tmp_path)
    source = opened(tmp_path, on_error="skip")
    assert source.records[0].objects().boxes.tolist() == [[5, 5, 9, 9]]
    assert source.check.count("bad-object") == 1


def test_an_annotation_of_the_turned_picture_is_told(tmp_path: Path) -> None:
    from PIL import Image

    make_voc(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 8
    (tmp_path / "JPEGImages" / "a.png").unlink()
    picture(tmp_path / "JPEGImages" / "a.jpg", exif=exif)
    assert opened(tmp_path).check.found["turned"] == ["a.jpg (orientation 8)"]
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<width>60</width><height>40", "<width>40</width><height>60"))
    with pytest.raises(
        DamagedAnnotationsError, match=r"annotated as 60 x 40, annotated as its EXIF orientation turns it"
    ):
        opened(tmp_path)
