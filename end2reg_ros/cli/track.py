"""``end2reg track``: the node's tracker over a recording, without ROS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from end2reg_ros.engine.options import EngineChoice


@dataclass(frozen=True)
class TrackRecording:
    """Track a case through a rosbag2. Exit 0 when at least one pose was published."""

    case: Path
    """Case folder."""
    bag: Path
    """rosbag2 folder (mcap or sqlite3)."""
    out: Path
    """Folder for trajectory.tum, trajectory_L1.tum ..., frames.csv, timings.csv, summary.json and plots."""
    topic: str | None = None
    """PointCloud2 or depth image topic; the only PointCloud2 topic when not given."""
    method: Literal["end2reg", "icp", "ransac_icp"] = "end2reg"
    """Registration method. end2reg finds the spine by itself; icp needs a start."""
    engine: EngineChoice = "auto"
    """What runs the network (end2reg); auto takes the fastest that is there."""
    weights: Path | None = None
    """Weights file of the network (end2reg). Default: the case's own network, else the shipped one."""
    init: Path | None = None
    """Start: JSON with T_camera_model, 16 numbers row by row, metres. Poses on a recorded initial_pose topic count too."""
    landmarks: Path | None = None
    """Start: JSON of picked landmarks, {"L3": {"spinous": [x, y, z], ...}}, metres, camera frame; three or more."""
    plots: bool = True
    """Draw state, quality and uncertainty over time (track.png), with a recorded truth the errors too (error.png)."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> int:
        """Track and write the files; 0 when a pose was published, 1 when none was.

        Stopped by Ctrl-C, or where the recording is damaged, it writes what it has and fails.

        Raises:
            End2RegError: the recording was not read to its end.
        """
        from end2reg_ros.apps.register.run import prior_from_files
        from end2reg_ros.apps.track.command import track_to_files
        from end2reg_ros.case.checks import load_valid_case
        from end2reg_ros.engine.options import EngineOptions
        from end2reg_ros.errors import End2RegError

        case = load_valid_case(self.case)
        prior = prior_from_files(case, self.init, self.landmarks)
        network = EngineOptions(self.engine, self.weights)
        summary, stopped = track_to_files(
            case, self.bag, self.out, self.method, network, self.topic, prior, self.plots
        )
        published, received = summary["poses_published"], summary["clouds_received"]
        if self.json:
            print(json.dumps(summary, indent=1))
        else:
            states = summary["frames_by_state"]
            print(f"{published} poses from {received} clouds in {self.out}; states: {states}")
        if stopped is not None:
            raise End2RegError(f"{stopped}; {self.out} holds the {received} clouds before")
        return 0 if published else 1
