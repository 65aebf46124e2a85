"""The C library's heaps: few for all threads of a server.

A figure of the dashboard or of readiness reads tens of thousands of rows, in whichever thread is free, and lets go of
them. glibc makes a heap for nearly every thread and keeps in each what was once needed there: after five minutes of a
thousand people 42 MiB lay free in sixteen heaps (docs/log.md). Another C library has nothing of this to set.
"""

import ctypes
import os

HEAPS = 2
_M_ARENA_MAX = -8  # malloc.h


def share_heaps(most: int = HEAPS) -> bool:
    """Let the threads of this process share `most` heaps; return whether the C library was told. `MALLOC_ARENA_MAX` in
    the environment goes before."""
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError: none of the process itself
        return False
    return bool(mallopt(_M_ARENA_MAX, most))
