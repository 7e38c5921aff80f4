"""From files to masks: the same masks whichever way a scan is cut, each in its input's own geometry."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.kinds.predictor import OutputFolder
from fewpairs.kinds.segmentation.intensity import intensity_statistics
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.phantom.phantom import make_phantom
from fewpairs.kinds.segmentation.predict import SegmentationPredictor
from fewpairs.kinds.segmentation.rle import rle_decode
from fewpairs.kinds.segmentation.task import Segmentation
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.runs.predict import PredictionError, predict_files

CLASSES = ("bright", "very_bright")


class Brightness(nn.Module):
    """Knows only the pixel itself: the middle channel above 0.3, and above 0.6."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.in_channels = channels
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        assert not self.training
        self.seen.append(tuple(image.shape))
        middle = image[:, self.in_channels // 2]
        return torch.stack([middle - 0.3, middle - 0.6], dim=1) * 50


def predictor(view: SegmentationView, *, channels: int = 1, **options: object) -> SegmentationPredictor:
    segmenter = Brightness(channels * view.stack)
    return SegmentationPredictor(segmenter, Segmentation(CLASSES), view, device="cpu", **options)  # type: ignore[arg-type]


def expected(image: np.ndarray) -> np.ndarray:
    """Masks of `[s c H W]` with normalise="max"."""
    share = image[:, image.shape[1] // 2].astype(np.float32)
    share = share / share.max(axis=(1, 2), keepdims=True)
    return np.stack([share > 0.3, share > 0.6], axis=1)


def picture(size: tuple[int, int], slices: int = 1, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 50, (slices, 1, *size)) * 20
    values[:, :, 0, 0] = 1000
    return values.astype(np.uint16)


@settings(max_examples=20)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(8, 24), st.integers(8, 24)),
    overlap=st.sampled_from([0.0, 0.25, 0.6]),
    batch=st.integers(1, 5),
)
def test_windows_of_any_kind_give_the_masks_of_the_whole(
    size: tuple[int, int], window: tuple[int, int], overlap: float, batch: int
) -> None:
    image = picture(size, slices=3)
    predict = predictor(SegmentationView(window, fit="pad"), overlap=overlap, batch_size=batch)
    masks = predict(image)
    assert masks.dtype == np.bool_
    assert np.array_equal(masks, expected(image))
    assert {shape[2:] for shape in predict.model.seen} == {window}  # type: ignore[union-attr]
    assert max(shape[0] for shape in predict.model.seen) <= batch  # type: ignore[union-attr]


def test_what_fits_takes_the_path_of_evaluation() -> None:
    image = picture((20, 30), slices=3)
    for view in (SegmentationView((24, 32), fit="pad"), SegmentationView((24, 32)), SegmentationView((10, 12))):
        predict = predictor(view, batch_size=2)

        inputs, geometry = view.apply(image, intensity_statistics(image))
        with torch.no_grad():
            evaluated = predict.task.masks(predict.model.eval()(inputs), geometry).numpy()
        assert np.array_equal(predict(image), evaluated)


def test_neighbours_are_stacked_before_windows_are_cut() -> None:
    image = picture((20, 30), slices=5)
    predict = predictor(SegmentationView((8, 8), fit="pad", stack=3, step=2))
    assert np.array_equal(predict(image), expected(image))
    assert {shape[1] for shape in predict.model.seen} == {3}  # type: ignore[union-attr]


def test_the_model_is_left_in_the_mode_that_it_was_in() -> None:
    predict = predictor(SegmentationView((8, 8)))
    predict.model.train()
    predict(picture((8, 8)))
    assert predict.model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1.0}, r"overlap=1\.0"),
        ({"overlap": -0.1}, r"overlap=-0\.1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"roi_size": (4, 4)}, "leave roi_size out"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictor(SegmentationView((8, 8)), **options)


def test_wrong_scans_and_devices_are_named() -> None:
    with pytest.raises(InputError, match=r"expected a scan \[s 1 H W\], got \[2, 3, 8, 8\]"):
        predictor(SegmentationView((8, 8)))(np.zeros((2, 3, 8, 8)))
    with pytest.raises(InputError, match="device='warp'"):
        replace(predictor(SegmentationView((8, 8))), device="warp")(picture((8, 8)))


AFFINE = np.array([[0.0, -0.9, 0.0, 10.0], [0.8, 0.0, 0.0, -20.0], [0.0, 0.0, -2.5, 30.0], [0.0, 0.0, 0.0, 1.0]])


def save_volume(path: Path, shape: tuple[int, int, int] = (14, 10, 4)) -> np.ndarray:
    voxels = np.random.default_rng(1).integers(0, 50, shape).astype(np.int16) * 20
    voxels[0, 0, :] = 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, AFFINE)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return voxels


def save_picture(path: Path, size: tuple[int, int] = (11, 13), seed: int = 0) -> np.ndarray:
    pixels = picture(size, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0, 0]).save(path)
    return pixels


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_keeps_its_affine_spacing_and_voxel_order(tmp_path: Path, suffix: str) -> None:
    voxels = save_volume(tmp_path / f"scan{suffix}")
    (written,) = predict_files(
        predictor(SegmentationView((8, 8), fit="pad"), separate=True),
        [tmp_path / f"scan{suffix}"],
        OutputFolder(tmp_path / "out", overlays=False),
        progress=False,
    )
    assert [path.name for path in written.outputs] == ["scan.nii.gz", "scan_bright.nii.gz", "scan_very_bright.nii.gz"]
    bright, very = voxels > 300, voxels > 600
    labels, *single = (nibabel.load(path) for path in written.outputs)
    for image in (labels, *single):
        assert np.array_equal(image.affine, nibabel.load(tmp_path / f"scan{suffix}").affine)
        assert np.allclose(image.header.get_zooms(), (0.8, 0.9, 2.5))
        assert image.shape == voxels.shape
    assert np.array_equal(np.asanyarray(labels.dataobj), np.where(very, 2, np.where(bright, 1, 0)))
    assert np.array_equal(np.asanyarray(single[1].dataobj) == 1, very)
    assert written.voxels == {"bright": bright.sum(), "very_bright": very.sum()}
    assert written.overlapping == very.sum()
    assert written.millilitres is not None
    assert written.millilitres["bright"] == pytest.approx(bright.sum() * 0.8 * 0.9 * 2.5 / 1000)


def test_pictures_become_label_pictures_of_their_size(tmp_path: Path) -> None:
    images = {name: save_picture(tmp_path / "in" / f"{name}.png", seed=seed) for seed, name in enumerate("ab")}
    written = predict_files(
        predictor(SegmentationView((8, 8), fit="pad")),
        [tmp_path / "in"],
        OutputFolder(tmp_path / "out"),
        progress=False,
    )
    for item in written:
        (path,) = item.outputs
        masks = expected(images[item.id])[0]
        with Image.open(path) as labels:
            shown = np.asarray(labels)
        assert np.array_equal(shown, np.where(masks[1], 2, np.where(masks[0], 1, 0)))
        assert item.millilitres is None
        assert item.overlay is not None
        assert item.overlay == tmp_path / "out" / "overlays" / f"{item.id}.png"
        with Image.open(item.overlay) as sheet:
            assert sheet.mode == "RGB"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantom cases in the UW-Madison layout."""
    return make_phantom(tmp_path_factory.mktemp("phantom") / "uw", cases=2, seed=3, scale=0.1, days=1, slices=4)


def test_a_tree_becomes_one_submission(tree: Path, tmp_path: Path) -> None:
    task = Segmentation(("large_bowel", "small_bowel"))
    predict = replace(predictor(SegmentationView((16, 16), fit="pad")), task=task)
    written = predict_files(predict, [tree], OutputFolder(tmp_path, overlays=False), progress=False)
    source = UWMadison(tree)
    with (tmp_path / "submission.csv").open(newline="") as file:
        rows = {(row["id"], row["class"]): row["predicted"] for row in csv.DictReader(file)}
    scans = source.scans()
    assert {item.id for item in written} == {scan.id for scan in scans}
    assert len(rows) == 2 * sum(len(scan.slice_ids) for scan in scans)
    for scan in scans:
        masks = expected(source.read(scan)[0])
        for name, mask in zip(scan.slice_ids, masks, strict=True):
            assert np.array_equal(rle_decode(rows[name, "large_bowel"], scan.size), mask[0])


def test_a_tree_may_become_pictures(tree: Path, tmp_path: Path) -> None:
    predict = predictor(SegmentationView((16, 16), fit="pad"), format="png")
    output = OutputFolder(tmp_path, overlays=False)
    written = predict_files(predict, [tree], output, progress=False)
    assert all(len(item.outputs) == 4 for item in written)
    assert not (tmp_path / "submission.csv").exists()
    with pytest.raises(InputError, match="more exist already"):
        predict_files(predict, [tree], output, progress=False)


def test_damaged_files_are_named_and_the_others_kept(tmp_path: Path) -> None:
    save_picture(tmp_path / "in" / "good.png")
    whole = (tmp_path / "in" / "good.png").read_bytes()
    (tmp_path / "in" / "cut.png").write_bytes(whole[: len(whole) // 2])
    save_volume(tmp_path / "in" / "volume.nii.gz")
    (tmp_path / "in" / "torn.nii.gz").write_bytes((tmp_path / "in" / "volume.nii.gz").read_bytes()[:200])
    with pytest.raises(PredictionError) as caught:
        predict_files(
            predictor(SegmentationView((8, 8), fit="pad")),
            [tmp_path / "in"],
            OutputFolder(tmp_path / "out", overlays=False),
            progress=False,
        )
    message = str(caught.value)
    assert message.startswith("2 of 4 scans failed; the masks of the other 2 are written:\n")
    assert str(tmp_path / "in" / "cut.png") in message
    assert str(tmp_path / "in" / "torn.nii.gz") in message
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good.png", "volume.nii.gz", "labels.json"}
    assert {failure.id for failure in caught.value.failures} == {"cut", "torn"}
    assert {item.id for item in caught.value.written} == {"good", "volume"}


def test_a_damaged_slice_costs_its_scan_alone(tree: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(tree, tmp_path / "uw"))
    scan, other = UWMadison(copy).scans()
    scan.files[1].write_bytes(b"\x89PNG")
    task = Segmentation(("large_bowel", "small_bowel"))
    predict = replace(predictor(SegmentationView((16, 16), fit="pad")), task=task)
    with pytest.raises(PredictionError, match="1 of 2 scans failed"):
        predict_files(predict, [copy], OutputFolder(tmp_path / "out", overlays=False), progress=False)
    lines = (tmp_path / "out" / "submission.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * len(other.slice_ids)
    for file in other.files:
        file.write_bytes(b"\x89PNG")
    with pytest.raises(PredictionError, match="2 of 2 scans failed:"):
        predict_files(predict, [copy], OutputFolder(tmp_path / "none", overlays=False), progress=False)
    assert not (tmp_path / "none").exists()


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    save_picture(tmp_path / "in" / "a.png")
    predict = predictor(SegmentationView((8, 8), fit="pad"))
    output = OutputFolder(tmp_path / "out", overlays=False)
    (first,) = predict_files(predict, [tmp_path / "in"], output, progress=False)
    first.outputs[0].write_text("mine")
    with pytest.raises(InputError, match=r"a\.png exists already; choose another folder, or replace with --overwrite"):
        predict_files(predict, [tmp_path / "in"], output, progress=False)
    assert first.outputs[0].read_text() == "mine"
    predict_files(predict, [tmp_path / "in"], replace(output, overwrite=True), progress=False)
    with Image.open(first.outputs[0]) as labels:
        assert labels.size == (13, 11)


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    save_picture(tmp_path / "in" / "a.png")
    before = (tmp_path / "in" / "a.png").read_bytes()
    with pytest.raises(InputError, match="is one of the scans and would be overwritten"):
        predict_files(
            predictor(SegmentationView((8, 8))),
            [tmp_path / "in" / "a.png"],
            OutputFolder(tmp_path / "in", overwrite=True),
            progress=False,
        )
    assert (tmp_path / "in" / "a.png").read_bytes() == before


def test_a_format_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"format='nifti' does not fit .*a\.png, whose masks can be written as png"):
        predict_files(
            predictor(SegmentationView((8, 8)), format="nifti"),
            [tmp_path / "a.png"],
            OutputFolder(tmp_path / "out"),
            progress=False,
        )


def test_a_scan_with_other_channels_is_a_failure_of_its_own(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    with pytest.raises(PredictionError, match=r"colour\.png has 3 channels; the model was trained on images with 1"):
        predict_files(
            predictor(SegmentationView((8, 8))),
            [tmp_path / "colour.png"],
            OutputFolder(tmp_path / "out"),
            progress=False,
        )


def test_the_plan_of_files_is_what_is_written(tmp_path: Path, tree: Path) -> None:
    save_picture(tmp_path / "in" / "a.png")
    save_volume(tmp_path / "in" / "v.nii")
    inputs = [tmp_path / "in", tree]
    output, predict = OutputFolder(tmp_path / "out"), predictor(SegmentationView((8, 8), fit="pad"), separate=True)
    sources = predict.find(inputs)
    planned = {path for source in sources for path in predict.outputs(source, output)}
    planned.update([*predict.shared_outputs(sources, output), predict.labels(output).path])
    predict_files(predict, inputs, output, progress=False)
    assert {path for path in (tmp_path / "out").rglob("*") if path.is_file()} == planned


@pytest.mark.parametrize("suffix", [".nii.gz", ".png"])
def test_masks_of_classes_that_would_be_paths_stay_in_the_folder(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "in" / f"scan{suffix}"
    save_volume(source) if suffix == ".nii.gz" else save_picture(source)
    out = tmp_path / "deep" / "out"
    found: list[str] = []
    for number, classes in enumerate([("../../x", "/x"), ("Tumour", "tumour"), ("[/x]\x1b", "n" * 300)]):
        predict = replace(predictor(SegmentationView((8, 8), fit="pad"), separate=True), task=Segmentation(classes))
        (written,) = predict_files(predict, [source], OutputFolder(out / str(number)), progress=False)
        there = {path for path in (out / str(number)).rglob("*") if path.is_file()}
        assert {*written.outputs, written.overlay} == {path for path in there if path.name != "labels.json"}
        found += [path.name.removesuffix(suffix) for path in written.outputs]
    assert found == [
        *("scan", "scan__._.._x", "scan__x"),
        *("scan", "scan_Tumour", "scan_tumour-2"),
        *("scan", "scan_[_x]_", found[-1]),
    ]
    assert found[-1].startswith("scan_nnnn")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "deep"}


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    save_picture(tmp_path / "in" / "scan.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "overlays").symlink_to(tmp_path / "elsewhere")
    predict = predictor(SegmentationView((8, 8), fit="pad"))
    with pytest.raises(InputError, match=r"overlays/scan\.png leads out of the folder"):
        predict_files(predict, [tmp_path / "in"], OutputFolder(tmp_path / "out", overwrite=True), progress=False)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_stack_has_a_mask_for_each_page(tmp_path: Path) -> None:
    image = picture((12, 10), slices=3)
    pages = [Image.fromarray(page[0]) for page in image]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    predict = predictor(SegmentationView((12, 10)))
    (written,) = predict_files(predict, [tmp_path / "a.tif"], OutputFolder(tmp_path / "out"), progress=False)
    assert [path.name for path in written.outputs] == [f"a_slice_{number:04d}.png" for number in range(1, 4)]
    for path, mask in zip(written.outputs, expected(image), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), mask[0].astype(np.uint8) + mask[1])
    assert "note: stacks" in written.summary()


def test_pictures_of_a_known_spacing_have_volumes(tmp_path: Path) -> None:
    pages = picture((11, 13), slices=3)
    first, *others = (Image.fromarray(page[0]) for page in pages)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    made = predictor(SegmentationView((16, 16), normalise="max", fit="pad"), spacing=(3.0, 0.5, 0.25))
    (written,) = predict_files(made, [tmp_path / "a.tif"], OutputFolder(tmp_path / "out"), progress=False)
    assert written.millilitres is not None
    assert written.millilitres["bright"] == pytest.approx(expected(pages)[:, 0].sum() * 3 * 0.5 * 0.25 / 1000)
    assert written.notes == ()
