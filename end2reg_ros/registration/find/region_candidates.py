"""From maps of bone and directions to a few places where the spine may be, each with a rough pose.

The rough pose (local frame) has the model's axes (x right, y anterior, z superior) and the region's middle as its origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, label

from end2reg_ros.cloud.view_grid import CELL_M, ViewGrid
from end2reg_ros.se3 import from_rotation_translation

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RegionMaps:
    """What the network says of a view, made readable, on a grid of H x W cells that divides the view's grid evenly.

    Attributes:
        bone: (H, W) probability of bone, 0 to 1.
        line: (2, H, W) cosine and sine of twice the angle of the model's z axis in the image plane (from the camera's x
            towards its y): the line along the spine, without saying which end is up.
        superior: (2, H, W) x and y, camera frame, of the direction of the model's +z in the image plane; shorter than 1
            where it is uncertain.
        anterior: (2, H, W) x and y, camera frame, of the model's +y (away from the camera).
    """

    bone: NDArray[np.float32]
    line: NDArray[np.float32]
    superior: NDArray[np.float32]
    anterior: NDArray[np.float32]


@dataclass(frozen=True)
class CandidateSettings:
    """How maps become candidates.

    Attributes:
        probability: a cell counts as bone from here.
        area_min_m2: least area of bone, in the image plane, weighed by probability.
        gap_m, aside_m, step_m: parts of one wound are at most this far apart along the spine, sideways and in depth.
        most: candidates returned.
        flip_min: the opposite direction is offered as a candidate of its own from this probability.
        tilt_max_deg: the anterior direction leans at most this far from the optical axis.
    """

    probability: float = 0.3
    area_min_m2: float = 0.0008
    gap_m: float = 0.07
    aside_m: float = 0.035
    step_m: float = 0.05
    most: int = 4
    flip_min: float = 0.05
    tilt_max_deg: float = 60.0


@dataclass(frozen=True)
class RegionCandidate:
    """A place where the spine may be.

    Attributes:
        centre: (3,) middle of the region's bone, metres, camera frame.
        axis_superior: (3,) unit vector, camera frame, roughly the model's +z.
        outward: (3,) unit vector, camera frame, out of the patient's back: roughly the model's -y.
        T_camera_local: (4, 4) rough pose: the model's axes, origin at ``centre``.
        score: 0 to 1: mean probability of bone, times that of the direction.
        direction_probability: of this direction against its opposite.
        area_m2: area of its bone in the image plane, weighed by probability.
        cells: (K, 2) int, row and column of its cells in the maps.
    """

    centre: Array
    axis_superior: Array
    outward: Array
    T_camera_local: Array
    score: float
    direction_probability: float
    area_m2: float
    cells: NDArray[np.int64]


@dataclass(frozen=True)
class _Cells:
    """Bone cells: ``points`` (K, 3) camera frame, ``weight`` (K,), mean directions (2,), ``index`` (K, 2)."""

    points: Array
    weight: Array
    line: Array
    superior: Array
    anterior: Array
    index: NDArray[np.int64]


def read_maps(output: NDArray[np.float32]) -> RegionMaps:
    """The network's output (7, H, W) as maps: bone logit, line, superior, anterior, two channels each."""
    if output.ndim != 3 or len(output) != 7:
        raise ValueError(f"a region network's output is (7, H, W), not {output.shape}")
    with np.errstate(over="ignore"):
        bone = 1.0 / (1.0 + np.exp(-output[0]))
    return RegionMaps(bone, output[1:3], output[3:5], output[5:7])


def find_candidates(
    output: NDArray[np.float32], grid: ViewGrid, settings: CandidateSettings | None = None
) -> list[RegionCandidate]:
    """Candidates from the network's output (7, H, W) for a view's grid; see ``region_candidates``."""
    return region_candidates(grid, read_maps(output), settings)


def region_candidates(
    grid: ViewGrid, maps: RegionMaps, settings: CandidateSettings | None = None
) -> list[RegionCandidate]:
    """Candidates, those with most bone first and each followed by its opposite where that is likely; none without a spine.

    Raises:
        ValueError: maps that do not divide the grid, or of different sizes.
    """
    s = settings or CandidateSettings()
    points = _map_points(grid, maps)
    height, width = maps.bone.shape
    cell_area = (CELL_M * grid.depth.shape[0] / height) * (CELL_M * grid.depth.shape[1] / width)
    bone = np.where(np.isfinite(maps.bone) & np.isfinite(points[2]), maps.bone, 0.0)
    mask = bone >= s.probability
    parts, count = label(binary_closing(np.pad(mask, 1), np.ones((3, 3)))[1:-1, 1:-1], np.ones((3, 3)))
    groups = [
        _gather(np.argwhere(mask & (parts == k)), points, bone, maps)
        for k in range(1, count + 1)
        if (mask & (parts == k)).any()
    ]
    found: list[RegionCandidate] = []
    for cells in _merge(groups, s):
        area = float(cells.weight.sum()) * cell_area
        if area < s.area_min_m2:
            continue
        candidate = _candidate(cells, area, s)
        found.append(candidate)
        flipped = 1.0 - candidate.direction_probability
        if flipped >= s.flip_min:
            found.append(opposite(candidate))
    return found[: s.most]


def _map_points(grid: ViewGrid, maps: RegionMaps) -> Array:
    """(3, H, W) mean point of each map cell, camera frame; NaN where the view has no point."""
    rows, columns = grid.depth.shape
    height, width = maps.bone.shape
    shapes = {maps.line.shape, maps.superior.shape, maps.anterior.shape}
    if shapes != {(2, height, width)} or rows % height or columns % width:
        raise ValueError(
            f"maps of {maps.bone.shape} and {sorted(shapes)} do not fit a view of {grid.depth.shape}"
        )
    high, wide = rows // height, columns // width
    y, x = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
    place = np.stack([grid.origin[0] + CELL_M * x, grid.origin[1] + CELL_M * y, grid.depth])
    blocks = (place * grid.occupied).reshape(3, height, high, width, wide).sum(axis=(2, 4))
    counts = grid.occupied.reshape(height, high, width, wide).sum(axis=(1, 3))
    return np.where(counts > 0, blocks / np.maximum(counts, 1), np.nan)


def _gather(index: NDArray[np.int64], points: Array, bone: Array, maps: RegionMaps) -> _Cells:
    rows, columns = index.T
    weight = bone[rows, columns].astype(np.float64)
    return _Cells(
        points[:, rows, columns].T,
        weight,
        _mean(maps.line[:, rows, columns], weight),
        _mean(maps.superior[:, rows, columns], weight),
        _mean(maps.anterior[:, rows, columns], weight),
        index,
    )


def _mean(vectors: NDArray[np.floating], weight: Array) -> Array:
    return np.asarray(np.nan_to_num(vectors.astype(np.float64)) @ weight / weight.sum())


def _merge(groups: list[_Cells], s: CandidateSettings) -> list[_Cells]:
    """Join parts of one wound, the largest first: an instrument across it does not make two spines."""
    merged: list[_Cells] = []
    rest = sorted(groups, key=lambda g: -g.weight.sum())
    while rest:
        whole = rest.pop(0)
        joined = True
        while joined:
            near = [g for g in rest if _belongs(whole, g, s)]
            rest = [g for g in rest if all(g is not n for n in near)]
            joined = bool(near)
            for g in near:
                whole = _join(whole, g)
        merged.append(whole)
    return sorted(merged, key=lambda g: -g.weight.sum())


def _belongs(whole: _Cells, part: _Cells, s: CandidateSettings) -> bool:
    along = _along(whole)
    aside = np.array([-along[1], along[0]])
    a, b = whole.points[:, :2] @ along, part.points[:, :2] @ along
    gap = max(float(b.min() - a.max()), float(a.min() - b.max()), 0.0)
    offset = abs(
        _middle(part.points[:, :2] @ aside, part.weight) - _middle(whole.points[:, :2] @ aside, whole.weight)
    )
    step = abs(float(np.median(part.points[:, 2]) - np.median(whole.points[:, 2])))
    # The spine slopes with the view's tilt: the further along, the more depth may differ.
    reach = abs(_middle(b, part.weight) - _middle(a, whole.weight))
    return gap <= s.gap_m and offset <= s.aside_m and step <= s.step_m + reach


def _along(cells: _Cells) -> Array:
    """(2,) unit vector of the mean line, pointing to the likelier superior end."""
    angle = 0.5 * np.arctan2(cells.line[1], cells.line[0])
    along = np.array([np.cos(angle), np.sin(angle)])
    return along if cells.superior @ along >= 0.0 else -along


def _middle(values: Array, weight: Array) -> float:
    return float(values @ weight / weight.sum())


def _join(a: _Cells, b: _Cells) -> _Cells:
    weights = np.array([a.weight.sum(), b.weight.sum()])
    return _Cells(
        np.concatenate([a.points, b.points]),
        np.concatenate([a.weight, b.weight]),
        _mean(np.stack([a.line, b.line], axis=1), weights),
        _mean(np.stack([a.superior, b.superior], axis=1), weights),
        _mean(np.stack([a.anterior, b.anterior], axis=1), weights),
        np.concatenate([a.index, b.index]),
    )


def _candidate(cells: _Cells, area: float, s: CandidateSettings) -> RegionCandidate:
    along = _along(cells)
    R = _rotation(along, cells.anterior, s.tilt_max_deg)
    local = cells.points @ R
    middle = [_midrange(local[:, k], cells.weight) for k in range(3)]
    middle[1] = float(np.median(local[:, 1]))
    centre = R @ np.array(middle)
    # The mean of unit vectors that are right with probability p and opposite otherwise has length 2 p - 1.
    probability = 0.5 + 0.5 * min(1.0, float(cells.superior @ along))
    score = float(cells.weight.mean()) * probability
    return RegionCandidate(
        centre, R[:, 2], -R[:, 1], from_rotation_translation(R, centre), score, probability, area, cells.index
    )


def _rotation(along: Array, anterior: Array, tilt_max_deg: float) -> Array:
    """(3, 3) columns right, anterior, superior; superior's projection on the image plane is along ``along``."""
    lean = float(np.linalg.norm(anterior))
    most = np.sin(np.radians(tilt_max_deg))
    if lean > most:
        anterior = anterior * (most / lean)
    y = np.array([anterior[0], anterior[1], np.sqrt(1.0 - float(anterior @ anterior))])
    z = np.array([along[0], along[1], -float(along @ anterior) / y[2]])
    z /= np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z], axis=1)


def _midrange(values: Array, weight: Array) -> float:
    """Middle between the ends that hold 2 % of the weight each: that of what is seen, however unevenly."""
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    low, high = np.searchsorted(share, [0.02, 0.98])
    return 0.5 * float(values[order[low]] + values[order[min(high, len(order) - 1)]])


def opposite(candidate: RegionCandidate) -> RegionCandidate:
    """The same place, turned by half a turn about the outward direction, with what is left of the probability."""
    T = candidate.T_camera_local.copy()
    T[:3, 0] *= -1.0
    T[:3, 2] *= -1.0
    probability = 1.0 - candidate.direction_probability
    return replace(
        candidate,
        axis_superior=-candidate.axis_superior,
        T_camera_local=T,
        direction_probability=probability,
        score=candidate.score / candidate.direction_probability * probability,
    )
