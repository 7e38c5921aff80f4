from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_files import save_volume

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.source import volume_stem
from fewpairs.kinds.segmentation.volumes import Volume

LPS = np.diag([-2.0, -3.0, 5.0, 1.0])
"""Stored from right to left, anterior to posterior, inferior to superior, as axial slices are shown."""


def counting(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def test_an_axial_stack_is_cut_as_it_is_stored(tmp_path: Path) -> None:
    voxels = counting((4, 3, 2))
    volume = Volume.open(save_volume(tmp_path / "a.nii.gz", voxels, LPS))
    np.testing.assert_array_equal(volume.read()[:, 0], voxels.transpose(2, 1, 0))
    assert (volume.slices, volume.size, volume.spacing) == (2, (3, 4), (5.0, 3.0, 2.0))


@pytest.mark.parametrize(
    ("axis", "slices", "size", "spacing"),
    [(0, 4, (2, 3), (2.0, 5.0, 3.0)), (1, 3, (2, 4), (3.0, 5.0, 2.0)), (2, 2, (3, 4), (5.0, 3.0, 2.0))],
)
def test_sizes_and_spacings_along_each_axis(
    tmp_path: Path, axis: int, slices: int, size: tuple[int, int], spacing: tuple[float, float, float]
) -> None:
    volume = Volume.open(save_volume(tmp_path / "a.nii", counting((4, 3, 2)), LPS), axis)
    assert (volume.slices, volume.size, volume.spacing) == (slices, size, spacing)
    assert volume.read().shape == (slices, 1, *size)


def test_a_coronal_slice_has_the_head_on_top(tmp_path: Path) -> None:
    voxels = np.zeros((4, 3, 2), np.uint8)
    voxels[:, :, 1] = 9
    volume = Volume.open(save_volume(tmp_path / "a.nii", voxels, LPS), axis=1)
    assert (volume.read()[:, 0, 0] == 9).all(), "the first row is the superior end"


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3), st.sampled_from([0, 1, 2]))
def test_however_it_is_stored_the_slices_are_the_same_and_go_back(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], signs: tuple[float, ...], axis: int
) -> None:
    folder = tmp_path_factory.mktemp("volumes")
    voxels = counting((4, 3, 2))
    wanted = Volume.open(save_volume(folder / "a.nii", voxels, LPS), axis).read()
    image = nibabel.Nifti1Image(voxels, LPS)
    turn = np.array([[order.index(i), signs[i]] for i in range(3)])
    turned = image.as_reoriented(turn)
    nibabel.save(turned, folder / "b.nii")
    volume = Volume.open(folder / "b.nii", axis)
    slices = volume.read()
    np.testing.assert_array_equal(slices, wanted)
    np.testing.assert_array_equal(volume.from_slices(slices[:, 0]), np.asanyarray(turned.dataobj))


def test_channels_come_last_in_the_file_and_second_in_the_slices(tmp_path: Path) -> None:
    voxels = counting((4, 3, 2, 5))
    volume = Volume.open(save_volume(tmp_path / "a.nii.gz", voxels, LPS))
    assert volume.channels == 5
    np.testing.assert_array_equal(volume.read()[:, 3], voxels[..., 3].transpose(2, 1, 0))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (4, 3, 2, 1), (4, 3, 2, 1, 3)])
def test_dimensions_of_length_one_do_not_matter(tmp_path: Path, shape: tuple[int, ...]) -> None:
    volume = Volume.open(save_volume(tmp_path / "a.nii", counting(shape).astype(np.int16), LPS))
    image = volume.read()
    assert image.shape[2:] == (3, 4)
    assert volume.from_slices(image[:, 0]).shape == shape[:3]


def test_the_header_scales(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((2, 2, 2), 3, np.int16), LPS)
    image.header.set_slope_inter(0.5, 10)
    image.header.set_data_dtype(np.int16)
    path = tmp_path / "a.nii"
    nibabel.save(image, path)
    assert (Volume.open(path).read() == 3 * 0.5 + 10).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0, 50, 200, 0.9])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, kept: float) -> None:
    rng = np.random.default_rng(0)
    path = save_volume(tmp_path / f"cut{suffix}", rng.integers(0, 30000, (9, 8, 7)).astype(np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=f"cut{suffix} .*truncated"):
        Volume.open(path).read()


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Volume.open(tmp_path / "none.nii")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"hello" * 200))
    with pytest.raises(DataError, match="text"):
        Volume.open(tmp_path / "text.nii.gz")
    with pytest.raises(DataError, match="at most one of channels"):
        Volume.open(save_volume(tmp_path / "a.nii", counting((2, 2, 2, 2, 2))))
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    image = nibabel.Nifti1Image(counting((2, 2, 2)), np.eye(4))
    image.header.set_sform(flat, code=1)
    image.header.set_qform(None, code=0)
    nibabel.Nifti1Image.to_filename(nibabel.Nifti1Image(counting((2, 2, 2)), None, image.header), tmp_path / "f.nii")
    with pytest.raises(DataError, match="affine"):
        Volume.open(tmp_path / "f.nii")
    with pytest.raises(InputError, match="axis=3"):
        Volume.open(tmp_path / "a.nii", axis=3)


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    voxels = np.ones((3, 3, 3), np.float32)
    voxels[0, 0, :2] = np.nan
    with pytest.raises(DataError, match="2 voxels that are not finite"):
        Volume.open(save_volume(tmp_path / "a.nii", voxels)).read()


def test_same_space_is_judged_at_the_corners(tmp_path: Path) -> None:
    voxels = counting((20, 20, 20))
    a = Volume.open(save_volume(tmp_path / "a.nii", voxels, np.eye(4)))
    moved, turned = np.eye(4), np.eye(4)
    moved[0, 3], turned[0, 1] = 0.03, 0.02
    assert a.same_space(Volume.open(save_volume(tmp_path / "b.nii", voxels, moved)))
    assert not a.same_space(Volume.open(save_volume(tmp_path / "c.nii", voxels, turned)))


def test_stem() -> None:
    assert [volume_stem(Path(name)) for name in ("a.b.nii.gz", "x.nii", "y.NII.GZ")] == ["a.b", "x", "y"]


@pytest.mark.parametrize("length", [1e30, 1e-30, 2e4, 5e-5])
def test_voxels_of_absurd_lengths_are_refused(tmp_path: Path, length: float) -> None:
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag([1.0, length, 1.0, 1.0])), path)
    with pytest.raises(
        DataError, match=r"lengths from 0\.0001 to 10000 mm are read|does not span space|not a readable"
    ):
        Volume.open(path)


@pytest.mark.parametrize("length", [2e-4, 0.05, 5e3])
def test_voxels_of_microscopes_and_slabs_are_read(tmp_path: Path, length: float) -> None:
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag([length, length, length, 1.0])), path)
    assert Volume.open(path).spacing == pytest.approx((length,) * 3, rel=1e-6)


def test_a_quaternion_that_is_none_is_one_message(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None)
    image.header["qform_code"], image.header["quatern_b"] = 1, 2e30
    path = tmp_path / "a.nii"
    path.write_bytes(image.to_bytes())
    with pytest.raises(DataError, match="is not a readable NIfTI file"):
        Volume.open(path)
