"""The paper's tables on the test suites: ``python benchmarks/tables.py --suites DIR --out OUT --methods icp ransac_icp``.

Table 1 (TRE, verdicts, time) and 2 (RMSE) from OUT/SUITE/evaluation.json, which is made where it is missing; table 3 against
the same files of another training (--two-step OUT2); sweeps with --sweeps and --sweep-cases. Writes tables.md, tables.json
and pictures. Suites are made by make_suites.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.paper.sweep_tables import sweep_figures, sweep_table, write_sweep_picture
from benchmarks.paper.sweeps import SWEEPS, SweepRow, SweepSettings, run_sweeps, sweep_document
from end2reg_ros.case import load_case
from end2reg_ros.case.model import Case
from end2reg_ros.cli.evaluate import Evaluate
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.benchmark import CaseBench
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.regions import region_finder_of
from end2reg_ros.evaluation.statistics import Comparison, Selection, compare_documents
from end2reg_ros.evaluation.tables import finite
from end2reg_ros.evaluation.tables_paper import NOTES, PaperRow, rows_of_document, table_1, table_2, table_3
from end2reg_ros.simulation.field.settings import SUITES


def main() -> int:
    """Run what is missing and write the tables; returns the exit code."""
    options = _options()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        documents = {suite: _document(suite, options) for suite in options.suite_names}
        rows = {suite: rows_of_document(document) for suite, document in documents.items()}
        comparisons = _comparisons(documents, options) if options.two_step else {}
        swept = _sweeps(options) if options.sweeps else []
    except End2RegError as error:
        print(f"tables: {error}", file=sys.stderr)
        return 1
    text = _markdown(rows, comparisons, swept)
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    content = {
        "environment": environment(),
        "table_1_and_2": {suite: [asdict(row) for row in members] for suite, members in rows.items()},
        "table_3": {suite: asdict(found) for suite, found in comparisons.items()},
        "sweeps": sweep_document(swept),
    }
    (options.out / "tables.json").write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")
    if swept:
        write_sweep_picture(options.out / "sweeps.png", sweep_figures(swept))
    print(text, end="")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--suites", type=Path, required=True, help="folder of the suites, as make_suites.py writes them")
    add("--suite-names", nargs="+", choices=SUITES, default=SUITES)
    add("--out", type=Path, required=True, help="folder of the results; what is there is kept")
    add("--methods", nargs="+", default=["icp", "ransac_icp", "kiss_matcher_icp"])
    add("--regions", nargs="+", choices=("view", "found", "bone"), default=["view", "bone"])
    add("--weights", type=Path, default=None, help="weights file; default: the shipped one")
    add("--limit", type=int, default=None, help="only the first N scenes of each suite")
    add(
        "--two-step",
        type=Path,
        default=None,
        help="results of another training on the same scenes, for table 3",
    )
    add("--compared", default="end2reg_alone", help="method that table 3 is about")
    add("--compared-region", choices=("view", "found", "bone"), default="view", help="and its region")
    add("--sweeps", nargs="*", choices=tuple(SWEEPS), default=[])
    add("--sweep-cases", type=Path, nargs="*", default=[], help="case folders of the sweeps")
    add("--sweep-seeds", type=int, default=4, help="views per value and case")
    return parser.parse_args()


def _document(suite: str, options: argparse.Namespace) -> dict[str, Any]:
    """A suite's evaluation.json, made where it is missing."""
    path = options.out / suite / "evaluation.json"
    if not path.is_file():
        command = Evaluate(
            options.suites / suite,
            options.out / suite,
            methods=tuple(options.methods),
            priors=("none",),
            regions=tuple(options.regions),
            limit=options.limit,
            weights=options.weights,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            command.run()
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise End2RegError(f"{path}: cannot be read ({error})") from error
    return content


def _comparisons(documents: dict[str, Any], options: argparse.Namespace) -> dict[str, Comparison]:
    """End-to-end against two-step on every suite."""
    found = {}
    for suite, document in documents.items():
        other = _read(options.two_step / suite / "evaluation.json")
        found[suite] = compare_documents(
            (other, Selection("two-step", options.compared, options.compared_region)),
            (document, Selection("end-to-end", options.compared, options.compared_region)),
        )
    return found


def _sweeps(options: argparse.Namespace) -> list[SweepRow]:
    region = options.regions[0]
    settings = SweepSettings(tuple(options.sweeps), options.sweep_seeds, tuple(options.methods), region)

    def bench_of(case: Case) -> CaseBench:
        return CaseBench(case, settings.methods, finder=region_finder_of(case) if region == "found" else None)

    cases = [load_case(path) for path in options.sweep_cases]
    if not cases:
        raise End2RegError("--sweeps needs case folders: --sweep-cases CASE ...")
    rows = []
    for row in run_sweeps(cases, bench_of, settings):
        rows.append(row)
        print(f"\r{len(rows)} registrations of the sweeps", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def _markdown(
    rows: dict[str, list[PaperRow]], comparisons: dict[str, Comparison], swept: list[SweepRow]
) -> str:
    lines = ["# The paper's tables on the simulated suites", "", *(f"- {note}" for note in NOTES), ""]
    lines += ["## Table 1: TRE, verdicts, time of a frame", "", *table_1(rows), ""]
    lines += ["## Table 2: RMSE", "", *table_2(rows), ""]
    if comparisons:
        lines += ["## Table 3: two-step against end-to-end training", "", *table_3(comparisons), ""]
    if swept:
        lines += ["## Sweeps", "", "![sweeps](sweeps.png)", "", *sweep_table(sweep_figures(swept)), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
