"""Two versions of the code side by side: ``python benchmarks/compare_trees.py --old FOLDER --scenes SCENES``.

The folders are checkouts of this repository (``git worktree add FOLDER COMMIT``). Both register the same scenes from nothing, and
track the same simulated sequence from nothing, with the same seeds; they take turns, so that a slow minute of the machine
hits both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.tables import markdown_table, number

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "trees.json"
# Runs in either tree, so it names only what both have.
TRACK = """
import json, sys, time
import numpy as np
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration import create_registrar
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence
try:
    from end2reg_ros.frame import Tracker
except ImportError:
    from end2reg_ros.tracking import Tracker
passes, scenario, seconds, rate, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
case = load_case(bundled_case_path())
registrar = create_registrar("end2reg", case, RegistrationSettings(network_passes=passes))
registrar.warm_up()
tracker = Tracker(registrar, case)
sequence = SimulatedSequence(case, SequenceSettings(seed=seed, scenario=scenario))
for k in range(int(seconds * rate)):
    seen = sequence.frame(k / rate)
    valid = np.isfinite(seen.points).all(axis=-1)
    cloud = Cloud(np.asfortranarray(seen.points[valid]), seen.colours[valid], "camera", 1 + int(1e9 * k / rate))
    began, spent = time.perf_counter(), time.process_time()
    update = tracker.update(cloud)
    ms, cpu_ms = 1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - spent)
    error_mm = None
    if update.published:
        T, p = update.registration.T_camera_model, case.landmark_array()
        moved = (p @ T[:3, :3].T + T[:3, 3]) - (p @ seen.T_camera_model[:3, :3].T + seen.T_camera_model[:3, 3])
        error_mm = 1e3 * float(np.linalg.norm(moved, axis=1).mean())
    print(json.dumps({"visible": seen.visible_fraction > 0.0, "error_mm": error_mm, "ms": ms, "cpu_ms": cpu_ms}))
"""


@dataclass(frozen=True)
class CompareTrees:
    """Compare a checkout with this one.

    Attributes:
        old: the other checkout.
        scenes: scene folders, as ``end2reg simulate`` writes them.
        scenario: of the sequence.
        seconds: of the sequence.
        rate: of the sequence, Hz.
        seed: of the sequence.
        rounds: of the timed sequence, a still scene of 3 s, in which the trees take turns.
        out: JSON file.
    """

    old: Path
    scenes: Path
    scenario: str = "theatre"
    seconds: float = 60.0
    rate: float = 10.0
    seed: int = 3
    rounds: int = 5
    out: Path = RESULTS


def run_in(tree: Path, *command: str) -> str:
    """Standard output of a Python command of a tree.

    Raises:
        SystemExit: it failed; with its last line.
    """
    environ = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    done = subprocess.run(
        [sys.executable, *command], cwd=tree, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{tree}: {' '.join(command)[:80]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def evaluated(tree: Path, scenes: Path) -> dict[str, Any]:
    """How a tree registers scenes from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        run_in(
            tree, "-m", "end2reg_ros.cli.main", "evaluate", "--scenes", str(scenes.resolve()), "--out", folder,
            "--methods", "end2reg", "--priors", "none",
        )  # fmt: skip
        trials = json.loads((Path(folder) / "evaluation.json").read_text())["trials"]
    errors = [trial["errors"]["mean_tre_mm"] for trial in trials if trial["success"]]
    return {
        "scenes": len(trials), "reported": len(errors), "tre_mm": spread(errors),
        "wrong": sum(error > 10.0 for error in errors), "ms": spread([trial["wall_ms"] for trial in trials]),
    }  # fmt: skip


def tracked(tree: Path, passes: str, scenario: str, seconds: float, rate: float, seed: int) -> dict[str, Any]:
    """How a tree tracks a simulated sequence from nothing."""
    told = run_in(tree, "-c", TRACK, passes, scenario, str(seconds), str(rate), str(seed))
    rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    errors = [row["error_mm"] for row in rows if row["error_mm"] is not None]
    seen = [row for row in rows if row["visible"]]
    followed = rows[5:]
    return {
        "clouds": len(rows), "visible": len(seen), "poses": len(errors), "tre_mm": spread(errors),
        "wrong": sum(error > 10.0 for error in errors),
        "availability": sum(row["error_mm"] is not None for row in seen) / max(len(seen), 1),
        "ms": spread([row["ms"] for row in followed]), "cpu_ms": spread([row["cpu_ms"] for row in followed]),
    }  # fmt: skip


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    if not values:
        return {}
    p50, p95, most = np.percentile(values, [50, 95, 100])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "max": round(float(most), 3)}


def rows_of(found: dict[str, Any]) -> list[list[str]]:
    """A row for each study and tree."""
    rows = []
    for study, trees in found.items():
        if not isinstance(trees, dict) or "old" not in trees:
            continue
        for name, told in trees.items():
            poses = told.get("reported", told.get("poses", ""))
            figures = [number(told["tre_mm"][key]) for key in ("p50", "p95")]
            times = [number(told.get(key, {}).get("p50"), 1) for key in ("ms", "cpu_ms")]
            rows.append([study, name, str(poses), *figures, *times])
    return rows


def main(settings: CompareTrees) -> int:
    """Run both trees, print a table, write the figures."""
    trees = {"old": settings.old, "new": ROOT}
    found: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment()}
    found["evaluate"] = {name: evaluated(tree, settings.scenes) for name, tree in trees.items()}
    found["sequence"] = {
        name: tracked(tree, "every_frame", settings.scenario, settings.seconds, settings.rate, settings.seed)
        for name, tree in trees.items()
    }
    for passes in ("every_frame", "background"):
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
        for _ in range(settings.rounds):
            for name, tree in trees.items():
                turns[name].append(tracked(tree, passes, "still", 3.0, 15.0, settings.seed))
        found[f"still, {passes}"] = {
            name: {key: spread([turn[key]["p50"] for turn in told]) for key in ("ms", "cpu_ms", "tre_mm")}
            for name, told in turns.items()
        }
    print(
        *markdown_table(
            ["study", "tree", "poses", "TRE mm p50", "p95", "ms p50", "CPU ms p50"], rows_of(found)
        ),
        sep="\n",
    )
    settings.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(CompareTrees, description=CompareTrees.__doc__)))
