"""What a case holds and its faults, as the ``end2reg case`` commands print them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from end2reg_ros.case.checks import Fault
    from end2reg_ros.case.model import Case, Vertebra


def print_case(case: Case) -> None:
    """Print a table of a case's levels, and its source."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe or a log has no width; 80 columns would break every row.
    console = Console(width=None if sys.stdout.isatty() else 120)
    # Text: a name may hold what rich takes for markup.
    title = Text(f"{case.name}: {len(case.vertebrae)} levels, hash {case.hash[:12]}")
    table = Table(title=title, title_justify="left")
    table.add_column("level")
    for column in ("triangles", "width x depth x height mm", "volume cm³", "centroid mm (RAS)"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("landmarks")
    table.add_column("screws", no_wrap=True)
    for vertebra in case.vertebrae:
        entry = _level_document(vertebra)
        colour = "#{:02x}{:02x}{:02x}".format(*vertebra.colour)
        marks = vertebra.landmarks
        table.add_row(
            f"[bold {colour}]{vertebra.level}[/]",
            str(entry["triangles"]),
            " x ".join(f"{side:.1f}" for side in entry["size_mm"]),
            f"{entry['volume_cm3']:.1f}",
            " ".join(f"{round(c, 1) + 0.0:.1f}" for c in entry["centroid_mm"]),
            "none" if marks is None else "proposed" if marks.proposed else "given",
            ", ".join(screw.side for screw in vertebra.screws) or "none",
        )
    console.print(table)
    if case.source:
        console.print(f"source: {case.source}", markup=False, highlight=False, soft_wrap=True)


def print_faults(faults: Sequence[Fault]) -> None:
    """Print one line a fault: severity, text, code."""
    for fault in faults:
        print(f"{fault.severity}: {fault.text} [{fault.code}]")


def case_document(case: Case, faults: Sequence[Fault] = ()) -> dict[str, Any]:
    """What a case holds as JSON takes it: lengths in mm, transforms in metres, row by row."""
    return {
        "case": str(case.path),
        "name": case.name,
        "hash": case.hash,
        "source": case.source,
        "levels": [_level_document(vertebra) for vertebra in case.vertebrae],
        "faults": [asdict(fault) for fault in faults],
    }


def _level_document(vertebra: Vertebra) -> dict[str, Any]:
    from end2reg_ros.case.meshes import signed_volume

    marks = vertebra.landmarks
    named = ("spinous", "transverse_left", "transverse_right", "proposed") if marks is not None else ()
    return {
        "level": vertebra.level,
        "vertices": len(vertebra.mesh.vertices),
        "triangles": len(vertebra.mesh.triangles),
        "size_mm": _mm(np.ptp(vertebra.mesh.vertices, axis=0)),
        "volume_cm3": round(signed_volume(vertebra.mesh) * 1e6, 2),
        "centroid_mm": _mm(vertebra.T_model_level[:3, 3]),
        "T_model_level": [float(value) for value in vertebra.T_model_level.reshape(-1)],
        "colour": list(vertebra.colour),
        "landmarks_mm": {n: _plain(getattr(marks, n)) for n in named} or None,
        "screws_mm": {
            s.side: {
                "entry": _mm(s.entry),
                "tip": _mm(s.tip),
                "diameter": round(s.diameter * 1000, 3),
                "length": round(s.length * 1000, 3),
            }
            for s in vertebra.screws
        },
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool) else _mm(value)


def _mm(metres: Any) -> list[float]:
    return [round(float(value) * 1000.0, 3) for value in metres]
