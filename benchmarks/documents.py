"""What stands above the figures of every run of the node: command, case, settings, machine; and its file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.host import command, machine, versions

PLACES = ("case", "work", "out")  # options that name folders of somebody's machine


def made_with(case: Case, options: Any) -> dict[str, Any]:
    """For the top of a document, before anything is run; ``options``: a dataclass."""
    return {
        "command": command(),
        "case": {"name": case.name, "hash": case.hash},
        "settings": {name: value for name, value in asdict(options).items() if name not in PLACES},
        "machine": machine(),
        "load_average_before": os.getloadavg()[0],
        "versions": versions(),
    }


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """As JSON, the folder made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
