"""``end2reg simulate``: simulated views with their truth, as scene folders or as a recording."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
        from end2reg_ros.case import load_case
        from end2reg_ros.case.bundled import bundled_case_path

        if (self.out is None) == (self.bag is None):
            raise End2RegError("give --out FOLDER for scene folders, or --bag FOLDER for a recording")
        if self.out is not None and self.count < 1:
            raise End2RegError(f"--count must be 1 or more, not {self.count}")
        if self.seed < 0:
            raise End2RegError(f"--seed must be 0 or more, not {self.seed}")
        self._articulation(self.seed)
        case = load_case(self.case or bundled_case_path())
        return self._scenes(case, self.out) if self.out is not None else self._recording(case)

    def _articulation(self, seed: int) -> Any:
        """None for the posture of the CT; a draw of its own for each seed else."""
        from end2reg_ros.simulation.articulation import Articulation

        asked = Articulation(self.articulation_deg, 1e-3 * self.articulation_mm, seed)
        return asked if asked.deg or asked.shift_m else None

    def _scenes(self, case: Any, out: Path) -> int:
        from end2reg_ros.simulation.camera.sensor import SENSORS
        from end2reg_ros.simulation.random_scenes import SceneSettings, write_simulated_scene

        written: list[dict[str, Any]] = []
        with _progress() as bar:
            for seed in bar.track(range(self.seed, self.seed + self.count), description="scenes"):
                folder = out / f"{self.suite}_{seed:05d}"
                tags = write_simulated_scene(
                    folder,
                    case,
                    SceneSettings(self.suite, seed, SENSORS[self.sensor], self._articulation(seed)),
                )
                written.append({"folder": str(folder), "tags": tags})
        if self.json:
            print(json.dumps({"case": str(case.path), "scenes": written}, indent=1))
        else:
            pixels = sorted(s["tags"]["bone_pixels"] for s in written)
            print(
                f"{len(written)} scenes of suite '{self.suite}' in {out}; median {pixels[len(pixels) // 2]} bone pixels"
            )
        return 0

    def _recording(self, case: Any) -> int:
        from end2reg_ros.simulation.bag import BagSettings, write_bag
        from end2reg_ros.simulation.camera.sensor import SENSORS
        from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

        assert self.bag is not None
        recorded = BagSettings(self.rate, self.duration, self.ordered)
        recorded.frame_count()
        settings = SequenceSettings(
            seed=self.seed,
            scenario=self.scenario,
            sensor=SENSORS[self.sensor],
            articulation=self._articulation(self.seed),
        )
        with _progress() as bar:
            task = bar.add_task("frames", total=None)
            sequence = SimulatedSequence(case, settings)
            frames = write_bag(
                self.bag,
                sequence,
                recorded,
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        if self.json:
            content = {"bag": str(self.bag), "topic": SIMULATED_POINTS, "frames": frames, "seed": self.seed}
            print(json.dumps({**content, "case": str(case.path), "scenario": self.scenario}, indent=1))
        else:
            print(
                f"{frames} clouds on {SIMULATED_POINTS} in {self.bag} (scenario '{self.scenario}', seed {self.seed})"
            )
        return 0


def _progress() -> Any:
    """A progress bar on stderr: stdout is for the result."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
