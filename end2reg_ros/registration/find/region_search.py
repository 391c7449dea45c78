"""Two looks at the whole view: where the spine is and along which line; then, upright, which end is superior.

Torch-free: the network is whatever maps a picture (CHANNELS, 120, 160) to an output (7, 60, 80).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.view_grid import CELL_M, COLUMNS, ROWS, ViewGrid, view_grid
from end2reg_ros.registration.find.region_candidates import (
    CandidateSettings,
    RegionCandidate,
    find_candidates,
    opposite,
)
from end2reg_ros.se3 import from_rotation_translation

Array = NDArray[np.float64]
RegionMap = Callable[[NDArray[np.float32]], NDArray[np.float32]]

CROP = (
    60,
    40,
)  # rows and columns of the cells that the second look sees: 480 mm along the spine, 320 mm across
NEVER = 2.0  # a probability that nothing reaches


def search_regions(
    region_map: RegionMap,
    points: NDArray[np.float32],
    colours: NDArray[np.uint8] | None = None,
    settings: CandidateSettings | None = None,
) -> list[RegionCandidate]:
    """Candidates for the spine's place and rough pose, best first; an opposite follows where the ends are in doubt.

    Args:
        region_map: the region network.
        points: (N, 3) metres, camera frame.
        colours: (N, 3) or None.
        settings: as of ``region_candidates``.
    """
    s = settings or CandidateSettings()
    grid = view_grid(points, colours)
    found: list[RegionCandidate] = []
    for candidate in find_candidates(region_map(grid.channels), grid, replace(s, flip_min=NEVER)):
        again = look_again(region_map, points, colours, candidate, s)
        found.append(again)
        if 1.0 - again.direction_probability >= s.flip_min:
            found.append(opposite(again))
    return found[: s.most]


def turn_upright(direction: NDArray[np.floating]) -> Array:
    """(3, 3) turn about the optical axis that brings a direction (2,) of the image plane to its top (-y)."""
    x, y = np.asarray(direction, np.float64) / max(float(np.hypot(*direction)), 1e-12)
    return np.array([[-y, x, 0.0], [-x, -y, 0.0], [0.0, 0.0, 1.0]])


def look_again(
    region_map: RegionMap,
    points: NDArray[np.float32],
    colours: NDArray[np.uint8] | None,
    candidate: RegionCandidate,
    settings: CandidateSettings,
) -> RegionCandidate:
    """The candidate as the network sees it with its line upright; itself when nothing is found there any more."""
    turn = turn_upright(candidate.axis_superior[:2])
    near = np.flatnonzero((np.abs(points - candidate.centre.astype(np.float32)) < 0.45).all(axis=1))
    turned = points[near] @ turn.T.astype(np.float32)
    centre = turn @ candidate.centre
    origin = centre[:2] - 0.5 * CELL_M * np.array([COLUMNS, ROWS])
    grid = _cropped(view_grid(turned, None if colours is None else colours[near], origin=origin))
    found = find_candidates(region_map(grid.channels), grid, replace(settings, flip_min=NEVER))
    found = [c for c in found if np.linalg.norm(c.centre - centre) < 0.08]
    return _turned_back(found[0], turn, candidate) if found else candidate


def _cropped(grid: ViewGrid) -> ViewGrid:
    """The grid with nothing but its middle ``CROP`` cells."""
    top, left = (ROWS - CROP[0]) // 2, (COLUMNS - CROP[1]) // 2
    window = np.zeros((ROWS, COLUMNS), np.float32)
    window[top : top + CROP[0], left : left + CROP[1]] = 1.0
    return ViewGrid(grid.channels * window, grid.depth * window, grid.origin, grid.values * window)


def _turned_back(found: RegionCandidate, turn: Array, before: RegionCandidate) -> RegionCandidate:
    """A candidate of the turned picture in the camera frame; its cells are those of the first look."""
    R = turn.T @ found.T_camera_local[:3, :3]
    centre = turn.T @ found.centre
    return replace(
        found,
        centre=centre,
        axis_superior=R[:, 2],
        outward=-R[:, 1],
        T_camera_local=from_rotation_translation(R, centre),
        cells=before.cells,
    )
