"""Slips by one level where few levels are exposed: ``python benchmarks/slips.py --case CASE --seeds 0-2``.

Starts at the true pose and one level (and 4 mm more) off, for exposures of one to all levels. A right start must be accepted,
a fit more than 8 mm off never.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration import Prior, create_registrar
from end2reg_ros.se3 import apply, from_rotation_translation
from end2reg_ros.simulation.field.settings import FieldSettings
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

EXPOSURES = (("L2",), ("L4",), ("L2", "L3"), ("L1", "L2"), ("L4", "L5"), ("L2", "L3", "L4"), ())


def main(case_folder: Annotated[Path | None, tyro.conf.arg(name="case")] = None, seeds: str = "0-2") -> int:
    """Run the sweep and print one JSON line; 1 when a wrong pose was accepted.

    Args:
        case_folder: default: the bundled one.
        seeds: as in 0-2.
    """
    case = load_case(case_folder or bundled_case_path())
    registrar, landmarks = create_registrar("icp", case), case.landmark_array()
    origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
    spacing = float(np.linalg.norm(np.diff(origins, axis=0), axis=1).mean())
    first, last = (int(s) for s in seeds.split("-"))
    counts = {"right_starts": 0, "right_accepted": 0, "slipped_starts": 0, "slipped_accepted": 0}
    for exposed in (e for e in EXPOSURES if set(e) <= set(case.levels)):
        for seed in range(first, last + 1):
            field = FieldSettings(seed=seed, exposed_levels=exposed) if exposed else FieldSettings(seed=seed)
            settings = SequenceSettings(seed=seed, scenario="still", field=field)
            seen = SimulatedSequence(case, settings).frame(0.0)
            cloud = Cloud(seen.points[np.isfinite(seen.points).all(axis=-1)], None, "camera", 1)
            for shift in (0.0, spacing, -spacing, spacing + 0.004, -spacing - 0.004):
                start = seen.T_camera_model @ from_rotation_translation(
                    np.eye(3), np.array([0.0, 0.0, shift])
                )
                found = registrar.register(cloud, Prior(start, "sweep"))
                error = apply(found.T_camera_model, landmarks) - apply(seen.T_camera_model, landmarks)
                wrong = 1000 * np.linalg.norm(error, axis=1).mean() > 8.0
                kind = "slipped" if shift else "right"
                counts[f"{kind}_starts"] += 1
                counts[f"{kind}_accepted"] += found.success and (wrong or not shift)
    print(json.dumps({"case": case.name, "case_hash": case.hash, "seeds": seeds, **counts}))
    return int(counts["slipped_accepted"] > 0)


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main, description=__doc__))
