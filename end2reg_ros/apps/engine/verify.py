"""An engine held against the torch reference: what ``end2reg engine verify`` runs and prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import EngineError

if TYPE_CHECKING:
    from end2reg_ros.apps.engine.parity_report import VerifyReport
    from end2reg_ros.case.model import Case


def verify(
    options: EngineOptions, case: Case, reference: Path | None, scenes: int, seed: int
) -> VerifyReport:
    """Run random scenes made up from a case's surface, and the degenerate ones, through the engine and the reference.

    Args:
        reference: weights file of the reference; None: the engine's own, or where these are an exported file those that
            the case is registered with.

    Raises:
        EngineError, WeightsError: an engine that cannot be loaded or calculates in another precision; no torch.
    """
    from end2reg_ros.apps.engine.build import check_precision
    from end2reg_ros.apps.engine.parity import load_reference, verify_engine
    from end2reg_ros.apps.engine.parity_scenes import SurfacePoints, verify_scenes
    from end2reg_ros.engine.load import load_engine
    from end2reg_ros.registration.fit.surface_build import model_surface
    from end2reg_ros.registration.network import model_side

    if scenes < 0 or seed < 0:
        raise EngineError("--scenes and --seed must be 0 or more")
    true = load_reference(replace(options, weights=_reference_weights(reference, case, options)))
    engine = load_engine(options)
    check_precision(options, engine.info)
    surface = model_surface(case)
    side = model_side(surface, engine.profile)
    points = SurfacePoints(surface.points - side.centre, surface.normals)
    return verify_engine(engine, true, side.pyramid, verify_scenes(points, engine.profile, scenes, seed))


def _reference_weights(reference: Path | None, case: Case, options: EngineOptions) -> Path | None:
    from end2reg_ros.registration.weights_path import choose_weights

    if reference is None and options.weights is not None and options.weights.suffix != ".onnx":
        return options.weights
    return choose_weights(case, reference, options.profile or "realtime").path


def print_report(report: VerifyReport) -> None:
    """Print a row a scene and the tolerances."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    headings = ("", "scene", "rows", "cells", "cut", "label%", "overlap", "mm", "deg", "logits", "inliers")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "scene" else "right", no_wrap=True)
    for i, c in enumerate(report.comparisons, 1):
        pose = ["-" if value is None else f"{value:.4f}" for value in (c.distance_mm, c.angle_deg)]
        inliers = str(c.inliers) if c.inliers == c.inliers_found else f"{c.inliers}/{c.inliers_found}"
        table.add_row(
            str(i), c.scene, str(c.padding), str(c.cells), str(c.truncated), f"{100 * c.mask:.2f}",
            f"{c.overlap:.4f}", *pose, f"{c.logits:.1e}", inliers,
        )  # fmt: skip
    limit, console = report.tolerances, Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{report.engine.text()}\nheld against {report.reference.text()}")
    if (report.engine.name, report.engine.device) == (report.reference.name, report.reference.device):
        console.print("this engine is the reference itself")
    console.print(table)
    if report.region is not None:
        console.print(f"region finder's maps differ by {report.region:.1e} at most")
    console.print(
        f"needed: labels >= {100 * limit.mask:g} %, overlap >= {limit.overlap:g}, pose <= {limit.distance_mm:g} mm and "
        f"<= {limit.angle_deg:g} deg (<= {limit.edge_distance_mm:g} mm and {limit.edge_angle_deg:g} deg where a "
        f"correspondence or an inlier on the edge fell otherwise), labels, correspondences or inliers not the same in "
        f"<= {100 * limit.edge_share:g} % of the scenes, logits <= {limit.logits:g}, region finder <= {limit.region:g}; "
        "correspondences and pose are held against the reference with this engine's labels"
    )
    if not report.faults:
        console.print("all within tolerance")
