"""Names of vertebral levels: their order from cranial to caudal, their colours, and how file names give them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from end2reg_ros.errors import CaseError

#: Cranial to caudal. T13 and L6 are the transitional vertebrae that the VerSe labels know.
LEVEL_ORDER: tuple[str, ...] = (
    *(f"C{i}" for i in range(1, 8)),
    *(f"T{i}" for i in range(1, 14)),
    *(f"L{i}" for i in range(1, 7)),
    "S1",
)

# Told apart side by side, also by people with red-green blindness (Okabe & Ito 2008, lightened to look like bone).
_PALETTE: tuple[tuple[int, int, int], ...] = (
    (232, 178, 92),
    (120, 190, 226),
    (106, 190, 158),
    (240, 222, 110),
    (222, 134, 96),
    (206, 150, 190),
    (126, 158, 208),
)

_LEVEL_IN_NAME = re.compile(r"(?<![A-Za-z0-9])([CTLS]\d{1,2})(?![A-Za-z0-9])", re.IGNORECASE)


def level_rank(level: str) -> int | None:
    """Place of a level from cranial (0) to caudal; None for a name that anatomy does not know."""
    return LEVEL_ORDER.index(level) if level in LEVEL_ORDER else None


def default_colour(level: str, index: int = 0) -> tuple[int, int, int]:
    """Red, green, blue (0-255) of a level: always the same for the same anatomical level, else by ``index``."""
    rank = level_rank(level)
    offset = LEVEL_ORDER.index("L1")
    return _PALETTE[(index if rank is None else rank - offset) % len(_PALETTE)]


def level_of_file(path: Path) -> str | None:
    """The level that a file name speaks of (``L3.stl``, ``vertebrae_L3.ply``), or None."""
    found = {match.upper() for match in _LEVEL_IN_NAME.findall(path.stem.replace("_", " "))}
    known = [level for level in found if level in LEVEL_ORDER]
    return known[0] if len(known) == 1 else None


def sort_levels(levels: Iterable[str]) -> list[str]:
    """Levels from cranial to caudal.

    Raises:
        CaseError: a name that is no vertebral level.
    """
    names = list(levels)
    for name in names:
        if name not in LEVEL_ORDER:
            raise CaseError(f"{name}: not a vertebral level (C1-C7, T1-T13, L1-L6, S1)")
    return sorted(names, key=LEVEL_ORDER.index)
