"""What the commands ``python -m end2reg_ros.training...`` share."""

from __future__ import annotations

import sys
from typing import Protocol

import tyro

from end2reg_ros.errors import End2RegError


class Command(Protocol):
    """A dataclass of options that ``tyro`` can read."""

    def execute(self) -> str:
        """Do it; returns the line to print at the end, or nothing."""


def run_command(command: Command) -> int:
    """Run a command; 0 on success, 1 with one line on stderr for an error the user can act on."""
    try:
        said = command.execute()
    except End2RegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if said:
        print(said)
    return 0


def main(kind: type[Command]) -> None:
    """Read the command from the process's arguments, run it and end with its exit code."""
    sys.exit(run_command(tyro.cli(kind)))
