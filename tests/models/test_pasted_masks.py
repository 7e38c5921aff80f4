"""Masks on demand against torchvision's `paste_masks_in_image`, which makes all at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from fewpairs.models.pasted_masks import PastedMasks

SIZE = (23, 31)
corners = st.tuples(st.floats(0, SIZE[1], width=32), st.floats(0, SIZE[0], width=32))


@given(st.lists(st.tuples(corners, corners), min_size=1, max_size=4), st.integers(0, 2**16))
def test_each_mask_is_that_of_torchvision(pairs: list[tuple[tuple[float, float], ...]], seed: int) -> None:
    places = torch.tensor(pairs)
    boxes = torch.cat([places.amin(1), places.amax(1)], dim=1)
    small = torch.rand(len(boxes), 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    wanted = paste_masks_in_image(small, boxes, SIZE)[:, 0] > 0.5
    masks = PastedMasks(small, boxes, SIZE)
    assert masks.shape == tuple(wanted.shape)
    assert torch.equal(torch.stack(list(masks)), wanted)


def test_chosen_masks_stay_on_demand() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 5, 20, 15], [1, 2, 3, 4]])
    masks = PastedMasks(torch.rand(3, 1, 28, 28), boxes, SIZE)
    chosen = masks[torch.tensor([2, 0])].to("cpu")
    assert chosen.shape == (2, *SIZE)
    assert torch.equal(chosen[0], masks[2])
    assert masks[torch.tensor([], dtype=torch.long)].shape == (0, *SIZE)
    with pytest.raises(IndexError):
        masks[3]
