"""The tracker node, measured: `python benchmarks/node.py` writes benchmarks/results/node.json.

The same as `end2reg bench demo` (speed, pose age, cost, drops and error of the same runs) with that file as its default;
`--seeds 0-9 --case CASE --out FILE` for a sweep. Prints the Markdown table.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from end2reg_ros.cli.bench import BenchDemo

if __name__ == "__main__":
    results = Path(__file__).resolve().parent / "results" / "node.json"
    sys.exit(tyro.cli(BenchDemo, default=BenchDemo(out=results), description=__doc__).run())
