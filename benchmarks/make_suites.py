"""Test suites as scene folders: ``python benchmarks/make_suites.py --out DIR --cases CASE ... --per-case 14``.

Writes DIR/SUITE/SCENE/ and, for the procedural individuals, DIR/cases/procedural_SEED/. Scenes that are there are kept, so
that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.paper.suites import Individual, procedural_individuals, write_suite
from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.field.settings import SUITES


def main() -> int:
    """Write the suites; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the suites; made if missing")
    parser.add_argument(
        "--cases", type=Path, nargs="*", default=[], help="case folders; their order sets the seeds"
    )
    parser.add_argument("--per-case", type=int, default=14, help="scenes of each of these cases and suite")
    parser.add_argument("--procedural", type=int, default=6, help="how many unseen procedural individuals")
    parser.add_argument("--per-procedural", type=int, default=3, help="scenes of each of them and suite")
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=SUITES, help="kinds of scenes")
    options = parser.parse_args()
    try:
        individuals = [Individual(path, options.per_case) for path in options.cases]
        individuals += procedural_individuals(
            options.out / "cases", options.procedural, options.per_procedural
        )
        for suite in options.suites:
            began = perf_counter()
            folders = write_suite(options.out / suite, suite, individuals, _progress)
            print(
                f"{len(folders)} scenes of suite '{suite}' in {perf_counter() - began:.0f} s: {options.out / suite}"
            )
    except End2RegError as error:
        print(f"make_suites: {error}", file=sys.stderr)
        return 1
    return 0


def _progress(number: int, total: int) -> None:
    print(f"\r{number} of {total}", end="\n" if number == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
