"""One cloud registered to one case, and the result as text: what ``end2reg register`` runs and prints."""

from __future__ import annotations

from pathlib import Path

from end2reg_ros.case.model import Case
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.types import Prior, Registration


def prior_from_files(case: Case, init: Path | None, landmarks: Path | None) -> Prior | None:
    """The start that a file tells, JSON with T_camera_model (``init``) or with picked landmarks; None without one.

    Raises:
        RegistrationError: both named, or a file that cannot be used.
    """
    from end2reg_ros.registration.find.landmarks import prior_from_landmarks, read_picked_landmarks
    from end2reg_ros.registration.output import prior_from_file

    if init is not None and landmarks is not None:
        raise RegistrationError("give --init or --landmarks, not both")
    if init is not None:
        return prior_from_file(init)
    if landmarks is not None:
        return prior_from_landmarks(*read_picked_landmarks(landmarks, case))
    return None


def print_registration(result: Registration) -> None:
    """Print the verdict, the fit's quality, and where the vertebrae are."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    verdict = "registered" if result.success else f"NO POSE: {result.reason}"
    console.print(f"{verdict} ({result.method}, {sum(result.timings_ms.values()):.0f} ms)", markup=False)
    q = result.quality
    console.print(
        f"inlier ratio {q.inlier_ratio:.2f}, residual {1000 * q.residual_rmse_m:.2f} mm, "
        f"{100 * q.visible_fraction:.0f} % of the surface in view, "
        f"{100 * q.free_space_violation:.1f} % seen through, {q.inliers} inliers (none of these is an accuracy)"
    )
    if not result.success:
        return
    table = Table(title="vertebra frames in the camera frame")
    for column in ("level", "x mm", "y mm", "z mm", "in view", ""):
        table.add_column(column, justify="left" if column in ("level", "") else "right")
    for level in result.levels:
        x, y, z = (f"{1000 * v:.1f}" for v in level.T_camera_level[:3, 3])
        seen = f"{100 * level.quality.visible_fraction:.0f} %"
        table.add_row(level.level, x, y, z, seen, "held to its neighbours" if level.held else "")
    console.print(table)
