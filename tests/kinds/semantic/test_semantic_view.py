"""Views, augmentation and data sets: sizes, chance, alignment of image and labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scene_files import CLASSES, make_folder, save, scene

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.augment import SemanticAugment, train_sample
from fewpairs.kinds.semantic.dataset import SemanticDataset, SemanticItems, collate_semantic
from fewpairs.kinds.semantic.layouts.open import SemanticOptions, open_semantic
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.types import IGNORE

VIEW = SemanticView(size=(32, 32), short=None)


@pytest.mark.parametrize(
    ("native", "factor", "expected"),
    [
        ((512, 683), 1.0, (512, 683)),
        ((300, 400), 1.0, (512, 683)),
        ((300, 2400), 1.0, (256, 2048)),
        ((400, 300), 0.5, (341, 256)),
        ((100, 100), 2.0, (1024, 1024)),
    ],
)
def test_resizing_keeps_the_aspect_as_mmsegmentation_does(native, factor, expected):
    assert SemanticView().resized(native, factor) == expected


def test_without_a_shorter_side_pictures_stay_as_they_are():
    assert VIEW.resized((37, 91)) == (37, 91)
    image = Image.fromarray(scene(1)[0])
    view = VIEW.with_channels(3)
    back = view.apply(image) * torch.tensor(view.std).view(3, 1, 1) + torch.tensor(view.mean).view(3, 1, 1)
    assert torch.allclose(back * 255, torch.from_numpy(scene(1)[0]).permute(2, 0, 1).float(), atol=1e-3)


@settings(max_examples=25)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    short=st.none() | st.integers(1, 60),
    crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 1000),
    augmented=st.booleans(),
)
def test_samples_have_the_size_of_the_view_and_only_known_labels(height, width, short, crop, seed, augmented):
    generator = np.random.default_rng(seed)
    image = Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))
    labels = generator.choice([0, 1, 2, IGNORE], (height, width)).astype(np.uint8)
    view = SemanticView(size=crop, short=short).with_channels(3)
    augment = SemanticAugment(turn=bool(seed % 2)) if augmented else None
    picture, label = train_sample(image, labels, view, augment, generator)
    assert picture.shape == (3, *crop)
    assert label.shape == crop
    assert picture.isfinite().all()
    assert set(label.unique().tolist()) <= {0, 1, 2, IGNORE}


def test_labels_follow_the_picture():
    """Where the made scene is red, blue or dull, its label says so after any change but that of colours."""
    view = VIEW.with_channels(3)
    augment = SemanticAugment(photometric=False, turn=True)
    for seed in range(8):
        image, labels = scene(seed)
        picture, label = train_sample(Image.fromarray(image), labels, view, augment, np.random.default_rng(seed))
        scored = label != IGNORE
        redder = picture[0] > picture[2] + 1
        assert (redder == (label == 1))[scored].float().mean() > 0.9


def test_what_lies_beyond_the_picture_is_not_scored():
    image, labels = scene(1, (20, 24))
    picture, label = train_sample(Image.fromarray(image), labels, VIEW.with_channels(3), None, np.random.default_rng(0))
    assert (label[20:] == IGNORE).all()
    assert (label[:, 24:] == IGNORE).all()
    assert (picture[:, 20:] == 0).all()
    assert (label[:20, :24] == torch.from_numpy(labels)).all()


def test_crops_of_one_class_are_drawn_again():
    labels = np.zeros((40, 400), np.uint8)
    labels[:, 380:] = 1
    image = Image.fromarray(np.zeros((40, 400, 3), np.uint8))
    found = {
        share: sum(
            (
                train_sample(
                    image,
                    labels,
                    VIEW.with_channels(3),
                    SemanticAugment(scale=(1.0, 1.0), crop_share=share, photometric=False),
                    np.random.default_rng(seed),
                )[1]
                == 1
            )
            .any()
            .item()
            for seed in range(60)
        )
        for share in (1.0, 0.95)
    }
    assert found[0.95] > 2 * found[1.0]


def test_a_sample_depends_on_seed_epoch_and_index_alone(tmp_path):
    source = open_semantic("label-maps", make_folder(tmp_path), SemanticOptions(classes=CLASSES))
    make = lambda seed: SemanticDataset(source, source.part("train"), VIEW, augment=SemanticAugment(), seed=seed)  # noqa: E731
    first, second = make(3), make(3)
    before = torch.random.get_rng_state()
    one = first[2, 1]
    second[0, 0]
    again = second[2, 1]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.label, again.label)
    assert not torch.equal(one.image, first[3, 1].image)
    assert not torch.equal(one.image, make(4)[2, 1].image)
    batch = collate_semantic([first[0, index] for index in range(3)])
    assert batch.image.shape == (3, 3, 32, 32)
    assert batch.label.shape == (3, 32, 32)
    assert batch.label.dtype == torch.int64


def test_evaluation_sees_whole_images_and_labels_at_their_own_size(tmp_path):
    source = open_semantic("label-maps", make_folder(tmp_path), SemanticOptions(classes=CLASSES))
    scenes = SemanticItems(source, source.part("validation"), SemanticView(size=(32, 32), short=20))
    assert len(scenes) == 3
    assert scenes[0].image.shape == (1, 3, 20, 24)
    assert scenes[0].label.shape == (40, 48)
    assert scenes[0].id == scenes[0].case == "val/100"


def test_a_grey_data_set_stays_grey_and_16_bits_are_read(tmp_path):
    for number in range(3):
        image, labels = scene(number)
        save(tmp_path / "images" / f"{number}.png", image.mean(-1).astype(np.uint16) * 256)
        save(tmp_path / "masks" / f"{number}.png", labels)
    source = open_semantic("label-maps", tmp_path, SemanticOptions(classes=CLASSES))
    assert source.channels == 1
    dataset = SemanticDataset(source, source.part("train"), VIEW, augment=SemanticAugment())
    assert dataset[0, 0].image.shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SemanticView(size=(0, 4)), "view.size"),
        (lambda: SemanticView(short=0), "view.short=0"),
        (lambda: SemanticView(short=600, long=512), "view.long=512"),
        (lambda: SemanticView(mean=(0.5, 0.5)), "view.mean"),
        (lambda: SemanticView(std=(0.5, 0.0, 0.5)), "view.std"),
        (lambda: SemanticAugment(scale=(2.0, 1.0)), "augment.scale"),
        (lambda: SemanticAugment(crop_share=0.0), "augment.crop_share"),
        (lambda: SemanticAugment(flip=1.5), "augment.flip"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
