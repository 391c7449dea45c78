"""``end2reg case create | show | validate``: what is tracked."""

from __future__ import annotations

import json as jsonlib
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from end2reg_ros.errors import CaseError


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

        from end2reg_ros.apps.case.describe import case_document, print_case, print_faults
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
            print(jsonlib.dumps(case_document(case, created.faults), indent=1))
        else:
            print_case(case)
            print_faults(created.faults)
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
        from end2reg_ros.apps.case.describe import case_document, print_case
        from end2reg_ros.case.store import load_case

        case = load_case(self.path)
        picture = None
        if not self.table_only:
            from end2reg_ros.case.picture import save_picture

            with _busy("drawing"):
                name = (
                    "".join(c if c.isalnum() or c in "-_." else "_" for c in case.name).strip(".") or "case"
                )
                picture = save_picture(case, self.picture or Path(f"{name}.png"))
        if self.json:
            print(
                jsonlib.dumps(case_document(case) | {"picture": str(picture) if picture else None}, indent=1)
            )
        else:
            print_case(case)
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
        from end2reg_ros.apps.case.describe import print_faults
        from end2reg_ros.case.checks import has_errors, validate_case

        with _busy("checking"):
            faults = validate_case(self.path)
        valid = not has_errors(faults)
        if self.json:
            content = {"case": str(self.path), "valid": valid, "faults": [asdict(fault) for fault in faults]}
            print(jsonlib.dumps(content, indent=1))
        else:
            print_faults(faults)
            errors = sum(fault.severity == "error" for fault in faults)
            verdict = "valid" if valid else "NOT VALID"
            counts = {"error": errors, "warning": len(faults) - errors}
            told = ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in counts.items())
            print(f"{self.path}: {verdict} ({told})")
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
