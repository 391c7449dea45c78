"""``end2reg evaluate``: registration methods over scene folders, as tables and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from end2reg_ros.engine.options import EngineChoice
from end2reg_ros.errors import End2RegError

if TYPE_CHECKING:
    from end2reg_ros.evaluation.benchmark import BenchmarkSettings


@dataclass
class Evaluate:
    """Register every scene with every method and prior; write tables (Markdown, JSON) and pictures.

    Writes evaluation.md, evaluation.json, tre.png, success_vs_misalignment.png and time.png. Exit code 0: everything
    was run and written (however good or bad the figures are).
    """

    scenes: Path
    """Scene folder, or a folder of them (as `end2reg simulate` writes)."""
    out: Path
    """Folder for the results; made if missing."""
    case: Path | None = None
    """Case folder for all scenes. Default: the case that each scene names."""
    methods: tuple[str, ...] = ("icp", "ransac_icp")
    """Registration methods."""
    priors: tuple[Literal["none", "landmarks", "perturbed"], ...] = ("none", "landmarks")
    """What a method is told beforehand: nothing; all landmarks picked with noise; the truth, turned and shifted."""
    regions: tuple[Literal["view", "found", "bone"], ...] = ("view",)
    """Points a method gets: the whole view; the region that the region finder finds in it; only the true bone (an oracle
    segmentation)."""
    seed: int = 0
    """Of picks and perturbations."""
    pick_noise_mm: float = 3.0
    """Root mean square error of a picked landmark, mm."""
    max_rotation_deg: float = 45.0
    """Largest rotation of the perturbed prior, degrees."""
    max_offset_mm: float = 15.0
    """Largest shift of the perturbed prior, mm."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Only the first N scenes."""
    weights: Path | None = None
    """Weights file of the network (end2reg, end2reg_alone, --regions found). Default: the case's own, else the shipped."""
    engine: EngineChoice = "auto"
    """What runs the network; auto takes the fastest that is there."""
    device: str = ""
    """cpu or cuda; the engine's own choice when not given."""
    json: bool = False
    """Print evaluation.json on standard output instead of the tables."""

    def run(self) -> int:
        """Run it; returns the exit code."""
        from end2reg_ros.apps.evaluate.run import evaluate
        from end2reg_ros.engine.options import EngineOptions

        settings = self._settings()
        network = EngineOptions(self.engine, self.weights, device=self.device)
        content, tables = evaluate(self.scenes, self.out, settings, self.case, network, self.limit)
        print(content if self.json else tables, end="")
        return 0

    def _settings(self) -> BenchmarkSettings:
        import numpy as np

        from end2reg_ros.evaluation.benchmark import BenchmarkSettings

        if not self.methods or not self.priors or not self.regions:
            raise End2RegError("--methods, --priors and --regions need at least one name each")
        if self.seed < 0:
            raise End2RegError(f"--seed is {self.seed}, must be at least 0")
        if self.limit is not None and self.limit < 1:
            raise End2RegError(f"--limit is {self.limit}, must be at least 1")
        for name in ("pick_noise_mm", "max_rotation_deg", "max_offset_mm"):
            if not 0.0 <= getattr(self, name) <= 360.0:
                raise End2RegError(
                    f"--{name.replace('_', '-')} is {getattr(self, name):g}, must lie in 0 .. 360"
                )
        return BenchmarkSettings(
            methods=tuple(dict.fromkeys(self.methods)),
            priors=tuple(dict.fromkeys(self.priors)),
            regions=tuple(dict.fromkeys(self.regions)),
            seed=self.seed,
            pick_rms_m=self.pick_noise_mm / 1000.0,
            max_rotation_rad=float(np.radians(self.max_rotation_deg)),
            max_offset_m=self.max_offset_mm / 1000.0,
        )
