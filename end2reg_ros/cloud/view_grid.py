"""The whole view as a picture seen straight along the optical axis: what the coarse search for the spine looks at.

Orthographic, so that a vertebra is equally large at any distance. A thinned cloud and one at the sensor's resolution give
nearly the same picture: cells average over quarter cells, not over points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

CELL_M = 0.008
ROWS, COLUMNS = 120, 160
NEAREST_M, FARTHEST_M = 0.12, 1.5  # nothing outside can be a wound under this camera
ENOUGH_POINTS = 160_000  # of a denser cloud every second (third, ...) point is looked at
LAYER_M = 0.015  # what lies further behind a cell's nearest point belongs to another surface

CHANNEL_NAMES = (
    "occupied",
    "depth_to_40mm_mean",
    "depth_to_170mm_mean",
    "red",
    "green",
    "blue",
    "coloured",
    "normal_x",
    "normal_y",
    "normal_z",
    "spread",
)
CHANNELS = len(CHANNEL_NAMES)

_NARROW, _WIDE = 5, 21  # cells
_NARROW_SCALE_M, _WIDE_SCALE_M = 0.008, 0.03
_CLIP = 3.0
_GREY = 0.5

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ViewGrid:
    """Cells of ``CELL_M``; rows run along the camera's y (down), columns along its x (right).

    Attributes:
        channels: (CHANNELS, ROWS, COLUMNS) float32 as in ``CHANNEL_NAMES``, about unit range, zeros where empty.
        depth: (ROWS, COLUMNS) float32 mean z of the nearest surface, metres, camera frame; 0 where empty.
        origin: (2,) camera x and y of the outer corner of cell (0, 0), metres; a multiple of the cell.
        values: (K, ROWS, COLUMNS) float32 means of the extra values that were given.
    """

    channels: Array
    depth: Array
    origin: NDArray[np.float64]
    values: Array

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """(ROWS, COLUMNS) cells with a point."""
        return self.depth > 0.0


def view_origin(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(2,) corner of a grid whose middle is the median x, y of the nearer 60 % of the points in range.

    The nearer part, as floor and walls pull the middle off the patient. Rounded to whole cells: noise does not move it.

    Args:
        points: (N, 3) metres, camera frame.
    """
    half = 0.5 * CELL_M * np.array([COLUMNS, ROWS])
    sample = points[:: max(1, len(points) // 8000)]
    sample = sample[np.isfinite(sample).all(axis=1)]
    sample = sample[(sample[:, 2] > NEAREST_M) & (sample[:, 2] < FARTHEST_M)]
    if len(sample) == 0:
        return -half
    near = sample[sample[:, 2] <= np.quantile(sample[:, 2], 0.6)]
    return np.asarray(np.rint(np.median(near[:, :2], axis=0) / CELL_M) * CELL_M - half, np.float64)


def view_grid(
    points: NDArray[np.floating],
    colours: NDArray[np.uint8] | None = None,
    values: NDArray[np.floating] | None = None,
    origin: NDArray[np.floating] | None = None,
) -> ViewGrid:
    """Picture of a cloud; points that are not finite, out of range or beside the grid are left out.

    Args:
        points: (N, 3) metres, camera optical frame (x right, y down, z forward).
        colours: (N, 3) red, green, blue; None for a sensor without colour.
        values: (N, K) anything else to be averaged alike (truth in training).
        origin: (2,) corner of the grid; ``view_origin`` when None.

    Raises:
        ValueError: arrays that do not fit each other.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points of a view must be (N, 3), not {points.shape}")
    for name, given in (("colours", colours), ("values", values)):
        if given is not None and len(given) != len(points):
            raise ValueError(f"{len(given)} {name} for {len(points)} points")
    corner = view_origin(points) if origin is None else np.asarray(origin, np.float64)
    step = -(-len(points) // ENOUGH_POINTS)
    if step > 1:
        points = points[::step]
        colours = None if colours is None else colours[::step]
        values = None if values is None else values[::step]
    index, quarter = _quarters(points, corner)
    z = points[:, 2][index].astype(np.float32)
    nearest = np.full(4 * ROWS * COLUMNS, np.inf, np.float32)
    np.minimum.at(nearest, quarter, z)
    limit = _of_cells(np.minimum, nearest) + np.float32(LAYER_M)
    layer = z <= np.repeat(np.repeat(limit, 2, axis=0), 2, axis=1).ravel()[quarter]
    index, quarter, z = index[layer], quarter[layer], z[layer]

    counts = np.bincount(quarter, minlength=nearest.size)
    depth, spread = _mean_and_spread(quarter, z, counts)
    occupied = depth > 0.0
    picture = np.zeros((CHANNELS, ROWS, COLUMNS), np.float32)
    picture[0] = occupied
    picture[1] = _relative(depth, occupied, _NARROW, _NARROW_SCALE_M)
    picture[2] = _relative(depth, occupied, _WIDE, _WIDE_SCALE_M)
    if colours is not None:
        rgb = _means(quarter, colours[index], counts)
        picture[3:6] = (rgb / 255.0 - _GREY) * occupied
        picture[6] = occupied
    picture[7:10] = _normals(depth, occupied)
    picture[10] = spread / np.float32(0.5 * LAYER_M)
    extra = np.zeros((0, ROWS, COLUMNS), np.float32)
    if values is not None:
        extra = _means(quarter, values[index], counts)
    return ViewGrid(picture, depth, corner, extra)


def _quarters(
    points: NDArray[np.floating], corner: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the points on the grid, and their quarter cells in a (2 ROWS, 2 COLUMNS) table."""
    scale = np.float32(2.0 / CELL_M)
    u = (points[:, 0] - np.float32(corner[0])) * scale
    v = (points[:, 1] - np.float32(corner[1])) * scale
    z = points[:, 2]
    # Comparisons with NaN are false: what is not finite drops out here.
    inside = (z > NEAREST_M) & (z < FARTHEST_M) & (u >= 0) & (u < 2 * COLUMNS) & (v >= 0) & (v < 2 * ROWS)
    index = np.flatnonzero(inside)
    return index, v[index].astype(np.int64) * (2 * COLUMNS) + u[index].astype(np.int64)


def _of_cells(combine: np.ufunc, table: NDArray[Any]) -> NDArray[Any]:
    """(ROWS, COLUMNS) minimum, maximum or sum of the four quarters of each cell."""
    rows = table.reshape(2 * ROWS, 2 * COLUMNS)
    pairs = combine(rows[0::2], rows[1::2])
    return combine(pairs[:, 0::2], pairs[:, 1::2])


def _mean_and_spread(
    quarter: NDArray[np.int64], z: NDArray[np.floating], counts: NDArray[np.int64]
) -> tuple[Array, Array]:
    """(ROWS, COLUMNS) mean depth over the occupied quarters of each cell, 0 where empty; largest minus smallest."""
    sums = np.bincount(quarter, z, minlength=counts.size)
    seen = counts > 0
    with np.errstate(invalid="ignore"):
        mean = sums / counts
    low = _of_cells(np.minimum, np.where(seen, mean, np.inf))
    high = _of_cells(np.maximum, np.where(seen, mean, -np.inf))
    some = np.isfinite(low)
    filled = np.maximum(_of_cells(np.add, seen.astype(np.int64)), 1)
    depth = _of_cells(np.add, np.where(seen, mean, 0.0)) / filled
    spread = np.where(some, high, 0.0) - np.where(some, low, 0.0)
    return depth.astype(np.float32), spread.astype(np.float32)


def _means(quarter: NDArray[np.int64], values: NDArray[np.generic], counts: NDArray[np.int64]) -> Array:
    """(K, ROWS, COLUMNS) means of (N, K) values, first over each quarter, then over each cell."""
    filled = np.maximum(_of_cells(np.add, (counts > 0).astype(np.int64)), 1)
    weight = 1.0 / np.maximum(counts, 1)
    columns = [
        _of_cells(np.add, np.bincount(quarter, column, minlength=counts.size) * weight) / filled
        for column in values.T
    ]
    return np.stack(columns).astype(np.float32)


def _relative(depth: Array, occupied: NDArray[np.bool_], cells: int, scale: float) -> Array:
    """Depth behind the mean of the occupied cells around, over ``scale``, clipped; 0 where empty."""
    share = uniform_filter(occupied.astype(np.float32), cells, mode="constant")
    total = uniform_filter(depth, cells, mode="constant")
    mean = total / np.maximum(share, 1e-6)
    return np.where(occupied, np.clip((depth - mean) / scale, -_CLIP, _CLIP), 0.0).astype(np.float32)


def _normals(depth: Array, occupied: NDArray[np.bool_]) -> Array:
    """(3, ROWS, COLUMNS) unit normals towards the camera, from neighbouring cells on the same surface; 0 where empty."""
    slopes = [_slope(depth, occupied, axis) for axis in (1, 0)]
    length = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 1.0)
    normal = np.stack([slopes[0], slopes[1], -np.ones_like(depth)]) / length
    return (normal * occupied).astype(np.float32)


def _slope(depth: Array, occupied: NDArray[np.bool_], axis: int) -> Array:
    """Rise of depth a metre along an axis: the mean of the steps to both neighbours, of those that are no jump."""
    step = np.diff(depth, axis=axis)
    first, second = (slice(None, -1), slice(1, None))
    both = np.take(occupied, range(occupied.shape[axis] - 1), axis) & np.take(
        occupied, range(1, occupied.shape[axis]), axis
    )
    good = both & (np.abs(step) < 2.5 * CELL_M)
    step = np.where(good, step, 0.0)
    total, count = np.zeros_like(depth), np.zeros_like(depth)
    for part in (first, second):
        where = (part, slice(None)) if axis == 0 else (slice(None), part)
        total[where] += step
        count[where] += good
    return total / np.maximum(count, 1.0) / np.float32(CELL_M)
