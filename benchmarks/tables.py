"""The paper's tables on the test suites: ``python benchmarks/tables.py --suites DIR --out OUT --methods icp ransac_icp``.

Table 1 (TRE, verdicts, time) and 2 (RMSE) from OUT/SUITE/evaluation.json, which is made where it is missing; table 3 against
the same files of another training (--two-step OUT2); sweeps with --sweeps and --sweep-cases. Writes tables.md, tables.json
and pictures. Suites are made by make_suites.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.paper.sweep_tables import sweep_figures, sweep_table, write_sweep_picture
from benchmarks.paper.sweeps import SweepName, SweepRow, SweepSettings, run_sweeps, sweep_document
from end2reg_ros.case import load_case
from end2reg_ros.case.model import Case
from end2reg_ros.cli.evaluate import Evaluate
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.benchmark import CaseBench
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.regions import Region, region_finder_of
from end2reg_ros.evaluation.statistics import Comparison, Selection, compare_documents
from end2reg_ros.evaluation.tables import finite
from end2reg_ros.evaluation.tables_paper import NOTES, PaperRow, rows_of_document, table_1, table_2, table_3
from end2reg_ros.simulation.field.settings import SUITES, Suite


@dataclass(frozen=True)
class TableOptions:
    """What is run."""

    suites: Path
    """Folder of the suites, as make_suites.py writes them."""
    out: Path
    """Folder of the results; what is there is kept."""
    suite_names: tuple[Suite, ...] = SUITES
    methods: tuple[str, ...] = ("icp", "ransac_icp", "kiss_matcher_icp")
    regions: tuple[Region, ...] = ("view", "bone")
    weights: Path | None = None
    """Weights file; default: the shipped one."""
    limit: int | None = None
    """Only the first N scenes of each suite."""
    two_step: Path | None = None
    """Results of another training on the same scenes, for table 3."""
    compared: str = "end2reg_alone"
    """Method that table 3 is about."""
    compared_region: Region = "view"
    """And its region."""
    sweeps: tuple[SweepName, ...] = ()
    sweep_cases: tuple[Path, ...] = ()
    """Case folders of the sweeps."""
    sweep_seeds: int = 4
    """Views per value and case."""


def main(options: TableOptions) -> int:
    """Run what is missing and write the tables; returns the exit code."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        documents: dict[str, Any] = {suite: _document(suite, options) for suite in options.suite_names}
        rows: dict[str, list[PaperRow]] = {
            suite: rows_of_document(document) for suite, document in documents.items()
        }
        comparisons = _comparisons(documents, options.two_step, options) if options.two_step else {}
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


def _document(suite: str, options: TableOptions) -> dict[str, Any]:
    """A suite's evaluation.json, made where it is missing."""
    path = options.out / suite / "evaluation.json"
    if not path.is_file():
        command = Evaluate(
            options.suites / suite,
            options.out / suite,
            methods=options.methods,
            priors=("none",),
            regions=options.regions,
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


def _comparisons(documents: dict[str, Any], two_step: Path, options: TableOptions) -> dict[str, Comparison]:
    """End-to-end against two-step on every suite."""
    found = {}
    for suite, document in documents.items():
        other = _read(two_step / suite / "evaluation.json")
        found[suite] = compare_documents(
            (other, Selection("two-step", options.compared, options.compared_region)),
            (document, Selection("end-to-end", options.compared, options.compared_region)),
        )
    return found


def _sweeps(options: TableOptions) -> list[SweepRow]:
    region = options.regions[0]
    settings = SweepSettings(options.sweeps, options.sweep_seeds, options.methods, region)

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
    raise SystemExit(main(tyro.cli(TableOptions, description=__doc__)))
