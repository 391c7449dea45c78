"""The contact sheet of simulated views that the documentation shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matplotlib.image import imread
from views import bundled_case

from benchmarks.simulated_views import write_contact_sheet
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence


def test_contact_sheet_is_written(tmp_path: Path) -> None:
    sensor = replace(SENSORS["d435"], width=320, height=240)
    frame = SimulatedSequence(bundled_case(), SequenceSettings(sensor=sensor)).frame(0.0)
    write_contact_sheet(tmp_path / "sheet.png", [("one", frame), ("two", frame)])
    picture = imread(tmp_path / "sheet.png")
    assert picture.shape[1] == 640 and picture.shape[0] > 700
    # The bone of the truth row is painted yellow: much red and green, little blue.
    truth = picture[-240:]
    yellow = (truth[..., 0] > 0.6) & (truth[..., 1] > 0.5) & (truth[..., 2] < 0.5)
    assert yellow.sum() > 0.5 * 2 * frame.bone_pixels
