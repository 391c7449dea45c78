"""Errors that a user can cause; every text is one line that names the fault and, where there is one, the cure."""

from __future__ import annotations

from importlib.util import find_spec

from end2reg_ros.reasons import Reason


class End2RegError(Exception):
    """Base of all errors a user can cause. The command line prints its text as one line and exits with 1."""


class CaseError(End2RegError):
    """A case folder, mesh or label map that cannot be used."""


class CloudError(End2RegError):
    """A cloud, depth image, scene folder or recording that cannot be used.

    Attributes:
        code: stable machine-readable reason, published and counted by the node (e.g. ``Reason.NO_XYZ_FIELDS``).
    """

    def __init__(self, code: Reason, text: str) -> None:
        super().__init__(text)
        self.code = code


class RegistrationError(End2RegError):
    """A registration that cannot be attempted (too few landmarks, unknown method, missing prior)."""


class TrainingError(End2RegError):
    """A training run, weights file or checkpoint that cannot be used."""


class WeightsError(End2RegError):
    """A weights file that cannot be used."""


class EngineError(End2RegError):
    """An engine that cannot be loaded or used."""


def has_training_parts() -> bool:
    """Whether this installation holds the network in PyTorch; a ROS workspace leaves it out unless told otherwise."""
    return find_spec("end2reg_ros.network") is not None


def missing_training_parts(fault: ImportError) -> str | None:
    """What to do, where an import failed because this installation leaves the training parts out; None for other causes."""
    if has_training_parts() or not (fault.name or "").startswith("end2reg_ros."):
        return None
    return (
        "this installation holds only what tracks, not what trains and adapts networks or runs them in torch: "
        "colcon build --cmake-args -DEND2REG_WITH_TRAINING=ON"
    )
