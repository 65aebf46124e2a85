"""A server on a disk that is really full, again and again: a small tmpfs of our own, where this machine lets us mount.

The file system is mounted in a mount namespace of its own (`unshare -m`), which the server and whoever fills it share
and nobody else sees; it is gone with them. A file takes all room but some pages, until a vote is refused with ENOSPC,
and goes again.
"""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks._full_disk import BEYOND_BYTES, FullDiskReport, run_full_disk
from benchmarks._vote_check import VoteCheck

SIZE_MIB = 64
"""Room for the votes of some hundred points and a write-ahead log."""
MOUNT = f'mount -t tmpfs -o size={SIZE_MIB}m,mode=700 tmpfs "$0" && exec "$@"'
ROOT = Path(__file__).parent.parent


class Ballast:
    """A file that takes what room there is, but for some bytes drawn anew each time."""

    def __init__(self, disk: Path) -> None:
        self._disk, self._file = disk, disk / "ballast"

    def fill(self, process: int, data: Path, dice: random.Random) -> None:
        """Leave the server a few pages: it writes on meanwhile, so that what is free is looked up until it fits."""
        left = dice.randint(0, BEYOND_BYTES)
        while True:
            found = os.statvfs(self._disk)
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, max(1, found.f_bavail * found.f_frsize - left))
                return
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                self._file.unlink()
            finally:
                os.close(descriptor)

    def free(self, process: int) -> None:
        """Make room."""
        self._file.unlink()


def may_mount(folder: Path) -> bool:
    """Whether this machine lets us mount a file system of our own."""
    return shutil.which("unshare") is not None and _on_a_small_disk(folder, "true").returncode == 0


def run_small_disk(folder: Path, points: int, seed: int) -> FullDiskReport:
    """Serve from a file system of our own at `folder`, fill it `points` times and count. Raises RuntimeError."""
    done = _on_a_small_disk(folder, sys.executable, "-m", "benchmarks._small_disk", str(folder), str(points), str(seed))
    if done.returncode != 0:
        raise RuntimeError(f"the small disk's run ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return FullDiskReport(**{**found, "votes": VoteCheck(**found["votes"])})


def _on_a_small_disk(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    whole = ["unshare", "-m", "sh", "-c", MOUNT, str(folder), *command]
    return subprocess.run(whole, capture_output=True, text=True, check=False, cwd=ROOT)


def main() -> None:
    """The run itself, inside."""
    disk, points, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(asdict(run_full_disk(disk / "store", points, seed, Ballast(disk)))))


if __name__ == "__main__":
    main()
