"""Error against time: ``python benchmarks/accuracy_speed.py --scenes SUITES/standard SUITES/hard --out OUT``.

Variants of the learned method (engine, passes, patch pairs, Sinkhorn iterations, refined or alone) and the classical methods on
the same scenes, taking turns on each. Starts: ``following``: as the next frame of a running track, up to 3 mm and 2 degrees off;
``near``: a start as good; ``none``. Variants whose packages are missing are named and left out. Writes accuracy_speed.json, .md
and a picture for each suite and start. ``--list`` prints the variants.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.paper.accuracy_speed_core import (
    STARTS,
    Engines,
    Start,
    Variant,
    by_case,
    check,
    dots_of_rows,
    registrar_of,
    run_variants,
    shipped_variants,
    variant_rows,
)
from end2reg_ros.apps.bench.plots import write_accuracy_speed
from end2reg_ros.apps.bench.speed import PACKAGES
from end2reg_ros.case import load_case
from end2reg_ros.cloud.scene_folder import find_scenes
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.benchmark import Trial
from end2reg_ros.evaluation.host import environment, package_versions
from end2reg_ros.evaluation.tables import finite
from end2reg_ros.evaluation.tables_paper import NOTES, PaperRow, table_1


def main() -> int:
    """Run it; returns the exit code."""
    # Many engines in one process: threads of one that spin after its pass would be measured in the next. Read once, by the
    # libraries that are loaded from here on.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    options = _options()
    known = shipped_variants()
    if options.list:
        print("\n".join(variant.label for variant in known))
        return 0
    try:
        return _run(options, _chosen(known, options.variants))
    except End2RegError as error:
        print(f"accuracy_speed: {error}", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--scenes", type=Path, nargs="+", default=[], help="folders of scene folders, one a suite")
    add("--out", type=Path, default=None, help="folder of the results")
    add("--case", type=Path, default=None, help="case folder of all scenes; default: what each scene names")
    add("--variants", nargs="+", default=[], help="labels, or parts of labels; default: all")
    add("--starts", nargs="+", choices=STARTS, default=["following"])
    add("--threads", type=int, default=EngineOptions.threads, help="of networks and neighbour searches")
    add("--limit", type=int, default=None, help="only the first N scenes of each suite")
    add("--list", action="store_true", help="print the variants and end")
    options = parser.parse_args()
    if not options.list and (not options.scenes or options.out is None):
        parser.error("--scenes and --out are needed")
    return options


def _chosen(known: tuple[Variant, ...], wanted: list[str]) -> list[Variant]:
    chosen = [v for v in known if not wanted or any(word in v.label for word in wanted)]
    if not chosen:
        raise End2RegError(f"no variant is called like {', '.join(wanted)}: --list names them")
    return chosen


def _run(options: argparse.Namespace, chosen: list[Variant]) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    engines = Engines()
    rows: dict[str, list[PaperRow]] = {}
    trials: dict[str, list[Trial]] = {}
    cases: dict[str, str] = {}
    variants, absent = _usable(options, chosen, engines)
    labels = {variant.label: variant for variant in variants}
    for suite in options.scenes:
        folders = find_scenes(suite)[: options.limit]
        found: dict[Start, list[Trial]] = {start: [] for start in options.starts}
        total = len(folders) * len(options.starts) * len(variants)
        running = run_variants(
            folders,
            options.starts,
            options.case,
            list(labels),
            lambda label, case: registrar_of(labels[label], case, engines, options.threads),
        )
        for number, (start, trial) in enumerate(running, 1):
            found[start].append(trial)
            print(f"\r{suite.name}: {number} of {total}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        for begun, mine in found.items():
            rows[f"{suite.name}, {begun}"] = variant_rows(mine, list(labels))
            trials[f"{suite.name}, {begun}"] = mine
        cases |= {path.name: load_case(path).hash for path in by_case(folders, options.case)}
    _write(options.out, {"rows": rows, "trials": trials, "absent": absent, "cases": cases}, variants)
    return 0


def _usable(
    options: argparse.Namespace, chosen: list[Variant], engines: Engines
) -> tuple[list[Variant], list[dict[str, str]]]:
    """The variants that can be run here, and why others cannot."""
    folders = find_scenes(options.scenes[0])[:1]
    case = load_case(next(iter(by_case(folders, options.case))))
    usable, absent = [], []
    for variant in chosen:
        try:
            check(variant, case, engines, options.threads)
        except End2RegError as fault:
            absent.append({"label": variant.label, "why": str(fault)})
            print(f"accuracy_speed: without {variant.label}: {fault}", file=sys.stderr)
        else:
            usable.append(variant)
    if not usable:
        raise End2RegError("none of the variants can be run here")
    return usable, absent


def _write(out: Path, found: dict[str, Any], variants: list[Variant]) -> None:
    rows: dict[str, list[PaperRow]] = found["rows"]
    about = environment()
    about["versions"] |= package_versions(PACKAGES)
    content = {
        "command": shlex.join(["python", "benchmarks/accuracy_speed.py", *sys.argv[1:]]),
        "environment": about,
        "cases": found["cases"],
        "variants": [asdict(variant) for variant in variants],
        "absent": found["absent"],
        "rows": {name: [asdict(row) for row in members] for name, members in rows.items()},
        "scenes": {name: [_trial(trial) for trial in members] for name, members in found["trials"].items()},
    }
    (out / "accuracy_speed.json").write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")
    lines = ["# Error against time", "", *(f"- {note}" for note in NOTES)]
    lines += [f"- Not measured: {row['label']}: {row['why']}." for row in found["absent"]]
    lines += ["", *table_1(rows)]
    text = "\n".join(lines) + "\n"
    (out / "accuracy_speed.md").write_text(text, encoding="utf-8")
    for name, members in rows.items():
        dots = dots_of_rows(members, variants)
        if dots:
            path = out / f"accuracy_speed_{name.replace(', ', '_')}.png"
            write_accuracy_speed(path, dots, name)
    print(text, end="")


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "scene": trial.scene,
        "variant": trial.method,
        "success": trial.success,
        "reason_code": trial.reason_code,
        "tre_mm": None if trial.errors is None else trial.errors.mean_tre_mm,
        "ms": trial.wall_ms,
    }


if __name__ == "__main__":
    raise SystemExit(main())
