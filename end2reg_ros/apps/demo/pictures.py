"""The report's pictures of a demo run: rendered again from the seed, with the poses that were heard on TF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from end2reg_ros.apps.demo import overlay as draw
from end2reg_ros.apps.demo.record import Picture
from end2reg_ros.apps.demo.settings import DemoSettings
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.rows import PUBLISHING, CloudRow

if TYPE_CHECKING:
    from end2reg_ros.simulation.sequence import SimulatedSequence

SAME_SCENE_MM = 0.1
SEARCH_TICKS = 30


def demo_pictures(case: Case, settings: DemoSettings, rows: Sequence[CloudRow]) -> list[list[Picture]]:
    """Rows of two pictures: what the camera sees and a typical pose; the worst pose and a moment of silence.

    A picture whose scene, rendered again, does not have the truth that the camera node published is left out.
    """
    from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

    published = [row for row in rows if row.errors_mm]
    if not published:
        return []
    sequence = SimulatedSequence(case, SequenceSettings(seed=settings.seed, scenario=settings.scenario))
    typical = _typical(published)
    worst = max(published, key=lambda row: row.worst_level_mm() or 0.0)
    silent = _silent(rows)
    studio = _Studio(case, sequence, settings.rate)
    pictures = [
        studio.scene(typical),
        studio.overlay(typical, "overlay", "A typical pose"),
        studio.overlay(worst, "worst", "The worst pose of the run") if worst is not typical else None,
        studio.overlay(silent, "silent", "No pose is published") if silent is not None else None,
    ]
    made = [picture for picture in pictures if picture is not None]
    return [made[i : i + 2] for i in range(0, len(made), 2)]


def _typical(published: Sequence[CloudRow]) -> CloudRow:
    """The pose whose error is nearest to the median, among those with a free view."""
    most = max(row.visible_fraction or 0.0 for row in published)
    free = [row for row in published if (row.visible_fraction or 0.0) >= 0.9 * most]
    median = float(np.median([row.tre_mm() or 0.0 for row in published]))
    return min(free, key=lambda row: abs((row.tre_mm() or 0.0) - median))


def _silent(rows: Sequence[CloudRow]) -> CloudRow | None:
    """A cloud judged without a pose: the least visible one in a loss; before the first pose when there was none."""
    judged = [row for row in rows if row.judged and not row.published and row.state not in PUBLISHING]
    lost = [row for row in judged if row.state == "LOST"] or judged
    return min(
        lost, key=lambda row: 1.0 if row.visible_fraction is None else row.visible_fraction, default=None
    )


class _Studio:
    """Renders rows again; None for one whose scene cannot be found."""

    def __init__(self, case: Case, sequence: SimulatedSequence, rate: float) -> None:
        self._case, self._sequence, self._rate = case, sequence, rate

    def scene(self, row: CloudRow) -> Picture | None:
        """What the camera sees."""
        view = self._view(row)
        if view is None:
            return None
        caption = f"The simulated camera's view at {row.t:.1f} s."
        return Picture(
            "scene", draw.jpeg(draw.camera_picture(view, draw.whole(view))), caption, "the open back"
        )

    def overlay(self, row: CloudRow, name: str, title: str) -> Picture | None:
        """The model where TF said it is, and the truth."""
        view = self._view(row)
        if view is None:
            return None
        truth, poses = _poses(row.T_camera_levels_true), _poses(row.T_camera_levels)
        picture = draw.overlay(self._case, view, draw.around(self._case, truth, view), poses, truth)
        caption = f"{title}: {row.t:.1f} s, {row.state}"
        if row.errors_mm:
            caption += f", median error {row.tre_mm():.2f} mm, worst vertebra {row.worst_level_mm():.2f} mm"
        if not row.published:
            caption += f": {row.reason}"
        return Picture(name, draw.jpeg(picture), f"{caption}.", f"model over the camera picture, {row.state}")

    def _view(self, row: CloudRow) -> draw.CameraPicture | None:
        t = _scene_time(self._sequence, row, self._rate)
        if t is None:
            return None
        frame = self._sequence.frame(t)
        return draw.CameraPicture(
            frame.colours, self._sequence.sensor.camera_matrix(), np.nan_to_num(frame.points[..., 2])
        )


def _scene_time(sequence: SimulatedSequence, row: CloudRow, rate: float) -> float | None:
    """Time in the scene at which the truth is the one that was heard; None when there is none near.

    The stamp tells when the picture was complete, which is later than that by the time it took.
    """
    heard = _poses(row.T_camera_levels_true)
    best: tuple[float, float, float] | None = None
    for tick in range(max(0, round(row.t * rate) - SEARCH_TICKS), round(row.t * rate) + SEARCH_TICKS + 1):
        t = tick / rate
        truth = sequence.T_camera_levels(t)
        shift_mm = max(
            (1e3 * float(np.linalg.norm(truth[k][:3, 3] - heard[k][:3, 3])) for k in heard), default=1e9
        )
        candidate = (round(shift_mm, 3), abs(t - row.t), t)  # of equal ones the nearest: a spine at rest
        best = candidate if best is None else min(best, candidate)
    return best[2] if best is not None and best[0] < SAME_SCENE_MM else None


def _poses(matrices: Mapping[str, Sequence[float]]) -> dict[str, draw.Array]:
    return {level: np.reshape(np.array(T), (4, 4)) for level, T in matrices.items()}
