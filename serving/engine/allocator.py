"""Keeping freed memory in the process, so that every step does not fault the same pages in again.

Torch on a CPU allocates and frees activations of megabytes at each layer. glibc gives such blocks back to the kernel at
once and takes them again a moment later: half of a training step's time was page faults on a virtual machine. Raising
glibc's thresholds cures it. Set through mallopt, since the environment variables are read before Python runs.

Blocks above 32 MB (logits, whole weights) are still mapped and returned one by one. Keeping those on the heap as well
was tried: shapes differ from batch to batch, the heap became full of holes, and a round grew to 14 GB.

One heap for all threads: with glibc's own eight a core, weights that one thread frees are not found by the thread that
builds the next version, and a server grew by 100 MB in 150 swaps.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # malloc.h
_LARGEST_KEPT_BYTES = 32 << 20  # the most that glibc takes as M_MMAP_THRESHOLD on 64 bits
_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Tell glibc to serve blocks up to 32 MB from the heap and to keep what is freed. Returns whether it could be told.

    Costs resident memory: the heap stays at its peak until `give_back_freed_memory`. Elsewhere than on glibc: no-op.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    told = [
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
        libc.mallopt(_M_TOP_PAD, _TOP_PAD_BYTES),
        libc.mallopt(_M_ARENA_MAX, 1),
    ]
    return all(told)


def give_back_freed_memory() -> bool:
    """Tell glibc to return every freed page to the kernel now, for where one stage of a process ends and another, of
    other shapes, begins. Returns whether anything was returned. Elsewhere than on glibc: no-op."""
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(0))
