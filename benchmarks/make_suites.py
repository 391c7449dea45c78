"""Test suites as scene folders: ``python benchmarks/make_suites.py --out DIR --cases CASE ... --per-case 14``.

Writes DIR/SUITE/SCENE/ and, for the procedural individuals, DIR/cases/procedural_SEED/. Scenes that are there are kept, so
that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import tyro

from benchmarks.paper.suites import SuiteIndividual, procedural_individuals, write_suite
from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.field.settings import SUITES, Suite


def main(
    out: Path,
    cases: tuple[Path, ...] = (),
    per_case: int = 14,
    procedural: int = 6,
    per_procedural: int = 3,
    suites: tuple[Suite, ...] = SUITES,
) -> int:
    """Write the suites; returns the exit code.

    Args:
        out: folder of the suites; made if missing.
        cases: case folders; their order sets the seeds.
        per_case: scenes of each of these cases and suite.
        procedural: how many unseen procedural individuals.
        per_procedural: scenes of each of them and suite.
        suites: kinds of scenes.
    """
    try:
        individuals = [SuiteIndividual(path, per_case) for path in cases]
        individuals += procedural_individuals(out / "cases", procedural, per_procedural)
        for suite in suites:
            began = perf_counter()
            folders = write_suite(out / suite, suite, individuals, _progress)
            print(
                f"{len(folders)} scenes of suite '{suite}' in {perf_counter() - began:.0f} s: {out / suite}"
            )
    except End2RegError as error:
        print(f"make_suites: {error}", file=sys.stderr)
        return 1
    return 0


def _progress(number: int, total: int) -> None:
    print(f"\r{number} of {total}", end="\n" if number == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main, description=__doc__))
