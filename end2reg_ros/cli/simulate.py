"""``end2reg simulate``: simulated views with their truth, as scene folders or as a recording."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from end2reg_ros.errors import End2RegError
from end2reg_ros.names import SIMULATED_POINTS


@dataclass(frozen=True)
class Simulate:
    """Write simulated scene folders (--out), or a rosbag2 of a moving sequence (--bag), with the truth."""

    case: Path | None = None
    """Case folder that is seen. Default: the simulated anatomy that comes with the package."""
    out: Path | None = None
    """Folder for the scene folders, named by suite and seed; made if missing."""
    count: int = 10
    """Scenes to write."""
    seed: int = 0
    """Seed of the first scene (the others count up), or of the sequence; equal seeds give equal files."""
    suite: Literal["easy", "standard", "hard"] = "standard"
    """Kind of scenes: easy; standard (all levels open, film to 1 mm); hard (1-4 levels, film to 3 mm, noise x2)."""
    bag: Path | None = None
    """Folder of the rosbag2 (mcap) to write; must not exist."""
    scenario: Literal["still", "demo", "stress", "leave", "empty", "theatre", "occlude"] = "demo"
    """What moves in the recording; leave: the spine leaves the view and returns; empty: no spine at all; theatre: a minute
    of surgery; occlude: a towel hides all for 2 s of every 5."""
    duration: float = 20.0
    """Length of the recording, seconds."""
    rate: float = 15.0
    """Frames of the recording a second, Hz."""
    ordered: bool = False
    """Record organised clouds with (0, 0, 0) for invalid points, as RealSense with ordered_pc."""
    articulation_deg: float = 0.0
    """Every vertebra is turned against its neighbour by up to this, degrees (0 to 30): another posture than in the CT."""
    articulation_mm: float = 0.0
    """Every vertebra is shifted against its neighbour by up to this, millimetres (0 to 20)."""
    sensor: Literal["d435", "d435_720p", "d405", "structured_light", "ideal"] = "d435"
    """Depth camera: resolution, lens and noise."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Write; returns 0."""
        from end2reg_ros.apps.simulate.run import write_recording, write_scenes
        from end2reg_ros.case import load_case
        from end2reg_ros.case.bundled import bundled_case_path
        from end2reg_ros.simulation.articulation import Articulation
        from end2reg_ros.simulation.bag import BagSettings
        from end2reg_ros.simulation.camera.sensor import SENSORS
        from end2reg_ros.simulation.random_scenes import SceneSettings
        from end2reg_ros.simulation.sequence import SequenceSettings

        if (self.out is None) == (self.bag is None):
            raise End2RegError("give --out FOLDER for scene folders, or --bag FOLDER for a recording")
        if self.out is not None and self.count < 1:
            raise End2RegError(f"--count must be 1 or more, not {self.count}")
        if self.seed < 0:
            raise End2RegError(f"--seed must be 0 or more, not {self.seed}")
        asked = Articulation(self.articulation_deg, 1e-3 * self.articulation_mm, self.seed)
        posture = asked if asked.deg or asked.shift_m else None
        sensor, case = SENSORS[self.sensor], load_case(self.case or bundled_case_path())
        document: dict[str, object] = {"case": str(case.path)}
        if self.out is not None:
            first = SceneSettings(self.suite, self.seed, sensor, posture)
            scenes = write_scenes(self.out, case, first, self.count)
            pixels = sorted(scene["tags"]["bone_pixels"] for scene in scenes)[len(scenes) // 2]
            text = f"{len(scenes)} scenes of suite '{self.suite}' in {self.out}; median {pixels} bone pixels"
            document |= {"scenes": scenes}
        else:
            assert self.bag is not None
            moving = SequenceSettings(
                seed=self.seed, scenario=self.scenario, sensor=sensor, articulation=posture
            )
            frames = write_recording(
                self.bag, case, moving, BagSettings(self.rate, self.duration, self.ordered)
            )
            where = f"{frames} clouds on {SIMULATED_POINTS} in {self.bag}"
            text = f"{where} (scenario '{self.scenario}', seed {self.seed})"
            document |= {"bag": str(self.bag), "topic": SIMULATED_POINTS, "frames": frames}
            document |= {"seed": self.seed, "scenario": self.scenario}
        print(json.dumps(document, indent=1) if self.json else text)
        return 0
