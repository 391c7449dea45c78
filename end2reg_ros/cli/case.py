"""``end2reg case create | show | validate``: what is tracked."""

from __future__ import annotations

import json as jsonlib
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tyro

from end2reg_ros.errors import CaseError

if TYPE_CHECKING:
    from end2reg_ros.case.checks import Fault
    from end2reg_ros.case.model import Case, Vertebra


@dataclass(frozen=True)
class CaseCreate:
    """Make a case folder from mesh files (mm) or from a CT label map. Exit 0 only when it was written."""

    out: Path
    """Case folder to write."""
    meshes: tuple[Path, ...] = ()
    """Closed surfaces in mm (STL, PLY, OBJ), one a level, named after it (L3.stl), or a folder of them."""
    labels: Path | None = None
    """CT label map (NIfTI) to make the surfaces from."""
    ct: Path | None = None
    """CT of the label map: checked to lie on the same grid with bone under the labels, and named in the source."""
    numbering: Literal["auto", "verse", "totalsegmentator", "totalsegmentator_v1"] = "auto"
    """Meaning of the label numbers: VerSe (L1-L5 = 20-24), TotalSegmentator v2 (31-27), v1 (22-18); auto: VerSe up to
    number 28, else v2, and an error where the numbers fit another one too."""
    label_numbers: tuple[str, ...] = ()
    """Label numbers by hand, as in L1=20 L2=21; exactly these levels are made."""
    levels: tuple[str, ...] = ()
    """Only these levels, as in L2 L3 L4; default all (of a label map: L1-L6)."""
    landmarks: Path | None = None
    """JSON in mm: {"L3": {"spinous": [x, y, z], "transverse_left": ..., "transverse_right": ...}}; else proposed."""
    screws: Path | None = None
    """YAML in mm: {L3: {left: {entry: [x, y, z], tip: [x, y, z], diameter: 6.5, length: 45}, right: ...}}."""
    name: str = ""
    """Name of the case; default the folder's name."""
    axes: Literal["ras", "lps"] = "ras"
    """Axes of meshes, landmarks and screws: ras (x right, y anterior), or lps as 3D Slicer and DICOM have them."""
    spacing: float = 0.7
    """Grid of the surface made from a label map, mm."""
    smoothing: float = 0.7
    """Gaussian that takes the voxel steps off a label map's surface, mm."""
    overwrite: bool = False
    """Replace the case that is in the folder."""
    allow_faults: bool = False
    """Write the case although validation finds errors in it."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Make the case and print what it holds; 0 when it was written."""
        from rich.console import Console
        from rich.progress import Progress

        from end2reg_ros.case.create import CreateRequest, create_case
        from end2reg_ros.case.isosurface import SurfaceSettings
        from end2reg_ros.case.store import load_case

        if not (0.2 <= self.spacing <= 3.0 and 0.0 <= self.smoothing <= 3.0):
            raise CaseError("--spacing must be 0.2-3 mm and --smoothing 0-3 mm")
        request = CreateRequest(
            out=self.out,
            meshes=self.meshes,
            labels=self.labels,
            ct=self.ct,
            numbering=self.numbering,
            label_numbers=dict(_label_number(text) for text in self.label_numbers),
            levels=tuple(level.upper() for level in self.levels),
            landmarks=self.landmarks,
            screws=self.screws,
            name=self.name,
            axes=self.axes,
            overwrite=self.overwrite,
            allow_faults=self.allow_faults,
            surface=SurfaceSettings(spacing_mm=self.spacing, sigma_mm=self.smoothing),
        )
        with Progress(
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        ) as progress:
            task = progress.add_task("reading", total=None)
            created = create_case(
                request,
                lambda text, done, total: progress.update(
                    task, description=text, completed=done, total=total
                ),
            )
        case = load_case(created.path)
        if self.json:
            print(jsonlib.dumps(_document(case, created.faults), indent=1))
        else:
            _print_case(case)
            _print_faults(created.faults)
            print(f"written: {created.path}")
        return 0


@dataclass(frozen=True)
class CaseShow:
    """Print what a case folder holds and write a picture of it."""

    path: tyro.conf.Positional[Path]
    """Case folder."""
    picture: Path | None = None
    """PNG to write: posterior and lateral view; default <name of the case>.png in the current folder."""
    table_only: bool = False
    """Write no picture."""
    json: bool = False
    """Print the result as JSON (lengths in mm)."""

    def run(self) -> int:
        """Print the table, write the picture; 0 when both went well."""
        from end2reg_ros.case.store import load_case

        case = load_case(self.path)
        picture = None
        if not self.table_only:
            from end2reg_ros.case.picture import save_picture

            with _busy("drawing"):
                picture = save_picture(case, self.picture or Path(f"{_file_name(case.name)}.png"))
        if self.json:
            print(jsonlib.dumps(_document(case) | {"picture": str(picture) if picture else None}, indent=1))
        else:
            _print_case(case)
            if picture:
                print(f"picture: {picture}")
        return 0


@dataclass(frozen=True)
class CaseValidate:
    """Check a case folder and name its faults. Exit 0 only when there is no error (warnings do not count)."""

    path: tyro.conf.Positional[Path]
    """Case folder."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Print every fault; 1 when one of them is an error."""
        from end2reg_ros.case.validate import has_errors, validate_case

        with _busy("checking"):
            faults = validate_case(self.path)
        valid = not has_errors(faults)
        if self.json:
            content = {"case": str(self.path), "valid": valid, "faults": [asdict(fault) for fault in faults]}
            print(jsonlib.dumps(content, indent=1))
        else:
            _print_faults(faults)
            errors = sum(fault.severity == "error" for fault in faults)
            verdict = "valid" if valid else "NOT VALID"
            print(
                f"{self.path}: {verdict} ({_count(errors, 'error')}, {_count(len(faults) - errors, 'warning')})"
            )
        return 0 if valid else 1


def _busy(text: str) -> AbstractContextManager[object]:
    """A sign of life on a terminal while something takes seconds."""
    from rich.console import Console

    return Console(stderr=True).status(text) if sys.stderr.isatty() else nullcontext()


def _label_number(text: str) -> tuple[str, int]:
    level, sign, number = text.partition("=")
    if not sign or not number.strip().isdigit():
        raise CaseError(f"--label-numbers: {text!r} is not of the form L3=22")
    return level.strip().upper(), int(number)


def _print_case(case: Case) -> None:
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


def _print_faults(faults: list[Fault] | tuple[Fault, ...]) -> None:
    for fault in faults:
        print(f"{fault.severity}: {fault.text} [{fault.code}]")


def _document(case: Case, faults: tuple[Fault, ...] = ()) -> dict[str, Any]:
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


def _file_name(name: str) -> str:
    """A case's name as a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".") or "case"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
