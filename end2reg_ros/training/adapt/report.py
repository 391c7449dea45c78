"""What an adaptation has changed: figures, the decision to keep it, a document and a picture. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.plot_style import (
    ACCENT,
    MUTED,
    cumulative,
    mark_wrong,
    new_figure,
    save_png,
    styled,
)
from end2reg_ros.evaluation.statistics import signed_rank
from end2reg_ros.evaluation.tables import finite


@dataclass(frozen=True)
class Figures:
    """Landmark errors of one network over the held-out views, mm; a view without a pose counts as infinite.

    Attributes:
        views: how many; without_pose: of them.
        median_mm, q1_mm, q3_mm: over all views, by the nearest rank so that infinite ones may take part.
        above_10_mm: share of the views, those without a pose among them.
    """

    views: int
    without_pose: int
    median_mm: float
    q1_mm: float
    q3_mm: float
    above_10_mm: float

    def text(self) -> str:
        """``2.10 [1.60, 3.05] mm, 7 % above 10 mm or without a pose``."""
        q1, q3 = _mm(self.q1_mm), _mm(self.q3_mm)
        return f"{_mm(self.median_mm)} [{q1}, {q3}] mm, {100 * self.above_10_mm:.0f} % above 10 mm or without a pose"

    def document(self) -> dict[str, float | int | None]:
        """For JSON: None for what is infinite."""
        return dict(finite(asdict(self)))


def figures(errors_mm: Sequence[float]) -> Figures:
    """Figures of errors in mm, infinite without a pose."""
    errors = np.asarray(errors_mm, np.float64)
    # Interpolation between two infinite figures is NaN: ranks only. The middle two are averaged for the usual median.
    q1, q3 = (float(np.percentile(errors, q, method="nearest")) for q in (25, 75))
    low, high = (float(np.percentile(errors, 50, method=m)) for m in ("lower", "higher"))
    return Figures(
        views=len(errors),
        without_pose=int(np.isinf(errors).sum()),
        median_mm=low if low == high else 0.5 * (low + high),
        q1_mm=q1,
        q3_mm=q3,
        above_10_mm=float(np.mean(errors > WRONG_MM)),
    )


def not_worse(before: Figures, after: Figures) -> bool:
    """Neither the median nor the share above 10 mm has grown."""
    return after.median_mm <= before.median_mm and after.above_10_mm <= before.above_10_mm


def comparison(before_mm: Sequence[float], after_mm: Sequence[float]) -> dict[str, Any]:
    """Before, after, and the paired test of the two, for JSON."""
    before, after = figures(before_mm), figures(after_mm)
    test = signed_rank(list(after_mm), list(before_mm))
    return {
        "before": before.document(),
        "after": after.document(),
        "before_text": before.text(),
        "after_text": after.text(),
        "wilcoxon": finite({"pairs": test.pairs, "p": test.p, "effect": test.effect, "text": test.text()}),
        "not_worse": not_worse(before, after),
        "before_mm": finite(list(before_mm)),
        "after_mm": finite(list(after_mm)),
    }


def write_report(folder: Path, document: dict[str, Any]) -> None:
    """Write ``adaptation.json`` and ``adaptation.png`` into a folder."""
    text = json.dumps(document, indent=1, allow_nan=False)
    (folder / "adaptation.json").write_text(text + "\n", encoding="utf-8")
    errors = [
        [math.inf if v is None else float(v) for v in document["held_out_views"][f"{side}_mm"]]
        for side in ("before", "after")
    ]
    draw(folder / "adaptation.png", str(document["case"]), errors[0], errors[1])


@styled
def draw(path: Path, name: str, before_mm: Sequence[float], after_mm: Sequence[float]) -> None:
    """Cumulative error curves of both networks; views without a pose keep a curve below 100 %."""
    figure, (axes,) = new_figure(6.4, 4.2)
    for errors, label, colour in ((before_mm, "before", MUTED), (after_mm, "after", ACCENT)):
        found = figures(errors)
        text = f"{label}: median {_mm(found.median_mm)} mm, {100 * found.above_10_mm:.0f} % above 10 mm"
        axes.plot([], [], color=colour, label=text)  # named also where no view has a pose
        cumulative(axes, [v for v in errors if math.isfinite(v)], "", of=len(errors), color=colour)
    mark_wrong(axes, vertical=True)
    axes.set(xscale="log", xlabel="mean landmark error of the network's own pose, mm")
    axes.set(ylim=(0.0, 1.02), ylabel="share of the held-out views with at most that error")
    axes.set_title(f"{name}: {len(before_mm)} simulated views never trained on")
    axes.legend(loc="lower right")
    save_png(figure, path)


def _mm(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "no pose"
