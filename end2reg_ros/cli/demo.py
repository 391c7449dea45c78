"""``end2reg demo``: simulated camera -> ROS 2 -> tracker -> TF, heard by a stranger, compared with the truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from end2reg_ros.engine.options import EngineChoice
from end2reg_ros.errors import End2RegError

if TYPE_CHECKING:
    from end2reg_ros.apps.demo.run import RunSettings
    from end2reg_ros.case.model import Case

Scenario = Literal["still", "demo", "stress", "leave", "empty", "theatre", "occlude"]


@dataclass
class Demo:
    """See the main job work: three ROS 2 processes on this machine, a live table, a report.

    A simulated depth camera looks at a simulated open back, the tracker registers its clouds to the case and
    broadcasts TF, and a third process listens as a stranger would (TF and status) and compares with the truth.
    The learned method finds the spine from nothing; the classical ones are given simulated landmark picks.
    Ends by itself. Exit code 0: poses were published (with --scenario empty: none), for at least half of the judged
    clouds that show the spine; none was off by more than 10 mm, sent while nothing was in view, sent twice or without
    a cloud; no track was lost for good; every process ended cleanly. Research software, not a medical device.
    """

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
    method: Literal["end2reg", "icp", "ransac_icp"] = "end2reg"
    """Registration method."""
    start: Literal["auto", "none", "landmarks"] = "auto"
    """What the tracker is given: no start (none), or simulated landmark picks; auto: none with end2reg, else landmarks."""
    engine: EngineChoice = "auto"
    """What runs the network; auto takes the fastest that is there."""
    threads: int = 1
    """CPU threads of the network."""
    out: Path = Path("demo_report")
    """Folder for the report: index.html, pictures, summary.json, poses.jsonl, logs/."""
    pictures: bool = True
    """Pictures of the model over the camera's view in the report."""
    json: bool = False
    """Print the figures as JSON on standard output; everything else goes to standard error."""

    def run(self) -> int:
        """Run it; returns the exit code."""
        from end2reg_ros.apps.demo import assess as demo_report
        from end2reg_ros.apps.demo import view as demo_view
        from end2reg_ros.apps.demo.figures import STARTS
        from end2reg_ros.apps.demo.pictures import demo_pictures
        from end2reg_ros.apps.demo.report import write_report
        from end2reg_ros.apps.demo.run import RunSettings, check_installation, default_case, run_nodes
        from end2reg_ros.case.store import load_case

        self._check()
        check_installation()
        case = load_case(self.case or default_case())
        settings = RunSettings(
            case.path, self.out / "logs", self.duration, self.seed, self.scenario, self.rate, self.method,
            self.start, self.engine, self.threads,
        )  # fmt: skip
        _prepare(self.out)
        view = demo_view.make_view(demo_view.default_stream(self.json), self.duration)
        try:
            view.say(f"case {case.name}: {', '.join(case.levels)} ({case.source or 'no source given'})")
            view.say(_told_start(case, settings))
            record = run_nodes(settings, view)
            run = demo_report.make_run(case, settings, record)
            if run.summary.first_pose_heard_s is not None:
                view.say(
                    f"first pose {run.summary.first_pose_heard_s:.2f} s after the first cloud that shows the spine, "
                    f"{STARTS[run.tracker.start]}"
                )
            view.phase("writing the report" + (" and its pictures" if self.pictures else ""))
            page = write_report(
                self.out, run, demo_pictures(case, settings, run.rows) if self.pictures else ()
            )
            view.summary(run)
        finally:
            view.close()
        view.say(f"report: {page}")
        for problem in run.problems:
            view.say(f"not good: {problem}")
        if self.json:
            print(json.dumps(demo_report.run_json(run), indent=2))
        return 1 if run.problems else 0

    def _check(self) -> None:
        if not 1.0 <= self.duration <= 3600.0:
            raise End2RegError(f"--duration is {self.duration:g} s, must lie in 1 .. 3600")
        if not 0.5 <= self.rate <= 60.0:
            raise End2RegError(f"--rate is {self.rate:g} Hz, must lie in 0.5 .. 60")
        if not 1 <= self.threads <= 64:
            raise End2RegError(f"--threads is {self.threads}, must lie in 1 .. 64")
        if self.start == "none" and self.method == "icp":
            raise End2RegError("--method icp needs a start: --start landmarks, or another method")
        if self.out.exists() and not self.out.is_dir():
            raise End2RegError(f"--out: {self.out} exists and is not a folder")


def _told_start(case: Case, settings: RunSettings) -> str:
    """What the tracker is given to begin with, one line."""
    from end2reg_ros.simulation.picks import PICK_RMS_M

    if settings.start_given() == "none":
        return "the tracker is given no start: it finds the spine in the camera's whole view and follows on its own"
    picks, noise_mm = len(case.landmark_array()), 1000 * PICK_RMS_M
    return (
        f"a simulated surgeon picks {picks} landmarks with {noise_mm:.0f} mm of noise; "
        "the tracker starts from them and follows on its own"
    )


def _prepare(out: Path) -> None:
    """Make the report's folder; what an earlier run left in it goes."""
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in (
        *out.glob("*.jpg"),
        out / "index.html",
        out / "summary.json",
        out / "poses.jsonl",
        *logs.iterdir(),
    ):
        old.unlink(missing_ok=True)
