"""The heaps of a server's threads are few."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.api.heaps import share_heaps

MANY_THREADS = """
import ctypes, sys, threading
from serving.api.heaps import share_heaps
if sys.argv[1] == "shared" and not share_heaps():
    print("unknown"), sys.exit()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.malloc_info.argtypes = [ctypes.c_size_t], [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
all_there = threading.Barrier(8)
def work():
    all_there.wait()
    libc.malloc(4_000)
    all_there.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file), libc.fclose(file)
print(open(sys.argv[2]).read().count("<heap nr"))
"""


def test_threads_of_a_server_share_two_heaps(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}

    def heaps(how: str) -> str:
        command = [sys.executable, "-c", MANY_THREADS, how, str(tmp_path / "heaps")]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    shared = heaps("shared")
    if shared == "unknown":
        pytest.skip("this C library has no heaps of threads")
    assert int(shared) <= 2 < int(heaps("own"))


def test_what_the_environment_says_of_heaps_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not share_heaps()
