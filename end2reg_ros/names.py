"""Names of frames and topics: what the node, the simulated camera, recordings and the tools agree on.

Topics without a leading slash are relative: they lie in the node's namespace and can be remapped. How frames hang
together: ``camera -> spine -> L1, L2, ... -> L1/screw_left, ...``, each with the node's ``frame_prefix``; what is true
in a simulation has the same chain under ``TRUTH_PREFIX``. Without a pose ``spine`` hangs on ``UNTRACKED``, which hangs on
nothing.
"""

from __future__ import annotations

# Frames.
SPINE = "spine"
UNTRACKED = "untracked"
TRUTH_PREFIX = "ground_truth/"
CAMERA_FRAME = "camera_depth_optical_frame"  # of the simulated camera, as RealSense drivers name it

# Of every system.
TF = "/tf"
TF_STATIC = "/tf_static"
DIAGNOSTICS = "/diagnostics"

# In: what a camera sends.
POINTS = "points"
DEPTH_IMAGE = "depth/image"
DEPTH_INFO = "depth/camera_info"
COLOUR_IMAGE = "color/image"
INITIAL_POSE = "initial_pose"

# The simulated camera, its truth, and the recordings made of it.
SIMULATED_POINTS = "/camera/depth/color/points"
TRUTH_STATUS = "/ground_truth/status"

# Out.
STATUS = "status"
TRACKING_VALID = "tracking_valid"
SPINE_POSE = "spine/pose"
FILTERED_POSE = "spine/filtered_pose"
NETWORK_POSE = "spine/network_pose"
VERTEBRAE = "vertebrae"
SEGMENTATION = "segmentation"
MARKERS = "markers"


def measured_cp(name: str) -> str:
    """CRTK's topic of the measured pose of ``spine`` or of a level: ``spine/measured_cp``, ``L1/measured_cp``."""
    return f"{name}/measured_cp"


def screw_frame(level_frame: str, side: str) -> str:
    """The frame of a planned screw in that of its level: ``L1/screw_left``."""
    return f"{level_frame}/screw_{side}"
