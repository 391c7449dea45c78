"""``end2reg case adapt``: the patient's own network, from simulated views of this one case."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro


@dataclass(frozen=True)
class CaseAdapt:
    """Tune the network to one case. Exit 0 when the result was kept, or the minutes were up (the same call goes on).

    The result is kept in CASE/network only if it registers views it never saw no worse than before; else exit 1.
    """

    case: tyro.conf.Positional[Path]
    """Case folder."""
    weights: Path | None = None
    """Weights to start from; default those of the package."""
    scenes: int = 240
    """Simulated views to train on."""
    iterations: int = 400
    """Training steps, of one view each."""
    minutes: float | None = None
    """Stop simulating and training after so many minutes; the same command goes on. Without it: to the end."""
    held_out: int = 30
    """Simulated views, of other wounds, to measure on before and after."""
    seed: int = 0
    """Of everything random."""
    out: Path | None = None
    """Folder for views and checkpoints, kept; default one below the user's cache, removed at the end."""
    workers: int = 1
    """Processes that prepare views ahead; 0 prepares them in between."""
    json: bool = False
    """Print the outcome as JSON; no progress bar."""

    def run(self) -> int:
        """Adapt and print what has changed; 0 when the network was kept or the minutes were up."""
        from end2reg_ros.training.adapt.run import AdaptRequest, adapt

        request = AdaptRequest(
            case=self.case,
            weights=self.weights,
            scenes=self.scenes,
            held_out=self.held_out,
            iterations=self.iterations,
            minutes=self.minutes,
            seed=self.seed,
            out=self.out,
            workers=self.workers,
            progress=sys.stdout.isatty() and not self.json,
        )
        try:
            result = adapt(request)
        except KeyboardInterrupt:
            print("what is done so far is kept: the same command goes on there", file=sys.stderr)
            raise
        document: dict[str, Any] = {
            "stage": result.stage,
            "kept": result.kept,
            "folder": str(result.folder),
            **result.document,
        }
        if self.json:
            print(json.dumps(document, indent=1))
        elif result.stage != "done":
            print(f"stopped while {result.stage}: the same command goes on ({result.folder})")
        else:
            _say(document)
        return 0 if result.kept or result.stage != "done" else 1


def _say(document: dict[str, Any]) -> None:
    views = document["held_out_views"]
    print(f"{views['before']['views']} simulated views never trained on, {document['start']}:")
    print(f"  before  {views['before_text']}")
    print(f"  after   {views['after_text']}")
    print(f"  paired  {views['wilcoxon']['text']}")
    if document["kept"]:
        print(f"kept: {Path(document['folder']) / 'weights.safetensors'}")
    else:
        print(f"not kept, as it is worse than what it began with; report: {document['folder']}")
