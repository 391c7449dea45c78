"""An engine held against the torch reference: the same scenes through both, compared figure by figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.apps.engine.parity_report import TOLERANCES, SceneComparison, VerifyReport
from end2reg_ros.apps.engine.parity_scenes import VerifyScene
from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid
from end2reg_ros.cloud.view_grid import CHANNELS, COLUMNS, ROWS
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import Engine, Floats, MaskChoice, NetworkMatches, NetworkOutput
from end2reg_ros.errors import EngineError
from end2reg_ros.se3 import rotation_angle

MIN_INLIERS = 100  # fewer are no pose, and none is compared
_ROUNDING = 1e4  # points are the same when they are within 1e-4 network units, 0.01 mm


def load_reference(options: EngineOptions) -> Engine:
    """The torch reference on the CPU for the weights of ``options``.

    Raises:
        EngineError: torch is not installed.
        WeightsError: weights that cannot be used.
    """
    if find_spec("torch") is None:
        raise EngineError(
            "engines are held against torch, which is not installed: `make setup-train` installs it"
        )
    return load_engine(replace(options, engine="torch", device="cpu", precision="fp32"))


def verify_engine(
    engine: Engine, reference: Engine, model: Pyramid, scenes: Sequence[VerifyScene]
) -> VerifyReport:
    """Run all scenes through both engines.

    Args:
        model: the case's pre-operative side; each engine encodes it by itself.

    Raises:
        EngineError: the two hold different weights, or the engine is of a precision without tolerances.
    """
    one, other = engine.info, reference.info
    if (one.weights_hash, one.profile) != (other.weights_hash, other.profile):
        raise EngineError(
            f"engine '{one.name}' holds weights {one.weights_hash} ({one.profile}), the reference "
            f"{other.weights_hash} ({other.profile}): give the weights file that it was exported from"
        )
    if one.precision not in TOLERANCES:
        raise EngineError(f"there are no tolerances for precision '{one.precision}'")
    for each in (engine, reference):
        each.set_model(model)
    points = model.levels[0].points[: model.levels[0].count]
    comparisons = []
    for scene in scenes:
        found, expected = engine.run(scene.pyramids), reference.run(scene.pyramids)
        guided = expected
        if not np.array_equal(found.mask, expected.mask):
            guided = reference.run(scene.pyramids, MaskChoice("given", found.mask))
        comparisons.append(compare(scene, expected, guided, found, points))
    return VerifyReport(
        one, other, TOLERANCES[one.precision], tuple(comparisons), region_difference(engine, reference)
    )


def compare(
    scene: VerifyScene, expected: NetworkOutput, guided: NetworkOutput, found: NetworkOutput, points: Floats
) -> SceneComparison:
    """One scene's figures.

    Args:
        guided: of the reference with the engine's labels; ``expected`` where they are the same.
        points: (N, 3) of the model, network units, at which poses are compared.
    """
    wanted, got = correspondences(guided.matches), correspondences(found.matches)
    cells = len(expected.mask)
    return SceneComparison(
        scene=scene.name,
        padding=scene.padding,
        cells=scene.cells,
        truncated=scene.truncated,
        mask=float((expected.mask == found.mask).mean()) if cells else 1.0,
        overlap=len(wanted & got) / len(wanted | got) if wanted or got else 1.0,
        distance_mm=distance_mm(guided, found, points),
        angle_deg=angle_deg(guided, found),
        logits=float(np.abs(expected.logits - found.logits).max()) if cells else 0.0,
        correspondences=len(wanted),
        inliers=guided.inliers,
        inliers_found=found.inliers,
        own_distance_mm=distance_mm(expected, found, points),
    )


def distance_mm(expected: NetworkOutput, found: NetworkOutput, points: Floats) -> float | None:
    """Furthest that a point of the model (N, 3) moves between two poses; None where the first is none."""
    if expected.inliers < MIN_INLIERS:
        return None
    moved = points @ (found.rotation - expected.rotation).T + found.translation - expected.translation
    return 1e3 * UNIT_M * float(np.linalg.norm(moved, axis=1).max())


def angle_deg(expected: NetworkOutput, found: NetworkOutput) -> float | None:
    """Angle between two poses; None where the first is none."""
    if expected.inliers < MIN_INLIERS:
        return None
    return math.degrees(rotation_angle(expected.rotation.T @ found.rotation))


def correspondences(matches: NetworkMatches | None) -> set[tuple[int, ...]]:
    """The pairs of points that count, each as six whole numbers: model and scene point, rounded."""
    if matches is None:
        return set()
    used = matches.weight > 0
    both: NDArray[np.float32] = np.concatenate([matches.model[used], matches.scene[used]], axis=1)
    return set(map(tuple, np.rint(both * _ROUNDING).astype(np.int64).tolist()))


def region_difference(engine: Engine, reference: Engine) -> float | None:
    """Largest difference in the region finder's maps of a random picture; None for weights without."""
    grid = np.random.default_rng(0).normal(size=(CHANNELS, ROWS, COLUMNS)).astype(np.float32)
    try:
        expected = reference.region_map(grid)
    except EngineError:
        return None
    return float(np.abs(expected - engine.region_map(grid)).max())
