"""The heaps of a server's threads: few, and emptied."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.api import heaps as heaps_of_server
from serving.api.heaps import give_back_now_and_then, share_heaps
from tests.waiting import until_async

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


HOLES = """
import ctypes
from serving.api.heaps import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def mib():
    return int(next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Rss")).split()[1]) / 1024
before, blocks = mib(), [libc.malloc(8_000) for _ in range(10_000)]
for block in blocks:
    ctypes.memset(block, 1, 8_000)
for block in blocks[:-1]:  # the last one stands above the others
    libc.free(block)
held = mib()
print(give_back(), held - before, mib() - before)
"""


def test_what_lies_free_below_something_kept_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], check=True, capture_output=True, text=True)
    gave, held, left = done.stdout.split()
    if gave == "False":
        pytest.skip("this C library gives nothing back by itself")
    assert float(held) > 60 and float(left) < 15


def test_a_server_gives_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[int] = []
    monkeypatch.setattr(heaps_of_server, "give_back", lambda: times.append(1))

    async def story() -> None:
        giving = asyncio.create_task(give_back_now_and_then(0.01))
        await until_async(lambda: len(times) >= 3, "three times")
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
        assert giving.cancelled()

    asyncio.run(story())
