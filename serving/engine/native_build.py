"""Building the optional C++ kernels on the machine that runs them.

A plain C interface, a few seconds of the C++ compiler at the first start; the library is kept by the hash of
everything that it depends on. Without a compiler, with one that fails, or where `policy.kernels` says "torch", the
engine computes the same in torch. The library links the OpenMP that torch has loaded already: a second one would bring
a second set of threads, spinning beside the first.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).parent / "llama_step.cpp"
_HEADER = Path(__file__).parent / "llama_products.h"
_ABI = 3
# No -ffast-math: linking with it lets the library switch the whole process to flushing small numbers to zero.
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-w"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
_COMPILE_TIMEOUT_S = 120


@functools.cache
def load_kernels() -> ctypes.CDLL | None:
    """Return the compiled kernels, building them when no earlier start did; None where that is not possible."""
    import torch  # noqa: F401 - its OpenMP must be loaded before ours asks for one

    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None or platform.system() != "Linux":
        logger.info("no C++ compiler: decoding runs on torch operators alone, which is slower")
        return None
    try:
        library = ctypes.CDLL(str(_built(compiler)))
        if library.thumbwise_abi() != _ABI:
            raise OSError("the library speaks another interface")
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("the C++ kernels could not be built (%s): decoding runs on torch operators alone", error)
        return None
    library.thumbwise_scratch_bytes.restype = ctypes.c_int64
    return library


def _built(compiler: str) -> Path:
    """Path of the library, compiled unless it is there."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=_COMPILE_TIMEOUT_S)
    source = _SOURCE.read_bytes() + _HEADER.read_bytes()
    digest = hashlib.sha256(source + version.stdout + " ".join(_FLAGS).encode() + _processor())
    folder = _folder()
    library = folder / f"llama_step-{digest.hexdigest()[:24]}.so"
    if library.is_file():
        return library
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / library.name
        command = [compiler, *_FLAGS, "-o", str(made), str(_SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMPILE_TIMEOUT_S)
        if done.returncode != 0:
            raise OSError(f"{compiler} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        made.replace(library)  # whole or not at all, whoever else is building it
    return library


def _folder() -> Path:
    """A folder that this user alone writes: code is loaded from it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbwise" / "kernels"
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = cache.stat()
        if state.st_uid == os.getuid() and not state.st_mode & 0o022 and os.access(cache, os.W_OK):
            return cache
    except OSError:
        pass  # a read-only home, as in many containers
    return Path(tempfile.mkdtemp(prefix="thumbwise-kernels-"))


def _processor() -> bytes:
    """What -march=native depends on: a home shared between machines must not share the library."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor().encode()
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)})).encode()
