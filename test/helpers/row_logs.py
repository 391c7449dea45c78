"""Logs of rows, read back and written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from end2reg_ros.evaluation.rows import CloudRow, from_dict, latest, to_line


def read_rows(path: Path) -> list[CloudRow]:
    """All rows of a log, as ``latest``. A line cut off at the end (a killed listener) is left out.

    Raises:
        FileNotFoundError: no such file.
    """
    rows = []
    for line in path.read_text().splitlines():
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            continue
        if data.get("kind") == "frame":
            rows.append(from_dict(data))
    return latest(rows)


def write_rows(path: Path, rows: Iterable[CloudRow]) -> None:
    """Write a log."""
    path.write_text("".join(to_line(row) + "\n" for row in rows))
