"""The server of words as a process of its own, to be measured from outside or killed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._vote_client import Connection

END_TIMEOUT_S = 30


class ServerProcess:
    """A server over the store in `data`, listening on `port` once this is made. Raises RuntimeError if it fails."""

    def __init__(self, data: Path, *options: str, module: str = "benchmarks._word_server") -> None:
        command = [sys.executable, "-m", module, "--data", str(data), *options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent, stdin=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with {self._process.wait()} before it listened")
        told = json.loads(line)
        self.port: int = told["port"]
        self.cookie: str = told.get("cookie", "")

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def kill(self) -> None:
        """kill -9: no handler runs, nothing is flushed."""
        self._process.kill()
        self._close()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._process.terminate()
        self._close()

    def _close(self) -> None:
        self._process.wait(timeout=END_TIMEOUT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def running_server(data: Path, *options: str, module: str = "benchmarks._word_server") -> Iterator[ServerProcess]:
    """A server for as long as the block lasts."""
    server = ServerProcess(data, *options, module=module)
    try:
        yield server
    finally:
        server.stop()


async def some_replies(port: int, count: int) -> list[str]:
    """Chat `count` times and return the receipts to vote on."""
    connection = await Connection.open(port)
    try:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        return [(await connection.post("/v1/chat/completions", body))["id"] for _ in range(count)]
    finally:
        await connection.close()
