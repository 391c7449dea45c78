"""Where a registration starts: the options that ``register`` and ``track`` share."""

from __future__ import annotations

from pathlib import Path

from end2reg_ros.case.model import Case
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.types import Prior


def prior_from_options(case: Case, init: Path | None, landmarks: Path | None) -> Prior | None:
    """The prior that the options name; None when they name none.

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
