"""The start that surgeons give today: a few landmarks picked on the patient, paired with the plan's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.errors import RegistrationError
from end2reg_ros.kabsch import kabsch
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import apply

Array = NDArray[np.float64]

MIN_STDDEV_M = 0.002
MAX_FIDUCIAL_ERROR_M = 0.015


def prior_from_landmarks(picked: Array, model: Array) -> Prior:
    """A prior from picked landmarks by paired-point registration.

    Args:
        picked: (N, 3) metres, camera frame, N >= 3.
        model: (N, 3) the same landmarks in the model frame, metres.

    Raises:
        RegistrationError: fewer than three, on one line, not finite, or so far from any rigid fit (more than 15 mm
            RMS) that a pick must be wrong.
    """
    if not (np.isfinite(picked).all() and np.isfinite(model).all()):
        raise RegistrationError("a picked landmark is not a number")
    T = kabsch(np.asarray(model, dtype=np.float64), np.asarray(picked, dtype=np.float64))
    error = float(np.sqrt(np.mean(np.sum((apply(T, model) - picked) ** 2, axis=1))))
    if error > MAX_FIDUCIAL_ERROR_M:
        raise RegistrationError(
            f"the picked landmarks do not fit the case: {error * 1000:.1f} mm RMS after the best rigid fit "
            f"(limit {MAX_FIDUCIAL_ERROR_M * 1000:.0f} mm); check level names, sides and units (metres)"
        )
    # The fit hides part of the pick noise; N pairs leave 3N - 6 degrees of freedom to judge it by.
    noise = error * np.sqrt(3 * len(model) / max(3 * len(model) - 6, 1))
    return Prior(T, source="landmarks", stddev_m=max(MIN_STDDEV_M, float(noise)))


def read_picked_landmarks(path: Path, case: Case) -> tuple[Array, Array]:
    """Picked landmarks of a JSON file ``{"L3": {"spinous": [x, y, z], ...}}`` in metres, camera frame.

    Returns:
        picked (N, 3) in the camera frame and the case's landmarks (N, 3) in the model frame, metres.

    Raises:
        RegistrationError: unreadable file, unknown level or landmark name, or a level whose case has no landmarks.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as fault:
        raise RegistrationError(f"cannot read landmarks from {path}: {fault}") from None
    if not isinstance(document, dict):
        raise RegistrationError(
            f'{path}: expected an object of levels, such as {{"L3": {{"spinous": [x, y, z]}}}}'
        )
    known = {v.level: v.landmarks for v in case.vertebrae}
    picked: list[Array] = []
    model: list[Array] = []
    for level, points in document.items():
        landmarks = known.get(level)
        if landmarks is None:
            raise RegistrationError(
                f"{path}: the case has no landmarks for level {level!r} (it has {', '.join(known)})"
            )
        if not isinstance(points, dict):
            raise RegistrationError(f"{path}: level {level} is not an object of named points")
        for name, point in points.items():
            if name not in ("spinous", "transverse_left", "transverse_right"):
                raise RegistrationError(
                    f"{path}: unknown landmark {name!r} of {level} (spinous, transverse_left, transverse_right)"
                )
            try:
                xyz = np.array(point, dtype=np.float64)
            except (TypeError, ValueError, OverflowError):
                xyz = np.zeros(0)
            if xyz.shape != (3,):
                raise RegistrationError(f"{path}: {level}/{name} is not three numbers [x, y, z] in metres")
            picked.append(xyz)
            model.append(getattr(landmarks, name))
    if len(picked) < 3:
        raise RegistrationError(f"{path}: at least 3 landmarks are needed, got {len(picked)}")
    return np.stack(picked), np.stack(model)
