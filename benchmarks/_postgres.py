"""A throw-away PostgreSQL, for benchmarks and tests: a folder of its own, a socket and no network."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of its databases, for as long as the block lasts: `.format(database="postgres")` is an empty one.

    Raises SystemExit without PostgreSQL's programs.
    """
    programs = postgres_programs()
    if programs is None:
        raise SystemExit("no PostgreSQL server's programs on this machine; scripts/postgres.sh installs Debian's")
    # Short: a socket's path has at most 107 bytes. The server refuses to run as root, so another user must get in.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        with (folder / "output").open("ab") as output:  # not a pipe: the server would inherit it and keep it open
            command = [str(programs / program), "-D", str(data), *arguments]
            environment = {"PATH": os.defpath, "LC_ALL": "C"}
            subprocess.run(command, check=True, cwd=folder, env=environment, stdout=output, stderr=output, **user)

    run("initdb", "-U", "thumbwise", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses='' -k {folder} -c fsync=off -c autovacuum=off -c max_connections=60"
    run("pg_ctl", "-w", "-o", options, "start")
    try:
        yield f"postgresql://thumbwise@/{{database}}?host={folder}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def postgres_programs() -> Path | None:
    """The newest folder with a PostgreSQL server, Debian's or the one on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None
