"""Markerless tracking of the lumbar spine with a depth camera, for ROS 2.

Units throughout: metres and radians; mesh files are in millimetres. ``T_a_b`` maps coordinates in frame b into frame a.

What ``__all__`` names is the Python API (docs/python.md); the other modules may change from version to version. A name is
imported when it is first used: ``import end2reg_ros`` by itself loads nothing.
"""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from end2reg_ros.case import load_case
    from end2reg_ros.case.bundled import bundled_case_path
    from end2reg_ros.cloud.files import read_cloud
    from end2reg_ros.errors import End2RegError
    from end2reg_ros.frame import Tracker
    from end2reg_ros.registration import Prior, create_registrar

__all__ = [
    "End2RegError",
    "Prior",
    "Tracker",
    "bundled_case_path",
    "create_registrar",
    "load_case",
    "read_cloud",
]
__version__ = "0.1.0"

# The generated end2reg_ros.msg lies in another folder when the sources are used from the checkout.
__path__ = extend_path(__path__, __name__)

_MODULES = {
    "End2RegError": "errors",
    "Prior": "registration",
    "Tracker": "frame",
    "bundled_case_path": "case.bundled",
    "create_registrar": "registration",
    "load_case": "case",
    "read_cloud": "cloud.files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
