"""Layouts and mask files: what is read, and what is refused with which words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scene_files import CLASSES, make_folder, save, scene

from fewpairs.data.split import Split
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.semantic.check import check_images, summarize_images
from fewpairs.kinds.semantic.labels import ColourReading, NonzeroReading, NumberReading
from fewpairs.kinds.semantic.layouts.open import SemanticOptions, open_semantic
from fewpairs.kinds.semantic.names import ADE20K, CITYSCAPES, palette, read_names
from fewpairs.kinds.semantic.split import split_semantic
from fewpairs.types import IGNORE

PLAIN = SemanticOptions(classes=CLASSES)


def test_a_folder_with_parts(tmp_path):
    source = open_semantic("label-maps", make_folder(tmp_path), PLAIN)
    assert {part: len(files) for part, files in source.parts.items()} == {"train": 6, "validation": 3}
    image, labels = source.read(source.part("validation")[1])
    picture, truth = scene(101)
    assert np.array_equal(np.asarray(image), picture)
    assert np.array_equal(labels, truth)
    assert source.channels == 3
    assert len({one.id for files in source.parts.values() for one in files}) == 9


def test_ade20k_counts_labels_from_one_and_ignores_zero(tmp_path):
    for part, folder in (("a", "training"), ("b", "validation")):
        save(tmp_path / "images" / folder / f"{part}.jpg", scene(1)[0])
        labels = np.zeros((40, 48), np.uint8)
        labels[:5], labels[5:9] = 1, 150
        save(tmp_path / "annotations" / folder / f"{part}.png", labels)
    source = open_semantic("ade20k", tmp_path)
    assert len(source.classes) == 150
    assert source.classes[0] == "wall"
    assert source.classes[149] == "flag"
    read = source.read(source.part("validation")[0])[1]
    assert (read[0, 0], read[6, 0], read[20, 0]) == (0, 149, IGNORE)
    (tmp_path / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.2\t9\t9\t1\twall\n2\t0.1\t9\t9\t1\tbuilding, edifice\n"
    )
    assert open_semantic("ade20k", tmp_path).classes == ("wall", "building")
    few = open_semantic("ade20k", tmp_path)
    with pytest.raises(DataError, match=r"a\.png holds the label 150, but the 2 classes have the labels 1 to 2"):
        few.read(few.part("train")[0])


@pytest.mark.parametrize("kind", ["labelTrainIds", "labelIds"])
def test_cityscapes_reads_training_labels_or_maps_label_ids(tmp_path, kind):
    for part in ("train", "val"):
        save(tmp_path / "leftImg8bit" / part / "ulm" / "ulm_1_leftImg8bit.png", scene(1)[0])
        labels = np.full((40, 48), 255 if kind == "labelTrainIds" else 0, np.uint8)
        labels[:4] = 18 if kind == "labelTrainIds" else 33
        save(tmp_path / "gtFine" / part / "ulm" / f"ulm_1_gtFine_{kind}.png", labels)
    source = open_semantic("cityscapes", tmp_path)
    labels = source.read(source.part("validation")[0])[1]
    assert (labels[0, 0], labels[10, 0]) == (18, IGNORE)
    assert source.classes == tuple(CITYSCAPES)
    assert source.colours[0] == (128, 64, 128)
    (tmp_path / "gtFine" / "val" / "ulm" / f"ulm_1_gtFine_{kind}.png").unlink()
    with pytest.raises(DataError, match=r"ulm_1_leftImg8bit\.png has no label map .*ulm_1_gtFine"):
        open_semantic("cityscapes", tmp_path)


def test_numbers_of_16_bits_and_of_a_palette_are_read(tmp_path):
    labels = scene(3)[1]
    deep, painted = tmp_path / "deep.png", tmp_path / "painted.png"
    Image.fromarray(labels.astype(np.uint16)).save(deep)
    picture = Image.fromarray(labels)
    picture.putpalette([value for colour in palette(256) for value in colour])
    assert picture.mode == "P"
    picture.save(painted)
    for path in (deep, painted):
        assert np.array_equal(NumberReading.plain(CLASSES)(path), labels)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 3), (np.uint8, 254), (np.uint16, 700)])
def test_a_label_over_the_class_count_is_named_with_its_file(tmp_path, dtype, value):
    labels = np.zeros((4, 4), dtype)
    labels[1, 1] = value
    path = save(tmp_path / "odd.png", labels)
    with pytest.raises(DataError, match=rf"odd\.png holds the label {value}, but the 3 classes have the labels 0 to 2"):
        NumberReading.plain(CLASSES)(path)


def test_colours_are_read_and_a_strange_one_is_named(tmp_path):
    colours = [(0, 0, 0), (255, 0, 0), (255, 255, 255)]
    labels = scene(4)[1]
    path = save(tmp_path / "c.png", np.array(colours, np.uint8)[labels])
    assert np.array_equal(ColourReading(colours)(path), labels)
    with pytest.raises(DataError, match=r"c\.png holds the colour \(255, 255, 255\)"):
        ColourReading(colours[:2])(path)
    with pytest.raises(DataError, match=r"c\.png is in colour .*colours="):
        NumberReading.plain(CLASSES)(path)
    deep = tmp_path / "deep.png"
    Image.fromarray(labels.astype(np.uint16)).save(deep)
    with pytest.raises(DataError, match="16 bits per channel"):
        ColourReading(colours)(deep)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=12), st.integers(0, 65535), st.booleans())
def test_reading_numbers_is_the_definition(tmp_path_factory, values, ignore, shift):
    path = tmp_path_factory.mktemp("numbers") / "x.png"
    Image.fromarray(np.array([values], np.uint16)).save(path)
    reading = NumberReading.plain(CLASSES, ignore=ignore, shift=shift)
    classes = range(shift, len(CLASSES) + shift)
    if any(value not in classes and value != ignore and not (shift and value == 0) for value in values):
        with pytest.raises(DataError, match=r"x\.png holds the label"):
            reading(path)
    else:
        assert reading(path)[0].tolist() == [v - shift if v in classes else IGNORE for v in values]


def test_everything_that_is_not_zero(tmp_path):
    path = tmp_path / "n.png"
    Image.fromarray(np.array([[0, 1, 300]], np.uint16)).save(path)
    assert NonzeroReading()(path).tolist() == [[0, 1, 1]]


def test_a_table_deals_out_a_flat_folder(tmp_path):
    for number in range(4):
        image, labels = scene(number)
        save(tmp_path / "images" / f"p{number}_a.png", image)
        save(tmp_path / "masks" / f"p{number}_a.png", labels)
    table = tmp_path / "index.csv"
    table.write_text("id,split\np0_a,train\np1_a,validation\np2_a,train\np3_a,test\n")
    options = SemanticOptions(classes=CLASSES, split_file="index.csv", case_pattern="(p.)_.")
    source = open_semantic("label-maps", tmp_path, options)
    assert {part: [one.case for one in files] for part, files in source.parts.items()} == {
        "train": ["p0", "p2"],
        "validation": ["p1"],
        "test": ["p3"],
    }
    for text, message in (
        ("id,split\np0_a,train\n", "does not list the image 'p1_a'"),
        ("id,split\nq,train\n", "lists 'q', for which there is no image"),
        ("id,split\np0_a,trian\n", "has the split 'trian'"),
        ("name\nx\n", "with the columns id and split"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            open_semantic("label-maps", tmp_path, options)


def test_missing_partners_and_sizes_that_differ_are_named(tmp_path):
    root = make_folder(tmp_path)
    source = open_semantic("label-maps", root, PLAIN)
    save(root / "masks" / "train" / "2.png", np.zeros((40, 47), np.uint8))
    save(root / "masks" / "train" / "3.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match=r"2\.png has 40 rows of 48 pixels, but its mask .* has 40 of 47"):
        check_images(source, source.part("train"), progress=False)
    with pytest.raises(DataError, match=r"3\.png has 40 rows"):
        source.read(source.part("train")[3])
    (root / "masks" / "train" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png has no mask of that name in .*masks"):
        open_semantic("label-maps", root, PLAIN)
    (root / "images" / "train" / "1.png").unlink()
    (root / "images" / "train" / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png has no image of that name in .*images"):
        open_semantic("label-maps", root, PLAIN)


def test_damaged_masks_are_found_by_decoding(tmp_path):
    root = make_folder(tmp_path)
    save(root / "masks" / "train" / "4.png", np.full((40, 48), 7, np.uint8))
    source = open_semantic("label-maps", root, PLAIN)
    check_images(source, source.part("train"), progress=False)
    with pytest.raises(DataError, match=r"4\.png holds the label 7"):
        check_images(source, source.part("train"), decode=True, progress=False)


def test_pictures_with_an_orientation_are_noted(tmp_path):
    root = make_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "images" / "val" / "101.png").unlink()
    Image.fromarray(scene(101)[0]).save(root / "images" / "val" / "101.jpg", exif=exif)
    source = open_semantic("label-maps", root, PLAIN)
    for decode in (False, True):
        found = summarize_images(source, decode=decode, progress=False)
        assert found.notes == (
            "1 images with an EXIF orientation, read as stored: the tag is not followed: val/101 (orientation 6)",
        )
        assert found.as_dict()["notes"] == list(found.notes)
        assert found.problems == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data.source.classes is not set"),
        ({"classes": ("a",)}, "has 1 classes"),
        ({"classes": ("a", "a")}, "names 'a' twice"),
        ({"classes": ("a", "")}, "empty name"),
        ({"classes": ("a", "b", "c"), "nonzero": True}, "data.source.nonzero reads two classes"),
        ({"colours": {"a": (0, 0, 0), "b": (1, 1, 1)}, "classes": ("a", "c")}, "'b' differs"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    make_folder(tmp_path, train=1, val=1)
    with pytest.raises(InputError, match=message):
        open_semantic("label-maps", tmp_path, SemanticOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("a",), "classes_file": "x"}, "both name the classes"),
        ({"nonzero": True, "zero_is_ignored": True}, "two ways"),
        ({"ignore": -1}, "data.source.ignore=-1"),
        ({"colours": {"a": (0, 0, 256)}}, r"data.source.colours.a"),
        ({"classes": {"a": 0, "b": (1, 0)}}, r"data.source.classes.b=0: the stored number is that of 'a' too"),
        ({"classes": {"a": 0, "b": 70000}}, r"data.source.classes.b=70000: .* not in 0 to 65535"),
        ({"classes": {"a": 0, "b": 1}, "nonzero": True}, "two ways"),
    ],
)
def test_contradicting_options_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        SemanticOptions(**options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("ade20k", {"split_file": "x.csv"}, "split_file: no option of the layout 'ade20k', which has case_pattern, cl"),
        ("ade20k", {"images": "a", "masks": "b", "ignore": None}, "ignore, images, masks: no option of"),
        ("ade20k", {"nonzero": True}, "nonzero: no option of"),
        ("ade20k", {"zero_is_ignored": True}, "zero_is_ignored: no option of"),
        ("ade20k", {"classes": {"a": 1, "b": 2}}, "as a list of names"),
        ("cityscapes", {"colours": {"a": (0, 0, 0)}}, "colours: no option of the layout 'cityscapes', which has none"),
        ("cityscapes", {"case_pattern": "(.)"}, "case_pattern: no option of"),
        ("cityscapes", {"classes": ("a", "b")}, "for others use data.kind=label-maps"),
    ],
)
def test_options_of_other_layouts_are_refused(tmp_path, kind, options, message):
    with pytest.raises(InputError, match=message):
        open_semantic(kind, tmp_path, SemanticOptions(**options))


def test_names(tmp_path):
    assert len(set(ADE20K)) == 150
    file = tmp_path / "names.txt"
    file.write_text("sky\n\n sea \n")
    assert read_names(file) == ("sky", "sea")
    file.write_text("\n")
    with pytest.raises(DataError, match="holds no class names"):
        read_names(file)
    with pytest.raises(DataError, match="cannot be read as class names"):
        read_names(tmp_path / "none.txt")
    assert len(set(palette(255))) == 255
    assert palette(3) == ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def test_unknown_kind_and_missing_root(tmp_path):
    with pytest.raises(InputError, match="did you mean 'ade20k'"):
        open_semantic("ade", tmp_path, PLAIN)
    with pytest.raises(DataError, match="is not a folder"):
        open_semantic("label-maps", tmp_path / "none", PLAIN)


@given(cases=st.integers(2, 12), fraction=st.floats(0.05, 0.9), fold=st.integers(0, 3), seed=st.integers(0, 5))
def test_held_out_cases_are_never_trained_on(tmp_path_factory, cases, fraction, fold, seed):
    from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource

    here = tmp_path_factory.getbasetemp()
    files = [ImageFiles(f"{c}-{s}", str(c), here, here) for c in range(cases) for s in range(2)]
    source = SemanticSource("made", CLASSES, {"train": files}, NonzeroReading())
    shares = Split(fraction=fraction, fold=fold, seed=seed)
    held = min(cases - 1, max(1, round(fraction * cases)))
    if fold >= cases // held:
        with pytest.raises(InputError, match=r"data\.split\.fold"):
            split_semantic(source, shares)
        return
    split = split_semantic(source, shares)
    assert not {one.case for one in split.train} & {one.case for one in split.validation}
    assert sorted([*split.train, *split.validation], key=files.index) == files
    assert split.train
    assert split.validation


def test_parts_and_limits(tmp_path):
    source = open_semantic("label-maps", make_folder(tmp_path), PLAIN)
    split = split_semantic(source, Split(limit=2, validation_limit=1))
    assert (len(split.train), len(split.validation), split.on) == (2, 1, "validation")
    assert split == split_semantic(source, Split(limit=2, validation_limit=1))
    with pytest.raises(InputError, match="has train, validation; "):
        split_semantic(source, Split(validation="test"))
    with pytest.raises(InputError, match="fraction=1"):
        Split(fraction=1.0)


@pytest.mark.data
def test_the_real_samples_decode(real_data):
    nuclei = SemanticOptions(classes=("background", "nucleus"), nonzero=True, split_file="index.csv")
    source = open_semantic("label-maps", real_data / "dsb2018-nuclei", nuclei)
    assert {part: len(files) for part, files in source.parts.items()} == {"train": 319, "validation": 74, "test": 78}
    check_images(source, source.part("validation"), decode=True, progress=False)


@pytest.mark.parametrize("inside", [False, True])
def test_parts_in_other_words_and_other_arrangements(tmp_path, inside):
    root = make_folder(tmp_path / "old")
    new = tmp_path / "new"
    for folder in ("images", "masks"):
        for old, name in (("train", "Training"), ("val", "valid_set")):
            target = new / name / folder if inside else new / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / folder / old).rename(target)
    source = open_semantic("label-maps", new, PLAIN)
    assert {part: [one.id for one in files] for part, files in source.parts.items()} == {
        "train": [f"Training/{number}" for number in range(6)],
        "validation": [f"valid_set/{number}" for number in range(100, 103)],
    }
    assert source.notes == ()


def test_what_no_reader_takes_is_counted_and_named(tmp_path):
    root = make_folder(tmp_path)
    for name in ("images/train/a.heic", "masks/val/Thumbs.db", "images/lost.png", "images/more/x.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    assert open_semantic("label-maps", root, PLAIN).notes == (
        "left out files that no reader takes: 1 x .heic (a.heic), 1 x .db (Thumbs.db)",
        f"left out folders in {root / 'images'} that are no part: more",
        f"left out files of no part in {root / 'images'}: 1 x .png (lost.png)",
    )
    (root / "masks" / "val").rename(root / "masks" / "held")
    with pytest.raises(DataError, match=r"images has the parts train, val, but .*masks has train; .*for validation"):
        open_semantic("label-maps", root, PLAIN)


def test_a_table_says_parts_in_any_case_and_once(tmp_path):
    for number in range(2):
        save(tmp_path / "images" / f"my {number}.png", scene(number)[0])
        save(tmp_path / "masks" / f"my {number}.png", scene(number)[1])
    table, options = tmp_path / "t.csv", SemanticOptions(classes=CLASSES, split_file="t.csv")
    table.write_text("id,split\n my 0 ,Train\nmy 1,TEST\n")
    source = open_semantic("label-maps", tmp_path, options)
    assert {part: [one.id for one in files] for part, files in source.parts.items()} == {
        "train": ["my 0"],
        "test": ["my 1"],
    }
    table.write_text("id,split\nmy 0,train\nmy 1,test\nmy 0,val\n")
    with pytest.raises(DataError, match="lists 'my 0' twice, for train and for validation"):
        open_semantic("label-maps", tmp_path, options)


def test_a_mask_of_the_turned_picture_is_told(tmp_path):
    root = make_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "images" / "train" / "2.png").unlink()
    Image.fromarray(scene(2)[0]).save(root / "images" / "train" / "2.jpg", exif=exif)
    save(root / "masks" / "train" / "2.png", scene(2)[1].T.copy())
    source = open_semantic("label-maps", root, PLAIN)
    with pytest.raises(DataError, match=r"has 48 of 40, annotated as its EXIF orientation turns it"):
        check_images(source, source.part("train"), progress=False)
