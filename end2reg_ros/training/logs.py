"""What a run says of itself: progress on the terminal, a CSV, TensorBoard events, a picture of the curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from end2reg_ros.evaluation.plot_style import GRID, new_figure, save_png, styled

COLUMNS = ("phase", "iteration", "seconds", "loss", "coarse", "fine", "rate", "tau", "gradient", "skipped",
           "mask_share", "mask_iou", "scenes", "tre_median_mm", "tre_q1_mm", "tre_q3_mm", "outlier_share",
           "validation_mask_share", "validation_mask_iou")  # fmt: skip


class RunLog:
    """Rows of one run; TensorBoard takes part where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "log.csv"
        if not self.path.is_file():
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerow(COLUMNS)
        self._board = _board(folder)

    def row(self, values: Mapping[str, Any]) -> None:
        """Add a row; figures that are not given stay empty."""
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([_text(values.get(name, "")) for name in COLUMNS])
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{values['phase']}/{name}", value, values["iteration"])

    def cut(self, phase: str, iteration: int) -> None:
        """Forget rows written after the checkpoint that a run goes on from, and a row that was cut short."""
        rows = read_log(self.path)
        order = ("segmentation", "registration")
        kept = [
            row
            for row in rows
            if _whole(row)
            and (order.index(row["phase"]), int(row["iteration"])) <= (order.index(phase), iteration)
        ]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def close(self) -> None:
        """Write out what is still held."""
        if self._board is not None:
            self._board.close()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def _whole(row: Mapping[str, Any]) -> bool:
    return all(row.get(name) is not None for name in COLUMNS) and str(row["iteration"]).isdecimal()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_log(path: Path) -> list[dict[str, str]]:
    """Rows of a log as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@styled
def draw_curves(log: Path, picture: Path) -> None:
    """Losses, landmark error and mask over the iterations, as a PNG."""
    rows = [row for row in read_log(log) if row["phase"] == "registration"]
    figure, (losses, errors, masks) = new_figure(13, 3.6, columns=3)
    for axes, name, label in (
        (losses, "loss", "loss"), (losses, "coarse", "coarse"), (losses, "fine", "fine"),
        (errors, "tre_q3_mm", "Q3"), (errors, "tre_median_mm", "median"), (errors, "tre_q1_mm", "Q1"),
        (masks, "mask_share", "share of label 1, training"), (masks, "mask_iou", "IoU with bone, training"),
        (masks, "validation_mask_iou", "IoU with bone, validation"),
    ):  # fmt: skip
        given = [(int(row["iteration"]), float(row[name])) for row in rows if row[name] not in ("", None)]
        axes.plot(
            *zip(*given, strict=True) if given else ([], []),
            marker="." if axes is errors else "",
            label=label,
        )
    losses.set(title="loss (mean of 100 steps)")
    errors.set(title="validation: landmark error, network alone, mm", yscale="log")
    masks.set(title="mask", ylim=(0, 1))
    for axes in (losses, errors, masks):
        axes.set_xlabel("iteration")
        axes.grid(color=GRID)
        axes.legend()
    save_png(figure, picture)
