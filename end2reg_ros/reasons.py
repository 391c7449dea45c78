"""Every reason code, once: why a cloud was dropped, a fit refused, a state taken.

Codes are stable and machine-readable: they go out in ``status``, ``/diagnostics``, logs and result files. The sentence
that goes with one at run time holds the figures of that moment; the one here says what the code means.
``docs/reasons.md`` is made from this table (``make documents``).
"""

from __future__ import annotations

from enum import Enum


class Origin(Enum):
    """Which part says it."""

    CLOUD = "the check of a cloud: it is dropped and counted"
    STREAM = "the check of the stream"
    START = "the search for the spine, from a start or from nothing"
    FIT = "the judge of a fit: no pose goes out"
    TRACK = "the tracker"
    NODE = "the node, without a cloud"
    FILE = "the reader of a file or recording, offline: the command ends"
    TRUTH = "the simulated camera's truth"


class Reason(str, Enum):
    """A reason code; equal to its text, and formatted as it.

    Attributes:
        origin: which part says it.
        sentence: what happened, and what the node does.
    """

    origin: Origin
    sentence: str

    def __new__(cls, code: str, origin: Origin, sentence: str) -> Reason:
        """A member: its value is the code alone."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.origin = origin
        member.sentence = sentence
        return member

    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]

    # A cloud, dropped.
    EMPTY_FRAME = "empty_frame", Origin.CLOUD, "The frame_id is empty."
    WRONG_FRAME = "wrong_frame", Origin.CLOUD, "The frame_id is not the one that `expected_frame` asks for."
    ZERO_STAMP = "zero_stamp", Origin.CLOUD, "The stamp is zero; a pose needs the time of the image."
    EMPTY_CLOUD = "empty_cloud", Origin.CLOUD, "The cloud, or a depth image, holds no points."
    ALL_INVALID = "all_invalid", Origin.CLOUD, "No point has finite coordinates other than zero."
    OUT_OF_RANGE = "out_of_range", Origin.CLOUD, "No valid point lies within `z_min`, `z_max` and the crop."
    NO_XYZ_FIELDS = "no_xyz_fields", Origin.CLOUD, "The fields x, y, z are not there, or no floats."
    SHORT_DATA = "short_data", Origin.CLOUD, "The message holds fewer bytes than it announces."
    BAD_POINT_STEP = "bad_point_step", Origin.CLOUD, "The fields do not fit into `point_step`."
    BAD_ROW_STEP = "bad_row_step", Origin.CLOUD, "`row_step` is shorter than a row of points."
    ENCODING = "encoding", Origin.CLOUD, "The image's encoding is not one of those known."
    SIZE_MISMATCH = "size_mismatch", Origin.CLOUD, "Depth image, colour image and calibration differ in size."
    BAD_CAMERA_INFO = "bad_camera_info", Origin.CLOUD, "The camera_info is no calibration."
    NO_CAMERA_INFO = (
        "no_camera_info",
        Origin.CLOUD,
        "No camera_info has come: depth cannot be made into points.",
    )
    NO_COLOUR_IMAGE = (
        "no_colour_image",
        Origin.CLOUD,
        "A depth image came without a colour image of its stamp.",
    )
    SUPERSEDED = "superseded", Origin.CLOUD, "A newer cloud came while this one waited; the newest wins."
    INTERNAL_ERROR = "internal_error", Origin.CLOUD, "A fault of the program; LOST, the next cloud is tried."

    # The stream.
    STAMP_BACKWARDS = (
        "stamp_backwards",
        Origin.STREAM,
        "The stamp is a little older than the one before; dropped.",
    )
    FROZEN = (
        "frozen",
        Origin.STREAM,
        "Stamp or data repeat the cloud before; dropped, the second in a row: LOST.",
    )
    FRAME_CHANGED = "frame_changed", Origin.STREAM, "Another frame_id: the track and its start are forgotten."
    CLOCK_JUMPED_BACK = (
        "clock_jumped_back",
        Origin.STREAM,
        "The stamps jumped back (a recording or clock restarted): the track and its start are forgotten.",
    )

    # A search.
    NO_PRIOR = "no_prior", Origin.START, "The method needs a start: pick landmarks or send `initial_pose`."
    PRIOR_REFUSED = (
        "prior_refused",
        Origin.START,
        "The `initial_pose` sent cannot be used; the reason says why.",
    )
    PRIOR_EXPIRED = (
        "prior_expired",
        Origin.START,
        "The start led to no pose for 30 s; it is dropped, send it again.",
    )
    LOST_TOO_LONG = (
        "lost_too_long",
        Origin.START,
        "Lost for 15 s, the camera may have moved: send `initial_pose`.",
    )
    NO_POINTS = "no_points", Origin.START, "Next to no points where the spine is looked for."
    NO_REGION = "no_region", Origin.START, "Nothing in the view looks like an exposed spine."
    FEW_CORRESPONDENCES = (
        "few_correspondences",
        Origin.START,
        "The network recognises too little of the spine.",
    )
    ENGINE_FAULT = (
        "engine_fault",
        Origin.START,
        "What runs the network failed (out of memory, wrong weights).",
    )

    # A fit, refused.
    FEW_INLIERS = "few_inliers", Origin.FIT, "Too few points lie on the model."
    COVERED = "covered", Origin.FIT, "Too little of the spine's surface is in view."
    SEE_THROUGH = "see_through", Origin.FIT, "The camera sees through where the bone would be."
    LOW_INLIER_RATIO = "low_inlier_ratio", Origin.FIT, "Too much of the visible surface has no point on it."
    LEVEL_DISAGREES = "level_disagrees", Origin.FIT, "A vertebra's own surface speaks against the pose."
    NORMALS_DISAGREE = (
        "normals_disagree",
        Origin.FIT,
        "The points' surface is turned otherwise than the model's.",
    )
    HIGH_RESIDUAL = "high_residual", Origin.FIT, "The points lie too far from the model."
    UNCERTAIN = "uncertain", Origin.FIT, "What is seen does not hold the position well enough."
    IMPLAUSIBLE_POSTURE = (
        "implausible_posture",
        Origin.FIT,
        "A vertebra is turned or shifted against the next one as no spine holds it (11 degrees, 6 mm).",
    )
    FAR_FROM_PRIOR = (
        "far_from_prior",
        Origin.FIT,
        "The fit lies further from the start than that can be wrong.",
    )
    AMBIGUOUS_LEVEL = (
        "ambiguous_level",
        Origin.FIT,
        "A neighbouring level, or the other end up, fits as well.",
    )

    # The track.
    OK = "ok", Origin.TRACK, "Tracking; the pose goes out."
    CONFIRMING = "confirming", Origin.TRACK, "A good fit waits for a second that agrees; no pose yet."
    UNCONFIRMED = "unconfirmed", Origin.TRACK, "The second fit was elsewhere; the search goes on."
    WEAKENING = (
        "weakening",
        Origin.TRACK,
        "Below the upper thresholds, not yet for long enough; the pose goes out.",
    )
    LOW_QUALITY = (
        "low_quality",
        Origin.TRACK,
        "Below the upper thresholds: DEGRADED, or not good enough to start.",
    )
    RECOVERING = (
        "recovering",
        Origin.TRACK,
        "Above the upper thresholds again, not yet for long enough; DEGRADED.",
    )
    JUMP = "jump", Origin.TRACK, "The fit lies further from where it was expected than a spine moves: LOST."
    NETWORK_DISAGREES = (
        "network_disagrees",
        Origin.TRACK,
        "The network sees another pose than the track, and both pass every check: LOST.",
    )
    GAP = "gap", Origin.TRACK, "No pose for too long to go on from it: LOST."
    NEW_START = "new_start", Origin.TRACK, "A new start was given: the track is dropped."

    # The node.
    NO_CLOUD = "no_cloud", Origin.NODE, "The camera is silent: LOST."
    STALLED = (
        "stalled",
        Origin.NODE,
        "Clouds come, but the one in hand is judged for too long (three periods and `watchdog_gap_s`): LOST.",
    )
    WAITING = "waiting", Origin.NODE, "Active; no cloud has come yet."
    DISABLED = "disabled", Origin.NODE, "Stopped on request; clouds are dropped and counted."
    INACTIVE = "inactive", Origin.NODE, "The node is not active; clouds are dropped and counted."
    RELOCALIZE = "relocalize", Origin.NODE, "Track and start were forgotten on request."
    RESET = "reset", Origin.NODE, "Everything was forgotten on request."

    # Files and recordings.
    UNREADABLE = "unreadable", Origin.FILE, "The file is not there, or not of its kind, or damaged."
    TRUNCATED = "truncated", Origin.FILE, "The file holds fewer points than it announces."
    UNIT_MM = "unit_mm", Origin.FILE, "The coordinates look like millimetres; metres are needed."
    NO_SCENE = "no_scene", Origin.FILE, "The folder is no scene folder, and holds none."
    BAD_SCENE = (
        "bad_scene",
        Origin.FILE,
        "A scene folder's description cannot be used, or not with this case.",
    )
    STALE_SCENE = "stale_scene", Origin.FILE, "The scene was made from another version of the case."
    NO_BONE_LABEL = "no_bone_label", Origin.FILE, "The scene does not say which points are bone."
    NO_TOPIC = "no_topic", Origin.FILE, "The recording has no topic of the kind needed."
    MANY_TOPICS = "many_topics", Origin.FILE, "The recording has several topics of the kind needed: name one."

    # The truth of a simulation.
    NOT_IN_VIEW = "not_in_view", Origin.TRUTH, "No bone is in view."
    NO_SPINE = "no_spine", Origin.TRUTH, "The scene has no spine: no transforms belong to it."
