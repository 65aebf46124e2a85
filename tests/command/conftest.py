"""A real `thumbwise up` over a tiny random model, shared by the tests that speak to a running server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.databases import Choice, url_of


@dataclass(frozen=True)
class Running:
    """A server under way: its data folder and address, and what it printed while it started."""

    data_dir: Path
    url: str
    process: subprocess.Popen[bytes]
    printed: Path


def start_server(data_dir: Path, model_dir: Path, *more: str) -> Running:
    """Start `thumbwise up` on a free port and wait until it is ready."""
    data_dir.mkdir(parents=True, exist_ok=True)
    printed = data_dir / "printed.txt"
    command = [sys.executable, "-m", "thumbwise", "up", "--port", "0", "--threads", "1", "--data", str(data_dir)]
    command += ["--base-model", str(model_dir), *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THUMBWISE_")}
    if Choice.postgres:
        environment["THUMBWISE_STORE_URL"] = url_of(data_dir)
    with printed.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        try:
            url = json.loads((data_dir / "server.json").read_text())["url"]
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return Running(data_dir, url, process, printed)
        except (OSError, httpx.TransportError):
            pass
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the server did not start:\n{printed.read_text()}")


def stop_server(running: Running) -> int:
    """End it as an operator would, and return its exit status."""
    running.process.send_signal(signal.SIGTERM)
    return running.process.wait(60)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Iterator[Running]:
    server = start_server(tmp_path_factory.mktemp("up") / "data", tiny_model_dir)
    yield server
    if server.process.poll() is None:
        assert stop_server(server) == 0
