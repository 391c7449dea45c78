"""What the demo's nodes are asked to do: the options that ``end2reg demo`` and ``end2reg bench demo`` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from end2reg_ros.engine.options import EngineChoice
from end2reg_ros.errors import End2RegError

Scenario = Literal["still", "demo", "stress", "leave", "empty", "theatre", "occlude"]
Method = Literal["end2reg", "icp", "ransac_icp"]
Start = Literal["auto", "none", "landmarks"]


@dataclass(frozen=True)
class DemoSettings:
    """Simulated camera, tracker and listener: what they see, and how the tracker is set up."""

    case: Path | None = None
    """Case folder to track. Default: the simulated anatomy that comes with the package."""
    duration: float = 20.0
    """Seconds of tracking, after everything has started."""
    seed: int = 0
    """Of the wound, the picked landmarks, the noise and the motion."""
    scenario: Scenario = "demo"
    """What happens: demo (instruments, a hand), still, stress (much at once), leave (looks away), empty (no spine)."""
    rate: float = 15.0
    """Clouds per second, Hz."""
    method: Method = "end2reg"
    """Registration method."""
    start: Start = "auto"
    """What the tracker is given: no start (none), or simulated landmark picks; auto: none with end2reg, else landmarks."""
    engine: EngineChoice = "auto"
    """What runs the network; auto takes the fastest that is there."""
    threads: int = 1
    """CPU threads of the network."""

    def start_given(self) -> Literal["none", "landmarks"]:
        """The start that is used."""
        if self.start == "auto":
            return "none" if self.method == "end2reg" else "landmarks"
        return self.start

    def case_folder(self) -> Path:
        """The case to track."""
        from end2reg_ros.case.bundled import bundled_case_path

        return self.case or bundled_case_path()

    def check(self) -> None:
        """Refuse what cannot be run.

        Raises:
            End2RegError: an option out of its range, or a method without the start that it needs.
        """
        if not 1.0 <= self.duration <= 3600.0:
            raise End2RegError(f"--duration is {self.duration:g} s, must lie in 1 .. 3600")
        if not 0.5 <= self.rate <= 60.0:
            raise End2RegError(f"--rate is {self.rate:g} Hz, must lie in 0.5 .. 60")
        if not 1 <= self.threads <= 64:
            raise End2RegError(f"--threads is {self.threads}, must lie in 1 .. 64")
        if self.start == "none" and self.method == "icp":
            raise End2RegError("--method icp needs a start: --start landmarks, or another method")
