"""Keeping freed memory in the process, so that every step does not fault the same pages in again.

Torch on a CPU allocates and frees activations of megabytes at each layer. glibc gives such blocks back to the kernel at
once and takes them again a moment later: half of a training step's time was page faults on a virtual machine. Raising
glibc's thresholds cures it. Set through mallopt, since the environment variables are read before Python runs.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory(top_pad_bytes: int = 256 << 20) -> bool:
    """Tell glibc to serve large blocks from the heap and to keep what is freed. Returns whether it could be told.

    Costs resident memory: the process stays at its peak, `top_pad_bytes` more at most. Elsewhere than on glibc: no-op.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    told = [
        libc.mallopt(_M_MMAP_MAX, 0),
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
        libc.mallopt(_M_TOP_PAD, top_pad_bytes),
    ]
    return all(told)
