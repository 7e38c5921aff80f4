from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.layouts.uw_madison import ORGANIZER_EXCLUSIONS, SliceName, UWMadison
from fewpairs.kinds.segmentation.phantom.phantom import make_phantom
from fewpairs.kinds.segmentation.preparation import prepare


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("many") / "uw", cases=24, seed=1, scale=0.15, slices=16)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    def make(name: str, seed: int) -> dict[str, bytes]:
        return files(make_phantom(tmp_path / name, cases=2, seed=seed, scale=0.12, days=1, slices=6))

    first = make("a", 5)
    assert first == make("b", 5)
    assert first != make("c", 6)


def test_the_layout_is_the_true_one(many: Path) -> None:
    source = UWMadison(many)
    scans = source.scans()
    assert len({scan.case for scan in scans}) == 24
    assert not {scan.id for scan in scans} & ORGANIZER_EXCLUSIONS
    kinds = {(scan.size, scan.spacing[1:]) for scan in scans}
    assert {size for size, _ in kinds} == {(40, 40), (46, 54), (41, 41), (35, 35)}
    for scan in scans:
        name = SliceName.parse(scan.files[0].name)
        assert name is not None
        field = (name.size[0] * name.spacing[0], name.size[1] * name.spacing[1])
        assert field == pytest.approx(
            {40: (399, 399), 46: (465, 540), 41: (450, 450), 35: (351, 351)}[name.size[0]], 0.01
        )
        assert int(re.findall(r"\d+", scan.id)[1]) <= 39
    assert (many / "sample_submission.csv").read_text() == "id,class,predicted\n"


def test_full_scale_has_the_sizes_of_the_real_data(tmp_path: Path) -> None:
    root = make_phantom(tmp_path / "uw", cases=8, seed=0, days=1, slices=1)
    names = {re.sub(r"slice_\d+_", "", path.name) for path in root.rglob("*.png")}
    usual = {"266_266_1.50_1.50.png", "360_310_1.50_1.50.png", "276_276_1.63_1.63.png", "234_234_1.50_1.50.png"}
    assert names <= usual
    assert len(names) >= 3
    with Image.open(next(root.rglob("*.png"))) as picture:
        assert picture.mode == "I;16"


def test_slices_by_default(tmp_path: Path) -> None:
    scans = UWMadison(make_phantom(tmp_path / "uw", cases=1, seed=2, scale=0.1, days=1)).scans()
    assert [len(scan.slice_ids) for scan in scans] == [144]


def test_days_by_default(many: Path) -> None:
    scans = UWMadison(many).scans()
    days = [sum(scan.case == case for scan in scans) for case in {scan.case for scan in scans}]
    assert 1 <= min(days) < max(days) <= 6


def test_it_resembles_the_real_data(many: Path, tmp_path: Path) -> None:
    store = prepare(UWMadison(many), tmp_path, progress=False)
    empty = np.concatenate([scan.empty for scan in store.scans])
    assert 0.50 < empty.mean() < 0.64
    assert all(scan.empty[0] and scan.empty[-1] for scan in store.scans)
    maxima, overlaps = [], 0
    for index, scan in enumerate(store.scans):
        masks = unpack(np.asarray(store.mask(index)), 3)
        maxima += store.image(index).max(axis=(1, 2, 3)).tolist()
        overlaps += int((masks.sum(axis=1) > 1).any())
        for organ in range(3):
            present = np.flatnonzero(masks[:, organ].any(axis=(1, 2)))
            assert len(present) >= 3
            assert present[-1] - present[0] + 1 == len(present), f"{scan.id}: organ {organ} is contiguous along z"
    assert overlaps > 0.8 * len(store.scans)
    assert min(maxima) < 1500
    assert max(maxima) > 8000


def test_constant_answers_score_badly(many: Path, tmp_path: Path) -> None:
    """Even the best mask that is the same for every slice, found with the truth in hand, stays low."""
    store = prepare(UWMadison(many), tmp_path, progress=False)
    chosen = [index for index, scan in enumerate(store.scans) if scan.size == (40, 40)]
    masks = np.concatenate([unpack(np.asarray(store.mask(index)), 3) for index in chosen])
    mean = masks.mean(axis=0)
    best = []
    for organ in range(3):
        scores = []
        for threshold in np.linspace(0.02, 0.3, 15):
            answer = mean[organ] > threshold
            scores.append((masks[:, organ] & answer).sum() / (masks[:, organ] | answer).sum())
        best.append(max(scores))
    assert np.mean(best) < 0.25
    assert masks.mean(axis=(0, 2, 3)).max() < 0.1, "all foreground"


def test_brightness_alone_does_not_find_the_organs(many: Path, tmp_path: Path) -> None:
    store = prepare(UWMadison(many), tmp_path, progress=False)
    inside, total = np.zeros((3, 64)), np.zeros(64)
    for index in range(len(store.scans)):
        image = store.image(index)[:, 0].astype(float)
        level = np.clip(image / np.percentile(image, 99.5, axis=(1, 2), keepdims=True) * 63, 0, 63).astype(int)
        masks = unpack(np.asarray(store.mask(index)), 3)
        total += np.bincount(level.ravel(), minlength=64)
        for organ in range(3):
            inside[organ] += np.bincount(level[masks[:, organ]], minlength=64)
    order = np.argsort(-inside / np.maximum(total, 1), axis=1)
    for organ in range(3):
        hit = np.cumsum(inside[organ, order[organ]])
        marked = np.cumsum(total[order[organ]])
        jaccard = hit / (marked + inside[organ].sum() - hit)
        assert jaccard.max() < 0.5


@pytest.mark.parametrize(
    "wrong", [{"cases": 0}, {"cases": 500}, {"scale": 0.0}, {"days": 0}, {"days": 99}, {"slices": 0}]
)
def test_numbers_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        make_phantom(tmp_path / "uw", **{"cases": 2, **wrong})
    assert not (tmp_path / "uw").exists()


def test_nothing_is_overwritten_and_nothing_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "uw"
    root.mkdir()
    (root / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        make_phantom(root, cases=1, scale=0.1, slices=2)
    assert (root / "mine.txt").read_text() == "precious"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(DataError, match="No space left"):
        make_phantom(tmp_path / "other", cases=1, scale=0.1, slices=2)
    assert [path.name for path in tmp_path.iterdir()] == ["uw"]
