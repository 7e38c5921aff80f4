"""A synthetic abdomen with organs and unlabelled bodies that resemble them, and the images of a synthetic scanner.

Lengths are in units of 200 mm from the middle of the field of view: x points right in the image, y downwards (to the
back). z runs from 0 at a scan's first slice to 1 at its last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.types import Size

Floats = NDArray[np.float32]

LARGE_BOWEL, SMALL_BOWEL, STOMACH = 0.14, 0.60, 0.86
MUSCLE, FAT, BONE, LUNG, LIVER = 0.36, 0.72, 0.22, 0.08, 0.46


@dataclass(frozen=True, slots=True)
class Blob:
    """A smooth, ellipsoid-like body: in every slice it is an ellipse with a wavy edge, which vanishes at both ends."""

    x: float
    y: float
    first: float
    last: float
    """Ends along z."""
    width: float
    height: float
    """Half axes in the widest slice."""
    brightness: float
    waves: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Phases of the edge's waves."""
    lean: tuple[float, float] = (0.0, 0.0)
    """Shift of the centre along x and y from the middle to the last slice."""
    texture: float = 0.0

    def reach(self, z: float) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Return bounds along x and y in the slice at `z`, with a margin; None beyond the ends."""
        along = self._along(z)
        if abs(along) >= 1:
            return None
        x, y = self.x + self.lean[0] * along, self.y + self.lean[1] * along
        across, down = 1.3 * self.width, 1.3 * self.height
        return (x - across, x + across), (y - down, y + down)

    def radius(self, x: Floats, y: Floats, z: float) -> Floats:
        """Return the distance from the centre in the slice at `z`, as a fraction of the distance to the edge."""
        along = self._along(z)
        shrink = (1 - abs(along) ** 3) ** (1 / 3)
        right = (x - self.x - self.lean[0] * along) / self.width
        down = (y - self.y - self.lean[1] * along) / self.height
        angle = np.arctan2(down, right)
        edge = 1 + sum(
            height * np.cos(k * angle + phase + 0.8 * along)
            for height, k, phase in zip((0.07, 0.04, 0.02), (2, 3, 5), self.waves, strict=True)
        )
        return np.asarray(np.hypot(right, down) / (shrink * edge), np.float32)

    def _along(self, z: float) -> float:
        """Return the position between the ends: -1 at the first, 1 at the last."""
        return (2 * z - self.first - self.last) / (self.last - self.first)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One case on one day."""

    centre: tuple[float, float]
    body: tuple[float, float]
    """Half width and half height of the trunk."""
    organs: tuple[Blob, Blob, Blob]
    """Large bowel, small bowel and stomach, which have labels."""
    lookalikes: tuple[Blob, ...]
    """All other bodies inside the trunk, without labels."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """Draw a patient: the standard arrangement with random sizes, positions and brightness."""

        def near(value: float, spread: float) -> float:
            return float(value + spread * np.clip(rng.standard_normal(), -2, 2))

        def blob(
            x: float, y: float, z: tuple[float, float], width: float, height: float, shade: float, texture: float
        ) -> Blob:
            return Blob(
                x=near(x, 0.045),
                y=near(y, 0.04),
                first=near(z[0], 0.012),
                last=near(z[1], 0.012),
                width=width * near(1, 0.08),
                height=height * near(1, 0.08),
                brightness=near(shade, 0.03),
                waves=(rng.uniform(0, 6.3), rng.uniform(0, 6.3), rng.uniform(0, 6.3)),
                lean=(near(0, 0.03), near(0, 0.03)),
                texture=texture,
            )

        top = near(0.28, 0.03)
        organs = (
            blob(-0.42, -0.12, (top + 0.04, top + 0.42), 0.33, 0.36, LARGE_BOWEL, 0.08),
            blob(0.10, 0.15, (top + 0.14, top + 0.43), 0.39, 0.31, SMALL_BOWEL, 0.15),
            blob(0.38, -0.24, (top, top + 0.22), 0.34, 0.29, STOMACH, 0.06),
        )
        lookalikes = [
            blob(-0.50, -0.06, (-0.3, top - 0.08), 0.29, 0.43, LUNG, 0.03),
            blob(0.50, -0.06, (-0.3, top - 0.12), 0.27, 0.43, LUNG, 0.03),
            blob(0.06, -0.22, (-0.3, top - 0.10), 0.25, 0.24, STOMACH, 0.08),
            blob(-0.34, -0.10, (top - 0.14, top + 0.04), 0.46, 0.43, LIVER, 0.06),
            blob(0.62, 0.20, (top - 0.10, top + 0.16), 0.12, 0.20, STOMACH, 0.06),
            blob(-0.46, 0.38, (top + 0.02, top + 0.30), 0.13, 0.13, SMALL_BOWEL, 0.10),
            blob(0.52, 0.42, (top, top + 0.28), 0.12, 0.12, SMALL_BOWEL, 0.10),
            blob(-0.54, 0.14, (top + 0.48, 1.3), 0.17, 0.18, BONE, 0.08),
            blob(0.54, 0.14, (top + 0.48, 1.3), 0.17, 0.18, BONE, 0.08),
            blob(0.0, -0.16, (top + 0.50, 1.1), 0.23, 0.19, SMALL_BOWEL, 0.03),
        ]
        for shade in (LARGE_BOWEL, SMALL_BOWEL, STOMACH, LARGE_BOWEL, STOMACH):
            angle, first = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.85)
            x, y = 0.62 * np.cos(angle), 0.44 * np.sin(angle)
            lookalikes.append(blob(x, y, (first, first + 0.2), 0.07, 0.07, shade, 0.05))
        return cls((near(0, 0.07), near(0, 0.06)), (near(0.89, 0.03), near(0.70, 0.025)), organs, tuple(lookalikes))

    def on_another_day(self, rng: np.random.Generator) -> Anatomy:
        """Return the same patient at another position on the table, with slightly moved organs."""

        def moved(blob: Blob) -> Blob:
            step = np.clip(rng.standard_normal(4), -2, 2)
            return replace(
                blob,
                x=blob.x + 0.02 * step[0],
                y=blob.y + 0.02 * step[1],
                width=blob.width * (1 + 0.05 * step[2]),
                height=blob.height * (1 + 0.05 * step[3]),
                waves=(blob.waves[0], blob.waves[1], rng.uniform(0, 6.3)),
            )

        large, small, stomach = (moved(organ) for organ in self.organs)
        shift = rng.uniform(-0.03, 0.03, 2)
        centre = (self.centre[0] + float(shift[0]), self.centre[1] + float(shift[1]))
        return Anatomy(centre, self.body, (large, small, stomach), tuple(moved(blob) for blob in self.lookalikes))


class Field:
    """Smooth noise through a scan, interpolated from a grid of random points with unit deviation."""

    def __init__(self, rng: np.random.Generator, points: int, layers: int, size: Size) -> None:
        self._grid = rng.standard_normal((layers + 1, points, points), np.float32)
        self._rows, self._columns = _interpolation(points, size[0]), _interpolation(points, size[1]).T

    def slice(self, z: float) -> Floats:
        """Return the noise `[H W]` in the slice at `z` (0 to 1)."""
        depth = z * (len(self._grid) - 1)
        below = min(int(depth), len(self._grid) - 2)
        plane = self._grid[below] + np.float32(depth - below) * (self._grid[below + 1] - self._grid[below])
        return self._rows @ plane @ self._columns


def _interpolation(points: int, pixels: int) -> Floats:
    """Return weights `[pixels points]` of linear interpolation from evenly spaced points, the ends included."""
    place = np.linspace(0, points - 1, pixels)[:, None]
    return np.maximum(1 - np.abs(place - np.arange(points)), 0).astype(np.float32)


class Scanner:
    """Takes images of an anatomy with its own gain, bias field and textures, so that every scan looks different.

    Args:
        x: pixel centres of the columns, `[1 W]`.
        y: pixel centres of the rows, `[H 1]`.
    """

    noise = 0.03

    def __init__(self, anatomy: Anatomy, x: Floats, y: Floats, rng: np.random.Generator) -> None:
        self._anatomy = anatomy
        self._rng = rng
        self._x, self._y = x - np.float32(anatomy.centre[0]), y - np.float32(anatomy.centre[1])
        self._sharpness = 1 / float(x[0, 1] - x[0, 0])
        self._size: Size = (y.shape[0], x.shape[1])
        self._bias = Field(rng, 3, 2, self._size)
        self._coarse, self._fine = Field(rng, 9, 8, self._size), Field(rng, 26, 16, self._size)
        self._gain = float(np.exp(rng.uniform(np.log(600), np.log(7000))))
        self._skin = np.asarray(np.hypot(self._x / anatomy.body[0], self._y / anatomy.body[1]), np.float32)

    def take(self, z: float) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Return image `[H W]` and masks `[3 H W]` of the slice at `z`."""
        anatomy, rng = self._anatomy, self._rng
        coarse, fine = self._coarse.slice(z), self._fine.slice(z)
        inside = self._cover(self._skin / 0.88, anatomy.body[1])
        picture = self._cover(self._skin, anatomy.body[1]) * FAT
        picture += inside * (MUSCLE - picture + 0.03 * coarse + 0.03 * fine)
        spine = Blob(0, 0.49, -9, 9, 0.11, 0.10, BONE, texture=0.06)
        aorta = Blob(-0.16, 0.42, -9, 9, 0.045, 0.045, float(rng.uniform(0.9, 1.9)))
        for blob in (*anatomy.lookalikes, spine, aorta):
            self._paint(blob, z, picture, inside, coarse, fine)
        masks = np.zeros((len(anatomy.organs), *self._size), bool)
        for mask, organ in zip(masks, anatomy.organs, strict=True):
            self._paint(organ, z, picture, inside, coarse, fine, mask)
        picture *= np.exp(0.2 * self._bias.slice(z))
        real, imaginary = self.noise * rng.standard_normal((2, *self._size), np.float32)
        magnitude = np.hypot(np.maximum(picture, 0) + real, imaginary)
        gain = self._gain * rng.uniform(0.8, 1.2)
        return np.asarray(np.clip(np.rint(gain * magnitude), 0, 65535), np.uint16), masks

    def _paint(
        self, blob: Blob, z: float, picture: Floats, inside: Floats, coarse: Floats, fine: Floats, mask: Any = None
    ) -> None:
        """Draw a blob into `picture`, and mark its pixels in `mask`."""
        reach = blob.reach(z)
        if reach is None:
            return
        rows, columns = _window(self._y[:, 0], *reach[1]), _window(self._x[0], *reach[0])
        radius = blob.radius(self._x[:, columns], self._y[rows], z)
        if radius.size == 0:
            return
        here = picture[rows, columns]
        shade = blob.brightness + blob.texture * (0.5 * coarse[rows, columns] + fine[rows, columns])
        here += self._cover(radius, min(blob.width, blob.height)) * inside[rows, columns] * (shade - here)
        if mask is not None:
            mask[rows, columns] = (radius < 1) & (self._skin[rows, columns] < 0.88)

    def _cover(self, radius: Floats, extent: float) -> Floats:
        """Return the share of each pixel covered by a body whose edge is at radius 1, `extent` from its centre."""
        return np.clip((1 - radius) * np.float32(extent * self._sharpness) + np.float32(0.5), 0, 1)


def _window(places: Floats, low: float, high: float) -> slice:
    first, last = np.searchsorted(places, (low, high))
    return slice(int(first), int(last))
