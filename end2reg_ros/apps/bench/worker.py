"""The process of one measured method: ``python -m end2reg_ros.apps.bench.worker PIPE CORES``. Set up as the node's is."""

from __future__ import annotations

import os
import sys

from end2reg_ros.runtime.memory import keep_freed_memory


def limit_cores(count: int) -> None:
    """Let this process run on so many cores only; before anything is imported that counts them."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if count < len(allowed):
            os.sched_setaffinity(0, allowed[-count:])


def main() -> None:
    """Serve until the other end of the pipe is closed."""
    descriptor, cores = int(sys.argv[1]), int(sys.argv[2])
    limit_cores(cores)
    keep_freed_memory()
    from end2reg_ros.apps.bench.process import serve

    serve(descriptor)


if __name__ == "__main__":
    main()
