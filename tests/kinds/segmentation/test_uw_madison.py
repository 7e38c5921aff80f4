from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.layouts.uw_madison import CLASSES, ORGANIZER_EXCLUSIONS, SliceName, UWMadison, slice_id
from fewpairs.kinds.segmentation.rle import rle_encode


@given(st.integers(1, 9999), st.integers(1, 999), st.integers(1, 999), st.integers(1, 500), st.integers(1, 500))
def test_a_name_is_parsed_and_printed_with_the_width_first(n: int, h: int, w: int, down: int, across: int) -> None:
    name = SliceName(n, (h, w), (down / 100, across / 100))
    assert str(name) == f"slice_{n:04d}_{w}_{h}_{across / 100:.2f}_{down / 100:.2f}.png"
    assert SliceName.parse(str(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "slice_1_266_266_1.50_1.50.png",
        "slice_0001_266_266_1.5_1.5.png",
        "slice_0001_266_266.png",
        "slice_0000_266_266_1.50_1.50.png",
        "slice_0001_0_266_1.50_1.50.png",
        "slice_0001_266_266_0.00_1.50.png",
        "Slice_0001_266_266_1.50_1.50.png",
        "slice_0001_266_266_1.50_1.50.PNG.png",
    ],
)
def test_other_names_are_not_parsed(name: str) -> None:
    assert SliceName.parse(name) is None


def test_slice_id_needs_the_place_in_the_layout() -> None:
    name = "slice_0007_266_266_1.50_1.50.png"
    assert slice_id(Path("x/train/case1/case1_day3/scans") / name) == "case1_day3_slice_0007"
    assert slice_id(Path("elsewhere") / name) is None
    assert slice_id(Path("case1_day3/scans/other.png")) is None


def build(root: Path, rows: dict[str, dict[str, str]], size: tuple[int, int] = (3, 4)) -> Path:
    """One scan, case1_day0, with a slice for each key of `rows`."""
    folder = root / "train" / "case1" / "case1_day0" / "scans"
    folder.mkdir(parents=True)
    for number, _ in enumerate(rows, start=1):
        pixels = np.full(size, 100 * number, np.uint16)
        Image.fromarray(pixels).save(folder / str(SliceName(number, size, (1.25, 1.5))))
    with (root / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "class", "segmentation"])
        for name, masks in rows.items():
            table.writerows([name, label, text] for label, text in masks.items())
    return root


def row(**given: str) -> dict[str, str]:
    return {label: given.get(label, "") for label in CLASSES}


def test_everything_is_where_the_layout_says(tmp_path: Path) -> None:
    first = np.zeros((3, 4), bool)
    first[1, :3] = True
    rows = {
        "case1_day0_slice_0001": row(large_bowel=rle_encode(first), stomach="6 1"),
        "case1_day0_slice_0002": row(),
    }
    source = UWMadison(build(tmp_path, rows))
    (scan,) = source.scans()
    assert (scan.id, scan.case, scan.size, scan.spacing) == ("case1_day0", "case1", (3, 4), (3.0, 1.25, 1.5))
    assert scan.slice_ids == tuple(rows)
    image, mask = source.read(scan)
    assert image.dtype == np.uint16
    assert image.shape == (2, 1, 3, 4)
    assert image[1].max() == 200
    masks = unpack(mask, 3)
    np.testing.assert_array_equal(masks[0, 0], first)
    assert not masks[:, 1].any()
    assert masks[0, 2].sum() == 1
    assert masks[0, 0, 1, 1], "classes overlap at the stomach's only pixel"
    assert masks[0, 2, 1, 1]
    assert not masks[1].any()


def test_scans_are_ordered_by_number_and_the_organizers_exclusions_left_out(phantom_copy: Path) -> None:
    case = min(int(path.name[4:]) for path in (phantom_copy / "train").iterdir())
    day = next((phantom_copy / "train" / f"case{case}").iterdir())
    shutil.copytree(day, phantom_copy / "train" / "case7" / "case7_day0")
    source = UWMadison(phantom_copy)
    numbers = [tuple(map(int, scan.id[4:].split("_day"))) for scan in source.scans()]
    assert numbers == sorted(numbers)
    assert (7, 0) not in numbers
    assert "case7_day0" in ORGANIZER_EXCLUSIONS
    with pytest.raises(DataError, match="case7_day0_slice_0001"):
        UWMadison(phantom_copy, exclude=()).scans()


def first_slice(root: Path) -> Path:
    return sorted(root.glob("train/*/*/scans/*.png"))[0]


def edit_table(root: Path, change: object) -> None:
    path = root / "train.csv"
    path.write_text(change(path.read_text()))  # type: ignore[operator]


def test_a_wrong_file_name_is_named_with_the_grammar(phantom_copy: Path) -> None:
    path = first_slice(phantom_copy)
    path.rename(path.with_name("slice_1.png"))
    with pytest.raises(DataError, match=r"slice_1\.png does not follow the file-name grammar slice_\{SSSS\}_\{width\}"):
        UWMadison(phantom_copy).scans()


def test_a_wrong_folder_name_is_an_error(phantom_copy: Path) -> None:
    (phantom_copy / "train" / "patient1").mkdir()
    with pytest.raises(DataError, match="patient1 is not a folder named case"):
        UWMadison(phantom_copy).scans()


def test_hidden_files_are_no_data(phantom_copy: Path) -> None:
    (phantom_copy / "train" / ".DS_Store").write_text("")
    (first_slice(phantom_copy).parent / "._slice.png").write_text("")
    assert len(UWMadison(phantom_copy).scans()) == 12


def test_a_scan_in_another_cases_folder_is_an_error(phantom_copy: Path) -> None:
    day = first_slice(phantom_copy).parent.parent
    day.rename(day.with_name("case999_day0"))
    with pytest.raises(DataError, match=f"case999_day0 lies in the folder of {day.parent.name}"):
        UWMadison(phantom_copy).scans()


def test_a_row_without_its_image_is_counted(phantom_copy: Path) -> None:
    edit_table(phantom_copy, lambda text: text + "case1_day0_slice_9999,stomach,\n")
    source = UWMadison(phantom_copy)
    source.scans()
    assert source.notes == (
        "train.csv has rows for 1 slices without an image (0 with a class), which are left out: case1_day0_slice_9999",
    )
    edit_table(phantom_copy, lambda text: text + "case1,stomach,\n")
    with pytest.raises(DataError, match="'case1' is no id of a slice"):
        UWMadison(phantom_copy).scans()


def test_a_partial_download_is_used_and_its_gaps_are_told(phantom_copy: Path) -> None:
    scan = UWMadison(phantom_copy).scans()[0]
    assert scan.numbers is None
    for path in scan.files[1:3]:
        path.unlink()
    source = UWMadison(phantom_copy)
    left = source.scans()[0]
    numbers = [SliceName.parse(path.name) for path in scan.files]
    assert left.numbers == tuple(name.number for name in numbers if name is not None and name.number not in (2, 3))
    assert left.slice_ids == (scan.slice_ids[0], *scan.slice_ids[3:])
    assert source.notes[0].endswith(
        f"scans lack 2 slices between their first and last: {scan.id} (2); neighbours and distances go by slice number"
    )
    assert source.notes[1].startswith("train.csv has rows for 2 slices without an image")
    assert len(source.read(left)[1]) == len(scan.files) - 2
    for path in left.files[:-1]:
        path.unlink()
    assert UWMadison(phantom_copy).scans()[0].numbers is None  # a single slice, and the ends, are no gap


def test_an_image_without_rows_is_an_error_unless_absent_rows_mean_empty(phantom_copy: Path) -> None:
    edit_table(phantom_copy, lambda text: "".join(line for line in text.splitlines(True) if not line.endswith(",\n")))
    with pytest.raises(DataError, match="missing_rows='empty'"):
        UWMadison(phantom_copy).scans()
    assert len(UWMadison(phantom_copy, missing_rows="empty").scans()) == 12


def test_an_unknown_class_gets_the_nearest_name(phantom_copy: Path) -> None:
    edit_table(phantom_copy, lambda text: text.replace("stomach", "stomac", 1))
    with pytest.raises(DataError, match=r"line 4, .*unknown class 'stomac'; did you mean 'stomach'"):
        UWMadison(phantom_copy).scans()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("id,class,segmentation", "id,class,mask"), "header"),
        (lambda text: text + text.splitlines(True)[1], "a second row for id"),
        (lambda text: text + "only,two\n", "2 fields"),
        (lambda text: "", "header"),
    ],
)
def test_a_damaged_table(phantom_copy: Path, change: object, said: str) -> None:
    edit_table(phantom_copy, change)
    with pytest.raises(DataError, match=said):
        UWMadison(phantom_copy).scans()


def test_a_table_that_is_no_text(phantom_copy: Path) -> None:
    (phantom_copy / "train.csv").write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(DataError, match=r"train\.csv is not a readable CSV"):
        UWMadison(phantom_copy).scans()


@pytest.mark.parametrize("text", ["1 x", "999999 5", "1 5 3 5", "7"])
def test_a_bad_encoding_names_file_id_and_class(tmp_path: Path, text: str) -> None:
    source = UWMadison(build(tmp_path, {"case1_day0_slice_0001": row(small_bowel=text)}))
    with pytest.raises(DataError, match=r"train\.csv, id case1_day0_slice_0001, class small_bowel: .*'"):
        source.read(source.scans()[0])


def test_a_truncated_picture(phantom_copy: Path) -> None:
    path = first_slice(phantom_copy)
    path.write_bytes(path.read_bytes()[:300])
    source = UWMadison(phantom_copy)
    with pytest.raises(DataError, match=f"{path.name} is not a readable picture"):
        [source.read(scan) for scan in source.scans()]


def test_a_picture_whose_size_is_not_that_of_its_name(phantom_copy: Path) -> None:
    path = first_slice(phantom_copy)
    Image.fromarray(np.zeros((5, 6), np.uint16)).save(path)
    source = UWMadison(phantom_copy)
    with pytest.raises(DataError, match="6 wide and 5 high, but its name says"):
        [source.read(scan) for scan in source.scans()]


def test_a_colour_picture_is_refused(phantom_copy: Path) -> None:
    path = first_slice(phantom_copy)
    name = SliceName.parse(path.name)
    assert name is not None
    Image.fromarray(np.zeros((*name.size, 3), np.uint8)).save(path)
    source = UWMadison(phantom_copy)
    with pytest.raises(DataError, match="3 channels"):
        [source.read(scan) for scan in source.scans()]


def test_slices_of_one_scan_with_differing_sizes(phantom_copy: Path) -> None:
    path = first_slice(phantom_copy)
    name = SliceName.parse(path.name)
    assert name is not None
    path.rename(path.with_name(str(SliceName(name.number, (7, 9), name.spacing))))
    with pytest.raises(DataError, match="differs in size or spacing from"):
        UWMadison(phantom_copy).scans()


def test_many_problems_come_in_one_message(phantom_copy: Path) -> None:
    for number, path in enumerate(sorted(phantom_copy.glob("train/*/*/scans/*.png"))[:7]):
        path.rename(path.with_name(f"wrong{number}.png"))
    with pytest.raises(DataError, match=r"(?s)wrong0\.png.*wrong4\.png.*and 2 more"):
        UWMadison(phantom_copy).scans()


def test_a_folder_in_another_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in the UW-Madison layout"):
        UWMadison(tmp_path).scans()
    (tmp_path / "train").mkdir()
    (tmp_path / "train.csv").write_text("id,class,segmentation\n")
    with pytest.raises(DataError, match="holds no scans"):
        UWMadison(tmp_path).scans()


@pytest.mark.parametrize(
    "wrong", [{"exclude": ["case7"]}, {"missing_rows": "skip"}, {"thickness": 0}], ids=lambda wrong: next(iter(wrong))
)
def test_wrong_options_are_refused_by_name(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        UWMadison(tmp_path, **wrong)  # type: ignore[arg-type]
