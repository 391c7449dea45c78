"""``python -m end2reg_ros.simulation.anatomy --seed 0 --out DIR``: write one procedural case folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.anatomy.settings import AnatomySettings
from end2reg_ros.simulation.anatomy.spine import write_procedural_case


@dataclass(frozen=True)
class Arguments:
    """Write a procedural L1-L5 as a case folder.

    Attributes:
        out: the case folder to write.
        seed: which person; the bundled case is seed 0.
        overwrite: replace a case that is there.
        anatomy: variation and resolution.
    """

    out: Path
    seed: int = 0
    overwrite: bool = False
    anatomy: AnatomySettings = field(default_factory=AnatomySettings)


def main(arguments: Arguments) -> int:
    """Write the case; 0 on success, 1 with one line on stderr otherwise."""
    try:
        print(write_procedural_case(arguments.out, arguments.seed, arguments.anatomy, arguments.overwrite))
    except End2RegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))
