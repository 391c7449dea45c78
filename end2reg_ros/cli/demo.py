"""``end2reg demo``: simulated camera -> ROS 2 -> tracker -> TF, heard by a stranger, compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from end2reg_ros.apps.demo.settings import DemoSettings


@dataclass(frozen=True)
class Demo(DemoSettings):
    """See the main job work: three ROS 2 processes on this machine, a live table, a report.

    A simulated depth camera looks at a simulated open back, the tracker registers its clouds to the case and
    broadcasts TF, and a third process listens as a stranger would (TF and status) and compares with the truth.
    The learned method finds the spine from nothing; the classical ones are given simulated landmark picks.
    Ends by itself. Exit code 0: poses were published (with --scenario empty: none), for at least half of the judged
    clouds that show the spine; none was off by more than 10 mm, sent while nothing was in view, sent twice or without
    a cloud; no track was lost for good; every process ended cleanly. Research software, not a medical device.
    """

    out: Path = Path("demo_report")
    """Folder for the report: index.html, pictures, summary.json, poses.jsonl, logs/."""
    pictures: bool = True
    """Pictures of the model over the camera's view in the report."""
    json: bool = False
    """Print the figures as JSON on standard output; everything else goes to standard error."""

    def run(self) -> int:
        """Run it; returns the exit code."""
        from end2reg_ros.apps.demo.demo import run_demo

        return run_demo(self, self.out, self.pictures, self.json)
