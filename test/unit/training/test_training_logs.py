"""What a run says of itself: rows, a cut log, the picture of the curves, lines and bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from end2reg_ros.training import logs
from end2reg_ros.training.logs import COLUMNS, RunLog, draw_curves, read_log
from end2reg_ros.training.progress import ProgressBar


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard takes seconds to import and is not what is tested here."""
    monkeypatch.setattr(logs, "_board", lambda folder: None)


def filled(folder: Path) -> RunLog:
    log = RunLog(folder)
    for iteration in (100, 200):
        log.row({"phase": "segmentation", "iteration": iteration, "loss": 0.5})
    for iteration in (100, 200, 300):
        log.row({"phase": "registration", "iteration": iteration, "loss": 1.0 / iteration, "mask_iou": 0.25})
    log.row({"phase": "registration", "iteration": 300, "tre_median_mm": 3.25, "scenes": 4})
    return log


def places(log: RunLog) -> list[tuple[str, int]]:
    return [(row["phase"], int(row["iteration"])) for row in read_log(log.path)]


def test_rows_keep_what_is_given_and_leave_the_rest_empty(tmp_path: Path) -> None:
    rows = read_log(filled(tmp_path).path)
    assert tuple(rows[0]) == COLUMNS and len(rows) == 6
    assert rows[2]["loss"] == "0.01" and rows[2]["tre_median_mm"] == ""
    assert (rows[5]["tre_median_mm"], rows[5]["scenes"], rows[5]["loss"]) == ("3.25", "4", "")


def test_a_second_log_of_the_folder_goes_on(tmp_path: Path) -> None:
    filled(tmp_path)
    RunLog(tmp_path).row({"phase": "registration", "iteration": 400})
    assert len(read_log(tmp_path / "log.csv")) == 7


def test_a_cut_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = read_log(log.path)
    log.cut("registration", 200)
    assert places(log) == [
        ("segmentation", 100),
        ("segmentation", 200),
        ("registration", 100),
        ("registration", 200),
    ]
    assert read_log(log.path) == before[:4]
    log.cut("segmentation", 150)
    assert places(log) == [("segmentation", 100)]


def test_a_row_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    log = filled(tmp_path)
    with log.path.open("a") as file:
        file.write("registration,40")
    log.cut("registration", 1000)
    assert len(places(log)) == 6
    with log.path.open("a") as file:
        file.write("regis")
    log.cut("registration", 1000)
    assert len(places(log)) == 6


def test_the_picture_shows_what_the_log_holds(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty.png", tmp_path / "full.png"
    log = RunLog(tmp_path)
    draw_curves(log.path, empty)
    draw_curves(filled(tmp_path).path, full)
    pictures = [imread(path) for path in (empty, full)]
    assert pictures[0].shape == pictures[1].shape and pictures[1].shape[1] > 1000
    assert np.abs(pictures[0] - pictures[1]).max() > 0.5


def test_a_tensorboard_gets_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, int]] = []

    class Board:
        def add_scalar(self, name: str, value: float, iteration: int) -> None:
            told.append((name, value, iteration))

        def close(self) -> None:
            told.append(("closed", 0.0, 0))

    monkeypatch.setattr(logs, "_board", lambda folder: Board())
    log = RunLog(tmp_path)
    log.row({"phase": "registration", "iteration": 7, "loss": 0.5, "skipped": 0})
    log.close()
    assert told == [("registration/loss", 0.5, 7), ("closed", 0.0, 0)]


def test_without_a_terminal_lines_are_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    line = "registration 1000: [1.0, 2.0] mm " + 100 * "x"  # neither markup nor broken into lines
    with ProgressBar("registration", 5, shown=False) as bar:
        bar.step(1, "loss 3")
        bar.line(line)
        assert capsys.readouterr().out == line + "\n"
    assert capsys.readouterr().out == ""


def test_on_a_terminal_there_is_a_bar() -> None:
    with pytest.raises(KeyboardInterrupt), ProgressBar("registration", 5, shown=True) as bar:
        bar.step(3, "loss 0.5")
        assert bar.rich.live.is_started
        raise KeyboardInterrupt
    task = bar.rich.tasks[0]
    assert (task.completed, task.total, task.fields["text"]) == (3, 5, "loss 0.5")
    assert not bar.rich.live.is_started  # a bar left open hides the cursor
