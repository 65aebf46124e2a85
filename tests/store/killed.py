"""A program beside the tests that is killed with SIGKILL in the middle of its work."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def said_until_killed(program: str, *arguments: str, lines: int) -> list[list[str]]:
    """Start a program of this folder, kill it after that many lines, and return the words of its whole lines."""
    command = [sys.executable, str(HERE / program), *arguments]
    root = HERE.parents[1]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={"PYTHONPATH": str(root)}
    ) as process:
        assert process.stdout is not None
        read = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        read.extend(process.stdout)
    return [line.split() for line in read if line.endswith("\n")]
