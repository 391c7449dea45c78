"""Where the studies of tracking work, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tracking_study.figures import TrackFigures, track_figures
from benchmarks.tracking_study.results import Results
from benchmarks.tracking_study.sequences import figures_by, rows_of
from benchmarks.tracking_study.setup import Cases, Methods, MethodSettings
from benchmarks.tracking_study.tables import plain_figures
from benchmarks.tracking_study.units import Unit, UnitStore, run_units
from end2reg_ros.errors import End2RegError


@dataclass(frozen=True)
class Bench:
    """Where a study works.

    Attributes:
        out: folder of the pictures; ``name`` of the files.
        limit: of the units.
    """

    store: UnitStore
    cases: Cases
    method: MethodSettings
    out: Path
    name: str
    limit: int | None = None
    methods: Methods = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", Methods(self.method))

    def run(self, units: Iterable[Unit]) -> list[dict[str, Any]]:
        """Lines of all units.

        Raises:
            End2RegError: there are none.
        """
        lines = run_units(self.store, units, self.limit)
        if not lines:
            raise End2RegError("no units: nothing was asked for")
        if self.methods.engine_text:
            self._engine_file.write_text(self.methods.engine_text + "\n", encoding="utf-8")
        return lines

    @property
    def _engine_file(self) -> Path:
        """Says what ran the network, for a rerun that sets up none."""
        return self.store.path.with_suffix(".engine.txt")

    def results(
        self,
        units: Sequence[Mapping[str, Any]],
        title: str,
        summary: Mapping[str, Any],
        lines: Sequence[str],
        notes: Sequence[str],
        pictures: Sequence[Path] = (),
        good: bool = True,
    ) -> Results:
        """The results of a finished study."""
        kept = self._engine_file.read_text(encoding="utf-8") if self._engine_file.is_file() else ""
        engine_text = self.methods.engine_text or kept.strip()
        return Results(self.name, title, summary, lines, notes, pictures, units, engine_text, good)

    def picture(self, what: str) -> Path:
        """Path of a picture."""
        return self.out / f"{self.name}_{what}.png"


def grouped(lines: Sequence[Mapping[str, Any]]) -> dict[str, TrackFigures]:
    """Figures of all runs and of each case's."""
    by_case = figures_by(lines, "case")
    groups = {str(case): figures for (case,), (figures, _) in by_case.items()}
    return {"all": track_figures(*map(rows_of, lines)), **groups}


def run_name(line: Mapping[str, Any]) -> str:
    """Case and seed."""
    return f"{line['key']['case']} {line['key']['seed']}"


BY_LEVEL = ("level_tre_mm", "rigid_tre_mm", "held")


def short_figures(
    figures: TrackFigures, without_gaps: bool, also_levels: Sequence[str] = BY_LEVEL
) -> dict[str, Any]:
    """Plain figures; of single runs, less."""
    plain = plain_figures(figures)
    if without_gaps:
        plain.pop("gaps")
    for name in BY_LEVEL:
        if name not in also_levels:
            plain.pop(name)
    return plain
