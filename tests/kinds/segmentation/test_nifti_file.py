"""NIfTI headers as other people write them, against SimpleITK's reading of the same files where it reads them."""

from __future__ import annotations

import gzip
import re
import struct
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  (its own custom)
from made_files import save_volume
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from fewpairs.errors import DataError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.layouts.nifti import Nifti
from fewpairs.kinds.segmentation.overview import summarize_scans
from fewpairs.kinds.segmentation.readers import find_inputs, read_input
from fewpairs.kinds.segmentation.volumes import Volume, write_nifti_labels

LPS = np.diag([-2.0, -3.0, 5.0, 1.0])
CODES = ["".join("RLAPSI"[2 * a + s] for a, s in zip(p, t, strict=True)) for p, t in product(
    permutations(range(3)), product((0, 1), repeat=3)
)]  # fmt: skip
"""The 48 orientations in which a volume may be stored."""


def tilted() -> np.ndarray:
    angle, other = np.deg2rad(17), 0.2
    about_z = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    about_x = [[1, 0, 0], [0, np.cos(other), -np.sin(other)], [0, np.sin(other), np.cos(other)]]
    affine = LPS.copy()
    affine[:3, :3] = np.array(about_z) @ np.array(about_x) @ LPS[:3, :3]
    affine[:3, 3] = 7, -4, 11
    return affine


def made(voxels: np.ndarray, affine: np.ndarray = LPS, unit: str | None = "mm") -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units(unit)
    return image


def source(root: Path, labels: np.ndarray, image: np.ndarray | None = None) -> Nifti:
    """A data set of one scan with label volumes of the type of `labels`."""
    save_volume(root / "images" / "a.nii.gz", np.zeros(labels.shape, np.int16) if image is None else image)
    save_volume(root / "labels" / "a.nii.gz", labels)
    return Nifti(root / "images", root / "labels", classes=("one", "two"))


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("meter", 1e-3), ("micron", 1e3)])
def test_lengths_become_millimetres_as_in_simpleitk(tmp_path: Path, unit: str, factor: float) -> None:
    path = tmp_path / "a.nii.gz"
    nibabel.save(made(np.zeros((4, 3, 2), np.int16), np.diag([*np.diag(LPS)[:3] * factor, 1]), unit), path)
    volume = Volume.open(path)
    assert volume.spacing == pytest.approx((5.0, 3.0, 2.0), rel=1e-6)
    assert volume.spacing == pytest.approx(sitk.ReadImage(str(path)).GetSpacing()[::-1], rel=1e-6)
    said = [str(note) for note in volume.notes]
    assert said == ([] if unit == "mm" else [f"volumes in {unit}s, whose lengths are converted to mm"])
    write_nifti_labels(tmp_path / "mask.nii.gz", np.zeros((2, 3, 4), np.uint8), volume)
    written = nibabel.load(tmp_path / "mask.nii.gz")
    assert written.header.get_xyzt_units()[0] == unit
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)


def test_a_missing_unit_is_said(tmp_path: Path) -> None:
    volume = Volume.open(save_volume(tmp_path / "a.nii", np.zeros((4, 3, 2), np.int16)))
    assert [str(note) for note in volume.notes] == ["volumes that give no unit of length, which is taken as mm"]


def test_an_sform_and_a_qform_that_disagree_are_said(tmp_path: Path) -> None:
    image = made(np.zeros((6, 5, 4), np.int16))
    image.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), code=1)
    image.set_qform(np.diag([-1.3, -1.3, 10.0, 1.0]), code=1, update_affine=False)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        nibabel.save(image, tmp_path / folder / "a.nii.gz")
    volume = Volume.open(tmp_path / "images" / "a.nii.gz")
    assert volume.spacing == (1.0, 1.0, 1.0), "nibabel's choice"
    (note,) = summarize_scans(Nifti(tmp_path / "images", tmp_path / "labels", classes=("a",)), progress=False).notes
    assert note == (
        "2 volumes whose sform and qform place voxels differently; the sform is taken: "
        "images/a.nii.gz (voxels of 1 x 1 x 1 by sform, 1.3 x 1.3 x 10 by qform); "
        "labels/a.nii.gz (voxels of 1 x 1 x 1 by sform, 1.3 x 1.3 x 10 by qform)"
    )
    read = read_input(find_inputs([tmp_path / "images" / "a.nii.gz"])[0])
    assert any("the sform is taken" in said for said in read.notes)


def test_an_oblique_sform_and_its_qform_agree(tmp_path: Path) -> None:
    image = made(np.zeros((60, 50, 40), np.int16), tilted())
    image.set_qform(tilted(), code=1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert Volume.open(tmp_path / "a.nii.gz").notes == ()


def test_an_sform_with_other_voxel_sizes_than_pixdim_is_said(tmp_path: Path) -> None:
    image = made(np.zeros((6, 5, 4), np.int16))
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[80:92] = struct.pack("<3f", 1.3, 1.3, 10)  # pixdim[1:4]
    (tmp_path / "a.nii").write_bytes(content)
    (note,) = Volume.open(tmp_path / "a.nii").notes
    assert note.what == "volumes whose sform and pixdim give voxels different sizes; the sform is taken"


def test_a_header_without_orientation_is_said(tmp_path: Path) -> None:
    image = made(np.zeros((6, 5, 4), np.int16))
    image.header.set_sform(None, code=0)
    image.header.set_qform(None, code=0)
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4), np.int16), None, image.header), tmp_path / "a.nii")
    assert "volumes without sform and qform" in " ".join(map(str, Volume.open(tmp_path / "a.nii").notes))


def test_channels_are_said(tmp_path: Path) -> None:
    nibabel.save(made(np.zeros((4, 3, 2, 5), np.int16)), tmp_path / "a.nii")
    (note,) = Volume.open(tmp_path / "a.nii").notes
    assert str(note) == "volumes whose fourth dimension is read as channels, not as a series (5 of them)"


@pytest.mark.parametrize("affine", [LPS, tilted()], ids=["straight", "oblique"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_may_be_stored_in_another_orientation_than_their_image(
    tmp_path: Path, affine: np.ndarray, axis: int
) -> None:
    labels = np.random.default_rng(axis).integers(0, 3, (6, 5, 4)).astype(np.uint8)
    stored = made(labels, affine)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number, code in enumerate(CODES):
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(code))
        nibabel.save(made(labels.astype(np.int16), affine), tmp_path / "images" / f"{number:02d}.nii.gz")
        nibabel.save(stored.as_reoriented(turn), tmp_path / "labels" / f"{number:02d}.nii.gz")
    data = Nifti(tmp_path / "images", tmp_path / "labels", classes=("one", "two"), axis=axis)
    scans = data.scans()
    assert len(scans) == 48
    for scan in scans:
        masks = unpack(data.read(scan)[1], 2)
        found = Volume.open(scan.files[0], axis).from_slices((masks[:, 0] + 2 * masks[:, 1]).astype(np.uint8))
        image, label = (sitk.ReadImage(str(path)) for path in scan.files)
        theirs = sitk.GetArrayFromImage(sitk.Resample(label, image, sitk.Transform(), sitk.sitkNearestNeighbor))
        np.testing.assert_array_equal(found, theirs.transpose(2, 1, 0))


def test_a_label_that_is_flipped_but_does_not_say_so_is_refused(tmp_path: Path) -> None:
    data = source(tmp_path, np.zeros((6, 5, 4), np.uint8))
    flipped = np.diag([-0.8, 0.9, 2.5, 1.0])
    save_volume(tmp_path / "labels" / "a.nii.gz", np.zeros((6, 5, 4), np.uint8), flipped)
    with pytest.raises(DataError, match="do not lie in the same place"):
        data.scans()


def test_labels_of_a_scaled_file_are_rounded_and_said(tmp_path: Path) -> None:
    wanted = np.random.default_rng(0).integers(0, 3, (6, 5, 4))
    data = source(tmp_path, np.zeros((6, 5, 4), np.uint8))
    image = made(np.zeros((6, 5, 4), np.uint8), np.diag([0.8, 0.9, 2.5, 1.0]))
    raw = np.rint(wanted * 127.5).astype(np.uint8)  # 0, 128 and 255, which the slope makes 0, 1.0039 and 2
    image.header.set_slope_inter(2 / 255, 0)
    nibabel.save(image, tmp_path / "labels" / "a.nii")
    content = (tmp_path / "labels" / "a.nii").read_bytes()[:352] + raw.tobytes(order="F")
    content = content[:112] + struct.pack("<2f", 2 / 255, 0) + content[120:]  # scl_slope, scl_inter
    (tmp_path / "labels" / "a.nii").unlink()
    (tmp_path / "labels" / "a.nii.gz").write_bytes(gzip.compress(content))
    read = nibabel.load(tmp_path / "labels" / "a.nii.gz").get_fdata()
    assert not np.array_equal(read, wanted) and np.abs(read - wanted).max() < 0.01  # noqa: PT018
    (scan,) = data.scans()
    masks = unpack(data.read(scan)[1], 2)
    found = Volume.open(scan.files[1]).from_slices(masks[:, 0] + 2 * masks[:, 1].astype(np.uint8))
    np.testing.assert_array_equal(found, wanted)
    assert data.notes[-1] == (
        "1 label volumes with numbers a little off whole ones, which are rounded: labels/a.nii.gz (by up to 0.0039)"
    )


def test_labels_further_off_are_refused(tmp_path: Path) -> None:
    labels = np.ones((6, 5, 4), np.float32)
    labels[0, 0, 0] = 1.02
    data = source(tmp_path, labels)
    with pytest.raises(DataError, match=r"not whole numbers, as 1\.02"):
        data.read(data.scans()[0])


@pytest.mark.parametrize(("name", "compressed"), [("a.nii", True), ("a.nii.gz", False)])
def test_the_content_says_whether_a_file_is_compressed(tmp_path: Path, name: str, compressed: bool) -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (6, 5, 4)).astype(np.int16)
    plain = made(voxels).to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(plain) if compressed else plain)
    volume = Volume.open(tmp_path / name)
    np.testing.assert_array_equal(volume.read()[:, 0], voxels.transpose(2, 1, 0))


def test_nifti_2_and_the_other_byte_order_are_read(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(">f4")
    nibabel.save(nibabel.Nifti2Image(voxels, LPS), tmp_path / "two.nii.gz")
    nibabel.save(nibabel.Nifti1Image(voxels, LPS, nibabel.Nifti1Header(endianness=">")), tmp_path / "big.nii")
    for name in ("two.nii.gz", "big.nii"):
        np.testing.assert_array_equal(Volume.open(tmp_path / name).read()[:, 0], voxels.transpose(2, 1, 0))


def claiming(path: Path, side: int, *, packed: bool) -> Path:
    """Write a header of `side` cubed voxels of 2 bytes over a file that holds 120 of them."""
    content = bytearray(made(np.zeros((6, 5, 4), np.int16)).to_bytes())
    content[42:48] = struct.pack("<3h", side, side, side)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


@pytest.mark.parametrize(
    ("name", "side", "said"),
    [
        ("a.nii", 7, r"7 x 7 x 7 voxels of int16, which are 1 KiB, but has 1 KiB"),
        ("a.nii", 1861, r"1861 x 1861 x 1861 voxels of int16, which are 12\.01 GiB, but has 1 KiB"),
        ("a.nii.gz", 1861, r"1861 x 1861 x 1861 voxels of int16, which are 12\.01 GiB, but has 0 KiB of gzip"),
    ],
)
def test_a_header_that_claims_more_than_its_file_holds(tmp_path: Path, name: str, side: int, said: str) -> None:
    path = claiming(tmp_path / name, side, packed=name.endswith("gz"))
    with pytest.raises(DataError, match=f"{name} claims {said}; the file is damaged or truncated"):
        Volume.open(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("offset", [1e6, 6.5e21])
def test_voxels_that_begin_behind_the_end_of_the_file(tmp_path: Path, name: str, offset: float) -> None:
    content = bytearray(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes())
    content[108:112] = np.float32(offset).tobytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(content)) if name.endswith("gz") else bytes(content))
    with pytest.raises(
        DataError, match=rf"{name} says that its voxels begin at byte {re.escape(f'{offset:.4g}')}, behind"
    ):
        Volume.open(path)


def test_a_compressed_file_that_ends_early(tmp_path: Path) -> None:
    path = claiming(tmp_path / "a.nii.gz", 20, packed=True)
    with pytest.raises(DataError, match=r"a\.nii\.gz .*truncated"):
        Volume.open(path).read()


def test_a_volume_that_does_not_fit_into_memory_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_volume(tmp_path / "a.nii.gz", np.zeros((64, 64, 64), np.int16))
    monkeypatch.setattr("fewpairs.data.memory.available_memory", lambda: 2**19)
    with pytest.raises(DataError, match=r"a\.nii\.gz needs 1 MiB of memory, and 512 KiB are available; cut the volume"):
        Volume.open(path).read()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_beyond_float32_are_refused(tmp_path: Path, value: float) -> None:
    voxels = np.zeros((6, 5, 4))
    voxels[1, 2, 3] = value
    with pytest.raises(DataError, match=r"a\.nii holds 1 voxels that are not finite \(NaN or infinite\) or beyond"):
        Volume.open(save_volume(tmp_path / "a.nii", voxels)).read()


def test_pairs_of_files_are_named_in_the_refusal(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    nibabel.save(nibabel.Nifti1Pair(np.zeros((6, 5, 4), np.int16), LPS), tmp_path / "images" / "a.hdr")
    with pytest.raises(DataError, match=r"\.hdr with \.img"):
        Nifti(tmp_path / "images", tmp_path / "labels", classes=("a",)).scans()
    (tmp_path / "images" / "a.hdr").rename(tmp_path / "images" / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii is the header of a pair"):
        Volume.open(tmp_path / "images" / "a.nii")
