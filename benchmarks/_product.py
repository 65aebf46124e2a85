"""`thumbwise up` as a user starts it, over an empty data folder and the bundled model."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from thumbwise.demo.child import as_toml

_END_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Product:
    """A server that is ready, its address, and its admin's token."""

    url: str
    admin_token: str
    ready_after_s: float


@contextmanager
def running_product(
    models: Path, *options: str, settings: Mapping[str, str | int | float | bool] | None = None
) -> Iterator[Product]:
    """Start it, wait until it is ready, end it with the block. `models`: the folder that holds the bundled model;
    `settings`: what its thumbwise.toml says ("section.key" to value)."""
    with tempfile.TemporaryDirectory(prefix="thumbwise-bench-") as folder:
        data, began_at = Path(folder) / "data", time.perf_counter()
        data.mkdir()
        (data / "thumbwise.toml").write_text(as_toml(settings or {}), encoding="utf-8")
        server = subprocess.Popen(
            [sys.executable, "-m", "thumbwise", "up", "--port", "0", "--data", str(data), *options],
            env=os.environ | {"THUMBWISE_MODELS_DIR": str(models)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = _ready(data, server)
            ready_after_s = time.perf_counter() - began_at
            yield Product(url, (data / "admin.token").read_text().strip(), ready_after_s)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(_END_LIMIT_S)


def _ready(data: Path, server: subprocess.Popen[bytes]) -> str:
    while server.poll() is None:
        try:
            url: str = json.loads((data / "server.json").read_text())["url"]
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return url
        except (OSError, ValueError, httpx.TransportError):
            pass
        time.sleep(0.05)
    raise SystemExit("the server ended before it was ready")
