"""A registration as plain numbers, for JSON: the same fields from the command line, the evaluation and the report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.types import Prior, Quality, Registration
from end2reg_ros.se3 import is_rigid

Array = NDArray[np.float64]


def registration_document(registration: Registration) -> dict[str, Any]:
    """JSON-ready fields; transforms as 16 numbers row-major in metres, unknown figures as null."""
    return {
        "T_camera_model": registration.T_camera_model.ravel().tolist(),
        "success": registration.success,
        "reason_code": registration.reason_code,
        "reason": registration.reason,
        "quality": quality_document(registration.quality),
        "covariance": [finite(x) for x in registration.covariance.ravel().tolist()],
        "levels": {
            level.level: {
                "T_camera_level": level.T_camera_level.ravel().tolist(),
                "held": level.held,
                "quality": quality_document(level.quality),
            }
            for level in registration.levels
        },
        "timings_ms": {name: round(ms, 3) for name, ms in registration.timings_ms.items()},
        "method": registration.method,
        "engine": registration.engine,
    }


def quality_document(quality: Quality) -> dict[str, Any]:
    """JSON-ready quality figures."""
    return {
        "inlier_ratio": quality.inlier_ratio,
        "residual_rmse_m": finite(quality.residual_rmse_m),
        "visible_fraction": quality.visible_fraction,
        "mask_fraction": quality.mask_fraction,
        "free_space_violation": quality.free_space_violation,
        "inliers": quality.inliers,
        "normal_agreement": quality.normal_agreement,
    }


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it (NaN, infinity)."""
    return value if math.isfinite(value) else None


def read_transform(path: Path) -> Array:
    """(4, 4) T_camera_model from JSON: 16 numbers row-major in metres, bare, nested 4x4 or under ``T_camera_model``.

    Raises:
        RegistrationError: unreadable, or not a rigid transform.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as fault:
        raise RegistrationError(f"cannot read a transform from {path}: {fault}") from None
    if isinstance(document, dict):
        document = document.get("T_camera_model")
    try:
        T = np.array(document, dtype=np.float64).reshape(4, 4)
    except (TypeError, ValueError, OverflowError):
        raise RegistrationError(
            f"{path}: expected T_camera_model as 16 numbers, row by row, in metres"
        ) from None
    if not is_rigid(T):
        raise RegistrationError(
            f"{path}: T_camera_model is not a rigid transform (rotation and translation in metres)"
        )
    return T


def prior_from_file(path: Path) -> Prior:
    """A prior from a transform file, taken to be right within about 3 mm."""
    return Prior(read_transform(path), source="init_file")
