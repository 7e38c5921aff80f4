"""Distances between the surfaces of two masks, in the dimensions in which their scan extends.

A picture, or any scan of one slice, has contours: its single slice has no neighbours above and below, so that voxels
inside a mask are no surface.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

TREE_POINTS = 50_000
"""Largest number of points for which a k-d tree is used; an organ's surface has fewer. For more points, as in noisy
predictions, a distance transform of the whole box is faster. Both give the same distances."""


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask of any number of dimensions that share a face with one outside the mask or the scan.

    This is the definition of MONAI's `get_mask_edges` without sub-voxel areas: `mask ^ binary_erosion(mask)`.
    """
    return mask & ~ndimage.binary_erosion(mask)


def directed_distances(
    source: NDArray[np.bool_], target: NDArray[np.bool_], spacing: Sequence[float]
) -> NDArray[np.float64]:
    """Compute the Euclidean distance from every voxel of `source` to the nearest of `target`; both hold one.

    Distances are in the unit of `spacing` (one number for each axis) and in C order of the source's voxels.
    """
    scale = np.asarray(spacing, dtype=np.float64)
    points = np.argwhere(source)
    if len(points) <= TREE_POINTS:
        tree = KDTree(np.argwhere(target) * scale, leafsize=32)
        return np.asarray(tree.query(points * scale)[0], dtype=np.float64)
    closest = ndimage.distance_transform_edt(~target, sampling=scale, return_distances=False, return_indices=True)
    steps = points - np.stack([axis[source] for axis in closest], axis=1)
    return np.asarray(np.linalg.norm(steps * scale, axis=1))


def crop_to_union(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Crop both masks to the smallest box around their union, which must not be empty."""
    union = first | second
    box = []
    for axis in range(union.ndim):
        present = np.flatnonzero(union.any(axis=tuple(a for a in range(union.ndim) if a != axis)))
        box.append(slice(int(present[0]), int(present[-1]) + 1))
    return first[tuple(box)], second[tuple(box)]


def surfaces(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    spacing: Sequence[float],
    numbers: Sequence[int] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], list[float]]:
    """Return the surfaces of two masks of a scan `[s H W]`, whose union is not empty, cropped to it, and their spacing.

    Axes along which the scan has one voxel are left out, of the spacing too. `numbers` are those of the slices, if some
    between them are missing: surfaces then lie at their places, but a slice and the next one that is there touch,
    because nothing is known of what lies between them.
    """
    if numbers is not None and len(numbers) > 1:
        there = np.asarray(numbers) - numbers[0]
        apart = np.zeros((2, int(there[-1]) + 1, *first.shape[1:]), bool)
        apart[:, there] = surface(first), surface(second)
        return *crop_to_union(*apart), list(spacing)
    wide = [axis for axis, length in enumerate(first.shape) if length > 1] or [0]
    cropped = crop_to_union(*(mask.reshape([mask.shape[axis] for axis in wide]) for mask in (first, second)))
    return surface(cropped[0]), surface(cropped[1]), [spacing[axis] for axis in wide]


def hausdorff(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing: Sequence[float],
    *,
    percentile: float = 95.0,
    numbers: Sequence[int] | None = None,
) -> float:
    """Compute the symmetric percentile Hausdorff distance of two non-empty masks `[s H W]` in the unit of `spacing`.

    This is the given percentile (with linear interpolation) of the distances from the surface voxels of one mask to the
    nearest surface voxel of the other, computed in each direction; the larger one is returned, as in MONAI's
    `compute_hausdorff_distance(percentile=95)` with `directed=False`; for one slice, it is MONAI's of two images.
    Other common definitions take the mean, the union or the pooled percentile of both directions; they give smaller
    values. `numbers` are those of `surfaces`.
    """
    a, b, scale = surfaces(prediction, truth, spacing, numbers)
    return max(
        float(np.percentile(directed_distances(a, b, scale), percentile)),
        float(np.percentile(directed_distances(b, a, scale), percentile)),
    )


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Compute the diagonal of a scan of `shape` (s, H, W) voxels in the unit of `spacing`."""
    return float(np.linalg.norm(np.asarray(shape, dtype=np.float64) * np.asarray(spacing, dtype=np.float64)))
