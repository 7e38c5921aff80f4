"""Distances between the surfaces of two masks, in three dimensions."""

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
    """Return the voxels of `mask` `[s H W]` that share a face with a voxel outside the mask or the scan.

    This is the definition of MONAI's `get_mask_edges` without sub-voxel areas: `mask ^ binary_erosion(mask)`.
    """
    return mask & ~ndimage.binary_erosion(mask)


def directed_distances(
    source: NDArray[np.bool_], target: NDArray[np.bool_], spacing: Sequence[float]
) -> NDArray[np.float64]:
    """Compute the Euclidean distance from every voxel of `source` to the nearest of `target`; both `[s H W]` hold one.

    Distances are in the unit of `spacing` (between slices, rows, columns) and in C order of the source's voxels.
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
    """Crop both masks `[s H W]` to the smallest box around their union, which must not be empty."""
    union = first | second
    box = []
    for axis in range(union.ndim):
        present = np.flatnonzero(union.any(axis=tuple(a for a in range(union.ndim) if a != axis)))
        box.append(slice(int(present[0]), int(present[-1]) + 1))
    return first[tuple(box)], second[tuple(box)]


def hausdorff(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], *, percentile: float = 95.0
) -> float:
    """Compute the symmetric percentile Hausdorff distance of two non-empty masks `[s H W]` in the unit of `spacing`.

    This is the given percentile (with linear interpolation) of the distances from the surface voxels of one mask to the
    nearest surface voxel of the other, computed in each direction; the larger one is returned, as in MONAI's
    `compute_hausdorff_distance(percentile=95)` with `directed=False`. Other common definitions take the mean, the union
    or the pooled percentile of both directions; they give smaller values.
    """
    prediction, truth = crop_to_union(prediction, truth)
    a, b = surface(prediction), surface(truth)
    return max(
        float(np.percentile(directed_distances(a, b, spacing), percentile)),
        float(np.percentile(directed_distances(b, a, spacing), percentile)),
    )


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Compute the diagonal of a scan of `shape` (s, H, W) voxels in the unit of `spacing`."""
    return float(np.linalg.norm(np.asarray(shape, dtype=np.float64) * np.asarray(spacing, dtype=np.float64)))
