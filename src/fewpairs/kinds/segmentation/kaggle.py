"""The score of the UW-Madison GI Tract competition (Kaggle, 2022): 0.4 x Dice + 0.6 x Hausdorff score.

The competition's text gives the two weights and says that Dice is a mean over slices. The Hausdorff part is three-
dimensional, takes the distance between slices as 1 and normalises positions by the image's size, so that it lies
between 0 and 1.

The scoring code itself could not be obtained. Three assumptions replace it:

- Slices that lack the class in both truth and prediction are skipped, as a comment of the host says. The text says they
  score 0, but about 70 % of all slice-class pairs are empty, which limits such scores to about 0.72; 0.88 won.
- The Hausdorff score is the proxy in the winner's code: 1 - d / D, where d is the largest distance from a surface voxel
  of the prediction to the nearest one of the truth (in this direction only) and D the diagonal of the volume, both in
  voxels. It is 1 when the masks are equal (also if both are empty) and 0 when exactly one is empty.
- Dice is averaged over all counted slice-class pairs, the Hausdorff score over all scan-class pairs.

The result is a proxy for comparing one's own models and not the leaderboard's score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewpairs.kinds.segmentation.surface import diagonal, directed_distances, surfaces

DICE_WEIGHT = 0.4
HAUSDORFF_WEIGHT = 0.6


def slice_dice(
    intersection: NDArray[np.int64], predicted: NDArray[np.int64], true: NDArray[np.int64]
) -> tuple[float, int]:
    """Sum the Dice of the slices with the class in truth or prediction, and count these slices; inputs are `[s]`."""
    present = (predicted + true) > 0
    dice = 2.0 * intersection[present] / (predicted + true)[present]
    return float(dice.sum()), int(present.sum())


def hausdorff_score(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], numbers: Sequence[int] | None = None
) -> float:
    """Compute the Hausdorff score (0 to 1) of one class of one scan `[s H W]`; `numbers` are those of `surfaces`."""
    if np.array_equal(prediction, truth):
        return 1.0
    if not prediction.any() or not truth.any():
        return 0.0
    distances = directed_distances(*surfaces(prediction, truth, (1.0, 1.0, 1.0), numbers))
    depth = len(prediction) if numbers is None else numbers[-1] - numbers[0] + 1
    return 1.0 - float(distances.max()) / diagonal((depth, *prediction.shape[1:]), (1.0, 1.0, 1.0))
