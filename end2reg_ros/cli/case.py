"""``end2reg case create | show | validate``: what is tracked."""

from __future__ import annotations

import json as jsonlib
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from end2reg_ros.case.create import CreateRequest, create_case


@dataclass(frozen=True)
class CaseCreate(CreateRequest):
    """Make a case folder from mesh files (mm) or from a CT label map. Exit 0 only when it was written."""

    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Make the case and print what it holds; 0 when it was written."""
        from rich.console import Console
        from rich.progress import Progress

        from end2reg_ros.apps.case.describe import case_document, print_case, print_faults
        from end2reg_ros.case.store import load_case

        with Progress(
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        ) as progress:
            task = progress.add_task("reading", total=None)
            created = create_case(
                self,
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
