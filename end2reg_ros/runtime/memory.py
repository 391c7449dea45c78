"""Keeps freed memory in the process: a stream of big clouds otherwise spends its time on page faults. Free of ROS.

What setting up took and gave back is another matter: the stream needs less, so it goes back once, before the warm-up.
"""

from __future__ import annotations

import ctypes

# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Larger than any cloud; older releases of glibc refuse more than 32 MiB.
_THRESHOLDS = (1 << 30, 1 << 25)


def keep_freed_memory() -> bool:
    """Let malloc reuse big blocks instead of returning them to the kernel; whether the C library could be told.

    A 1280x720 cloud of 20 bytes a point has 18 MB. Every copy of it that is taken fresh from the kernel costs 4500 page
    faults, of which there are several on its way through the middleware: on two cores that alone drops clouds at 30 Hz.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    told = [mallopt(_M_ARENA_MAX, 1), mallopt(_M_TRIM_THRESHOLD, _THRESHOLDS[0])]
    told.append(any(mallopt(_M_MMAP_THRESHOLD, value) for value in _THRESHOLDS))
    return all(told)


def give_back_freed_memory() -> bool:
    """Return to the kernel what was freed so far, in spite of ``keep_freed_memory``; whether the C library has a call for it.

    Once, after setting up and before the warm-up: a case whose surface is not in the cache leaves 100 MB and more.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    trim(ctypes.c_size_t(0))
    return True
