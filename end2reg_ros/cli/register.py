"""``end2reg register``: one cloud, one case, one pose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from end2reg_ros.engine.options import EngineChoice


@dataclass(frozen=True)
class Register:
    """Register one cloud to a case. Exit 0 only when the pose passed every check."""

    case: Path
    """Case folder."""
    cloud: Path
    """Point file (.ply, .pcd, .npy, .xyz) in metres, camera optical frame, or a scene folder."""
    method: Literal["icp", "ransac_icp", "kiss_matcher_icp", "end2reg", "end2reg_alone"] = "end2reg"
    """Registration method. icp needs a start (--landmarks or --init) to be of use; end2reg needs none;
    end2reg_alone is the network's pose without refinement and without the checks."""
    init: Path | None = None
    """Start: JSON with T_camera_model, 16 numbers row by row, metres."""
    landmarks: Path | None = None
    """Start: JSON of picked landmarks, {"L3": {"spinous": [x, y, z], ...}}, metres, camera frame; three or more."""
    weights: Path | None = None
    """Weights file of the network (end2reg). Default: the case's own network, else the shipped one."""
    profile: str | None = None
    """Profile that the weights must be of. Default: theirs."""
    engine: EngineChoice = "auto"
    """What runs the network; auto takes the fastest that is there."""
    device: str = ""
    """cpu or cuda; the engine's own choice when not given."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Register and print; 0 when successful, 1 when not."""
        from end2reg_ros.apps.register.run import print_registration, prior_from_files
        from end2reg_ros.case.checks import load_valid_case
        from end2reg_ros.cloud.files import read_cloud
        from end2reg_ros.cloud.scene_folder import read_scene
        from end2reg_ros.registration import EngineOptions, create_registrar

        case = load_valid_case(self.case)
        prior = prior_from_files(case, self.init, self.landmarks)
        cloud = read_scene(self.cloud).cloud if self.cloud.is_dir() else read_cloud(self.cloud)
        network = EngineOptions(self.engine, self.weights, self.profile, self.device)
        result = create_registrar(self.method, case, network=network).register(cloud, prior)
        if self.json:
            from end2reg_ros.registration.output import registration_document

            start = {"prior": None if prior is None else prior.source}
            print(json.dumps(registration_document(result) | start, indent=1))
        else:
            print_registration(result)
        return 0 if result.success else 1
