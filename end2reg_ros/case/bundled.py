"""The case that comes with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from end2reg_ros.errors import CaseError


def bundled_case_path() -> Path:
    """Folder of the demo case: a synthetic L1-L5 without foreign data.

    Raises:
        CaseError: the package was installed without its data.
    """
    path = Path(str(files("end2reg_ros"))) / "data" / "demo_case"
    if not (path / "case.yaml").is_file():
        raise CaseError(f"{path}: the bundled case is missing; install end2reg_ros with its data")
    return path
