"""What the process of one measured method runs: set up as the node's is, before anything large is imported."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path

from end2reg_ros.runtime.memory import keep_freed_memory


def work(pipe: Connection, cores: int, log: Path) -> None:
    """Serve until the other end of the pipe is closed; all that is printed goes into ``log``."""
    prepare(cores, log)
    from end2reg_ros.apps.bench.process import serve

    with pipe:
        serve(pipe)


def prepare(cores: int, log: Path) -> None:
    """Limit this process to so many cores, and send its output into a file."""
    with log.open("wb") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in the node
    limit_cores(cores)
    keep_freed_memory()


def limit_cores(count: int) -> None:
    """Let this process run on so many cores only; before anything is imported that counts them."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if count < len(allowed):
            os.sched_setaffinity(0, allowed[-count:])
