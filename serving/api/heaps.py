"""The C library's heaps: few, and what lies free in them given back to the system.

A figure of the dashboard or of readiness reads tens of thousands of rows, in whichever thread is free, and lets go of
them. glibc makes a heap for nearly every thread, and keeps in each what was once needed there: a server that nobody
asks anything new seemed to leak for as long as its store grew. Another C library has nothing of this to set.
"""

import asyncio
import ctypes
import os
from typing import Any

from starlette.concurrency import run_in_threadpool

HEAPS = 2
GIVE_BACK_EVERY_S = 60.0
_M_ARENA_MAX = -8  # malloc.h


def share_heaps(most: int = HEAPS) -> bool:
    """Let the threads of this process share `most` heaps; return whether the C library was told. `MALLOC_ARENA_MAX` in
    the environment goes before."""
    mallopt = None if "MALLOC_ARENA_MAX" in os.environ else _of_libc("mallopt")
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, most))


def give_back() -> bool:
    """Give the pages that lie free in the heaps back to the system; return whether there were any. Takes about a
    millisecond for each hundred MiB."""
    trim = _of_libc("malloc_trim")
    return trim is not None and bool(trim(0))


async def give_back_now_and_then(every_s: float = GIVE_BACK_EVERY_S) -> None:
    """Do so until cancelled, beside the event loop."""
    while True:
        await asyncio.sleep(every_s)
        await run_in_threadpool(give_back)


def _of_libc(name: str) -> Any:
    """A function of the C library that this process runs on; None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # a system without a library of the process itself
        return None
