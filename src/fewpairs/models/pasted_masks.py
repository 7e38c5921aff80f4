"""Masks of a detector in an image too large for all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

from fewpairs.types import Size


@dataclass(frozen=True, slots=True)
class PastedMasks:
    """Masks `[o H W]` bool, each pasted into the image as torchvision's `paste_masks_in_image` does when it is read.

    Attributes:
        small: `[o 1 m m]`, probabilities of the pixels inside the boxes.
        boxes: `[o 4]` in pixels of the image.
        size: height and width of the image.
    """

    small: Tensor
    boxes: Tensor
    size: Size

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self), *self.size

    @property
    def ndim(self) -> int:
        return 3

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, which: Any) -> Any:
        """Return the mask `[H W]` of an index, or the masks that a slice or a tensor selects."""
        if not isinstance(which, int):
            return PastedMasks(self.small[which], self.boxes[which], self.size)
        padded, scale = expand_masks(self.small[which][None], padding=1)
        left, top, right, bottom = expand_boxes(self.boxes[which][None], scale).to(torch.int64)[0].tolist()
        inside = max(bottom - top + 1, 1), max(right - left + 1, 1)
        shown = F.interpolate(padded, size=inside, mode="bilinear", align_corners=False)[0, 0] > 0.5
        rows = max(top, 0), min(bottom + 1, self.size[0])
        columns = max(left, 0), min(right + 1, self.size[1])
        mask = torch.zeros(self.size, dtype=torch.bool, device=shown.device)
        mask[rows[0] : rows[1], columns[0] : columns[1]] = shown[
            rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
        ]
        return mask

    def to(self, device: torch.device | str) -> PastedMasks:
        """Return a copy on `device`."""
        return PastedMasks(self.small.to(device), self.boxes.to(device), self.size)
