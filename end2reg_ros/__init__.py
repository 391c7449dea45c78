"""Markerless tracking of the lumbar spine with a depth camera, for ROS 2.

Units throughout: metres and radians; mesh files are in millimetres. ``T_a_b`` maps coordinates in frame b into frame a.
"""

from pkgutil import extend_path

__version__ = "0.1.0"

# The generated end2reg_ros.msg lies in another folder when the sources are used from the checkout.
__path__ = extend_path(__path__, __name__)
