"""Numbers in masks: binary ones, absent classes, labels that are not scored, and formats that keep or lose them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scene_files import CLASSES, make_folder, save, scene

from fewpairs.errors import DataError
from fewpairs.kinds.semantic.check import check_classes, check_images, summarize_images
from fewpairs.kinds.semantic.labels import NumberReading
from fewpairs.kinds.semantic.layouts.open import SemanticOptions, open_semantic
from fewpairs.types import IGNORE

PLAIN = SemanticOptions(classes=CLASSES)


def binary_folder(root, value=255, suffix="png", **options):
    """`images` beside `masks` of 0 and `value`, in which a square is the class."""
    for number in range(4):
        image, _ = scene(number, (20, 24))
        labels = np.zeros((20, 24), np.uint8)
        labels[4:9, 2 + number : 9 + number] = value
        save(root / "images" / f"{number}.png", image)
        path = root / "masks" / f"{number}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(labels).save(path, **options)
    return root


def test_masks_of_0_and_255_are_an_error_with_the_remedy(tmp_path):
    options = {"classes": ("background", "nucleus")}
    source = open_semantic("label-maps", binary_folder(tmp_path), SemanticOptions(**options))
    said = (
        r"none of 4 masks has a pixel of nucleus; the numbers in them are 0, 255, of which 255 is not scored .*"
        r'data\.source\.classes="\{background: 0, nucleus: 255\}" or data\.source\.nonzero=true'
    )
    with pytest.raises(DataError, match=said):
        check_classes(source, progress=False)
    for decode in (False, True):
        (problem,) = summarize_images(source, decode=decode, progress=False).problems
        assert "none of 4 masks has a pixel of nucleus" in problem
    for remedy in ({"classes": {"background": 0, "nucleus": 255}}, {**options, "nonzero": True}):
        mended = open_semantic("label-maps", tmp_path, SemanticOptions(**remedy))
        assert check_classes(mended, progress=False) == ()
        files = mended.part("train")[0]
        truth = np.asarray(Image.open(files.mask)) == 255
        np.testing.assert_array_equal(mended.read(files)[1], truth.astype(np.uint8))
    with pytest.raises(DataError, match=r"holds the label 255, but the 2 classes have the labels 0 to 1;"):
        check_classes(open_semantic("label-maps", tmp_path, SemanticOptions(**options, ignore=None)), progress=False)


def test_a_class_that_no_mask_has_is_an_error_if_the_user_named_it(tmp_path):
    root = make_folder(tmp_path)
    source = open_semantic("label-maps", root, SemanticOptions(classes=(*CLASSES, "cup")))
    with pytest.raises(
        DataError, match=r"none of 9 masks has a pixel of cup; the numbers in them are 0, 1, 2; correct"
    ):
        check_classes(source, progress=False)
    assert check_classes(open_semantic("label-maps", root, PLAIN), progress=False) == ()
    for part in ("training", "validation"):
        save(tmp_path / "ade" / "images" / part / "a.jpg", scene(1)[0])
        save(
            tmp_path / "ade" / "annotations" / part / "a.png",
            np.repeat([[1], [2]], [20, 20], 0).repeat(48, 1).astype(np.uint8),
        )
    (note,) = check_classes(open_semantic("ade20k", tmp_path / "ade"), progress=False)
    assert "none of 2 masks has a pixel of sky, floor" in note
    save(tmp_path / "ade" / "annotations" / "training" / "a.png", np.ones((40, 48), np.uint8))
    save(tmp_path / "ade" / "annotations" / "validation" / "a.png", np.ones((40, 48), np.uint8))
    with pytest.raises(DataError, match="none of 2 masks has a pixel of building, sky"):
        check_classes(open_semantic("ade20k", tmp_path / "ade"), progress=False)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=12), st.permutations(range(3)))
def test_stored_numbers_of_classes_are_read_as_they_are_named(tmp_path_factory, values, order):
    path = tmp_path_factory.mktemp("numbers") / "x.png"
    Image.fromarray(np.array([values], np.uint8)).save(path)
    numbers = {"a": (0,), "b": (255, 7), "c": (85,)}
    named = {name: numbers[name] for name in (list(numbers)[place] for place in order)}
    meaning = {number: label for label, mine in enumerate(named.values()) for number in mine}
    if set(values) <= set(meaning):
        assert NumberReading.named(named)(path)[0].tolist() == [meaning[value] for value in values]
    else:
        with pytest.raises(
            DataError, match=r"x\.png holds the label .* but the 3 classes have the labels 0, 7, 85, 255;"
        ):
            NumberReading.named(named)(path)


def test_numbers_called_ignore_are_not_scored_and_no_class(tmp_path):
    save(tmp_path / "images" / "x.png", np.zeros((1, 5, 3), np.uint8))
    save(tmp_path / "masks" / "x.png", np.array([[0, 85, 170, 7, 255]], np.uint8))
    options = SemanticOptions(classes={"Ignore": (7, 0), "a": 85, "b": 170})
    source = open_semantic("label-maps", tmp_path, options)
    assert source.classes == ("a", "b")
    assert source.read(source.part("train")[0])[1].tolist() == [[IGNORE, 0, 1, IGNORE, IGNORE]]
    assert check_classes(source, progress=False) == ()


def test_zero_that_is_not_scored_leaves_255_unscored_too(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8)).save(path)
    options = SemanticOptions(classes=("a", "b"), zero_is_ignored=True)
    save(tmp_path / "data" / "images" / "x.png", np.zeros((1, 4, 3), np.uint8))
    save(tmp_path / "data" / "masks" / "x.png", np.array([[0, 1, 2, 255]], np.uint8))
    source = open_semantic("label-maps", tmp_path / "data", options)
    assert source.read(source.part("train")[0])[1].tolist() == [[IGNORE, 0, 1, IGNORE]]
    with pytest.raises(
        DataError, match=r"holds the label 2, .*classes count from 1, set data\.source\.zero_is_ignored"
    ):
        NumberReading.plain(("a", "b"))(path)


@pytest.mark.parametrize(("suffix", "options"), [("webp", {"lossless": True}), ("TIF", {}), ("gif", {}), ("PNG", {})])
def test_masks_of_other_formats_and_suffixes_are_read(tmp_path, suffix, options):
    root = binary_folder(tmp_path, suffix=suffix, **options)
    source = open_semantic("label-maps", root, SemanticOptions(classes={"background": 0, "nucleus": 255}))
    assert check_images(source, source.part("train"), decode=True, progress=False) == ()
    assert check_classes(source, progress=False) == ()


def test_grey_masks_that_are_stored_in_colour_are_read(tmp_path):
    root = make_folder(tmp_path)
    path = root / "masks" / "train" / "2.png"
    labels = np.asarray(Image.open(path))
    Image.fromarray(labels).convert("RGB").save(path)
    source = open_semantic("label-maps", root, PLAIN)
    np.testing.assert_array_equal(source.read(source.part("train")[2])[1], labels)


def test_lossy_masks_are_refused_by_the_check_of_headers(tmp_path):
    root = make_folder(tmp_path)
    path = root / "masks" / "train" / "2.png"
    Image.fromarray(np.asarray(Image.open(path))).save(path, format="WEBP", quality=95)
    source = open_semantic("label-maps", root, PLAIN)
    with pytest.raises(DataError, match=r"2\.png: lossy WebP changes pixel values, so it cannot hold masks"):
        check_images(source, source.part("train"), progress=False)
    path.rename(path.with_suffix(".jpg"))
    with pytest.raises(DataError, match=r"2\.jpg: JPEG changes pixel values"):
        open_semantic("label-maps", root, PLAIN)
