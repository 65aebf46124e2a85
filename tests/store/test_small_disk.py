"""A disk that is really full: a tmpfs of 3 MB in a mount namespace of its own, where this machine allows one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = "mount -t tmpfs -o size=3m,mode=700 tmpfs"
ROOT = Path(__file__).parents[2]


def on_a_small_disk(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that finds a file system of 3 MB at `folder`, which nobody else sees."""
    script = f'{SMALL} "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(folder), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        timeout=60,
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    if shutil.which("unshare") is None or on_a_small_disk(tmp_path, "true").returncode != 0:
        pytest.skip("this machine lets us mount nothing (a limit on the size of files stands in: test_disk_full.py)")
    return tmp_path


@pytest.mark.sqlite("a PostgreSQL of its own on 3 MB is none")
@pytest.mark.parametrize("ballast_bytes", [1_000_000, 1_150_001, 1_300_007])
def test_a_small_disk_that_is_full_refuses_a_vote_and_takes_it_once_there_is_room(
    small_disk: Path, ballast_bytes: int
) -> None:
    program = str(Path(__file__).with_name("small_disk.py"))
    done = on_a_small_disk(small_disk, sys.executable, program, str(small_disk), str(ballast_bytes))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["said"] == "the disk of the database is full; nothing was stored, make room and try again"
    assert found["stored"] == found["counted"] > 0 and found["red"]
    assert found["back_s"] < 5
    assert found["again"] is False and found["known"] is True
