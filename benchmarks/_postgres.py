"""A throw-away PostgreSQL for a benchmark: the machine's programs, a folder of its own, a socket and no network."""

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
    """The URL of an empty database, for as long as the block lasts. Raises SystemExit without PostgreSQL's programs."""
    programs = _programs()
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
    run("pg_ctl", "-w", "-o", f"-c listen_addresses='' -k {folder} -c fsync=off", "start")
    try:
        yield f"postgresql://thumbwise@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None
