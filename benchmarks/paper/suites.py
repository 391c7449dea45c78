"""The test suites: which individuals are seen in which scenes, with seeds that no training uses.

A suite is a list of scenes over several cases. Scene seeds lie in a block of their own per suite and case, all below
``TRAINING_FIRST_SEED``; the procedural individuals' seeds lie outside those of training as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from end2reg_ros.errors import CaseError, End2RegError
from end2reg_ros.simulation.field.settings import SUITES, Suite

if TYPE_CHECKING:
    from end2reg_ros.case.model import Case

PROCEDURAL_SEEDS = tuple(range(9000, 9010))
TRAINING_FIRST_SEED = 1_000_000
FIRST_SEEDS: dict[Suite, int] = {"easy": 500_000, "standard": 600_000, "hard": 700_000}
SEEDS_PER_CASE = 1000
SPARE = 500  # a seed without a usable view is replaced by the one that lies this much higher
SUITE_FILE = "suite.json"


@dataclass(frozen=True)
class SuiteIndividual:
    """One case of a suite.

    Attributes:
        case: folder of the case.
        scenes: how many scenes of each suite show it.
    """

    case: Path
    scenes: int


@dataclass(frozen=True)
class PlannedScene:
    """One scene of a suite; everything in it follows from suite, case and seed.

    Attributes:
        name: of its folder; sorts in the order of the plan.
        individual: index into the individuals of the suite.
    """

    name: str
    suite: Suite
    individual: int
    seed: int


def plan_suite(suite: Suite, individuals: Sequence[SuiteIndividual]) -> list[PlannedScene]:
    """All scenes of a suite. The individuals take turns by their shares, so that the first N are a fair mix as well.

    Raises:
        End2RegError: an unknown suite, no scene at all, too many of one case, or two cases of one name.
    """
    if suite not in FIRST_SEEDS:
        raise End2RegError(f"unknown suite '{suite}'; one of {', '.join(SUITES)}")
    names = [individual.case.resolve().name for individual in individuals]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise End2RegError(f"two cases of the name {twice[0]}: a suite tells its cases apart by their names")
    most = max((individual.scenes for individual in individuals), default=0)
    if most < 1:
        raise End2RegError("a suite needs at least one scene")
    if most > SPARE:
        raise End2RegError(f"{most} scenes of one case: at most {SPARE} have seeds of their own")
    turns = [
        ((k + 0.5) / individual.scenes, number, k)
        for number, individual in enumerate(individuals)
        for k in range(individual.scenes)
    ]
    return [
        PlannedScene(f"{suite}_{order:03d}_{names[number]}", suite, number, scene_seed(suite, number, k))
        for order, (_, number, k) in enumerate(sorted(turns))
    ]


def scene_seed(suite: Suite, individual: int, scene: int) -> int:
    """Seed of a scene: of its own for each suite, individual and scene."""
    return FIRST_SEEDS[suite] + SEEDS_PER_CASE * individual + scene


def write_suite(
    folder: Path,
    suite: Suite,
    individuals: Sequence[SuiteIndividual],
    done: Callable[[int, int], None] = lambda number, total: None,
) -> list[Path]:
    """Write a suite's scene folders and ``suite.json``; scenes that are there are kept.

    Args:
        folder: of the suite; made if missing.
        suite: kind of scenes.
        individuals: that are seen. Their order sets the seeds.
        done: told after each scene: number so far and total.
    Returns:
        the scene folders, in order.
    Raises:
        CaseError: a case that cannot be read.
        End2RegError: as ``plan_suite``; a scene folder of another case, version or seed; no usable view of a case.
    """
    from end2reg_ros.case import load_case

    plan = plan_suite(suite, individuals)
    cases = [load_case(individual.case) for individual in individuals]
    rows: list[dict[str, Any]] = []
    for number, scene in enumerate(plan):
        seed = _write_scene(folder / scene.name, cases[scene.individual], scene)
        rows.append({"scene": scene.name, "case": cases[scene.individual].name, "seed": seed})
        done(number + 1, len(plan))
    content = {
        "suite": suite,
        "cases": [
            {"name": case.name, "hash": case.hash, "scenes": individual.scenes}
            for case, individual in zip(cases, individuals, strict=True)
        ],
        "scenes": rows,
    }
    (folder / SUITE_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return [folder / scene.name for scene in plan]


def _write_scene(folder: Path, case: Case, planned: PlannedScene) -> int:
    """Write one scene unless it is there; the seed that gave a usable view."""
    from end2reg_ros.cloud.scene_folder import SCENE_FILE
    from end2reg_ros.simulation.random_scenes import SceneSettings, write_simulated_scene

    seeds = (planned.seed, planned.seed + SPARE)
    if (folder / SCENE_FILE).is_file():
        content = json.loads((folder / SCENE_FILE).read_text(encoding="utf-8"))
        seed = content.get("tags", {}).get("seed")
        if content.get("case_hash") != case.hash or seed not in seeds:
            raise End2RegError(
                f"{folder}: holds another scene (other case, version of it or seed): remove it"
            )
        return int(seed)
    for seed in seeds:
        try:
            write_simulated_scene(folder, case, SceneSettings(planned.suite, seed))
            return seed
        except CaseError:
            raise
        except End2RegError:
            if seed == seeds[-1]:
                raise
    raise AssertionError("unreachable: the last seed returns or raises")


def procedural_individuals(folder: Path, count: int, scenes: int) -> list[SuiteIndividual]:
    """The first ``count`` unseen procedural cases, written into ``folder`` where they are missing.

    Raises:
        End2RegError: more than there are seeds kept for testing.
    """
    from end2reg_ros.simulation.anatomy.spine import write_procedural_case

    if not 0 <= count <= len(PROCEDURAL_SEEDS):
        raise End2RegError(f"{count} procedural cases: 0 to {len(PROCEDURAL_SEEDS)} are kept for testing")
    individuals = []
    for seed in PROCEDURAL_SEEDS[:count]:
        path = folder / f"procedural_{seed}"
        if not (path / "case.yaml").is_file():
            write_procedural_case(path, seed, overwrite=True)
        individuals.append(SuiteIndividual(path, scenes))
    return individuals
