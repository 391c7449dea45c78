"""``end2reg demo`` from its options to the exit code: nodes, live view, report, verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path

from end2reg_ros.apps.demo.assess import make_run
from end2reg_ros.apps.demo.figures import STARTS
from end2reg_ros.apps.demo.pictures import demo_pictures
from end2reg_ros.apps.demo.record import summary_json
from end2reg_ros.apps.demo.report import write_report
from end2reg_ros.apps.demo.run import check_installation, run_nodes
from end2reg_ros.apps.demo.settings import DemoSettings
from end2reg_ros.apps.demo.view import default_stream, make_view
from end2reg_ros.case.model import Case
from end2reg_ros.case.store import load_case
from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.picks import PICK_RMS_M


def run_demo(settings: DemoSettings, out: Path, pictures: bool, print_json: bool) -> int:
    """Run the nodes, show what they do, write the report; returns 0 for a good run, else 1.

    Args:
        print_json: the figures on standard output, all else on standard error.

    Raises:
        End2RegError: an option that cannot be, ROS 2 or the case missing, or a node that failed.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the nodes are stopped by then.
    """
    settings.check()
    if out.exists() and not out.is_dir():
        raise End2RegError(f"--out: {out} exists and is not a folder")
    check_installation()
    case = load_case(settings.case_folder())
    _prepare(out)
    view = make_view(default_stream(print_json), settings.duration)
    try:
        view.say(f"case {case.name}: {', '.join(case.levels)} ({case.source or 'no source given'})")
        view.say(_start_text(case, settings))
        run = make_run(case, settings, run_nodes(settings, out / "logs", view))
        if math.isfinite(run.summary.first_pose_heard_s):
            view.say(
                f"first pose {run.summary.first_pose_heard_s:.2f} s after the first cloud that shows the spine, "
                f"{STARTS[run.tracker.start]}"
            )
        view.phase("writing the report" + (" and its pictures" if pictures else ""))
        page = write_report(out, run, demo_pictures(case, settings, run.rows) if pictures else ())
        view.summary(run)
    finally:
        view.close()
    view.say(f"report: {page}")
    for problem in run.problems:
        view.say(f"not good: {problem}")
    if print_json:
        print(json.dumps(summary_json(run), indent=2))
    return 1 if run.problems else 0


def _start_text(case: Case, settings: DemoSettings) -> str:
    """What the tracker is given to begin with, one line."""
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
    left = ("index.html", "summary.json", "poses.jsonl")
    for old in (*out.glob("*.jpg"), *(out / name for name in left), *logs.iterdir()):
        old.unlink(missing_ok=True)
