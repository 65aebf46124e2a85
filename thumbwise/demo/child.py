"""A real `thumbwise up` of the demo's own: another process, a free port, a data folder of its own.

The demo finds it as every command does: the address in DATA/server.json, the token in DATA/admin.token.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from thumbwise.client import Thumbwise, ThumbwiseError

START_TIMEOUT_S = 600.0
"""The first start on a machine fetches and converts the bundled model."""
STOP_TIMEOUT_S = 60.0
NOT_INHERITED = ("DATA", "CONFIG", "URL", "ADMIN_TOKEN", "RATER_KEY", "STORE_URL")
"""Variables that would point the demo's server at somebody's real data."""


class DemoFailed(RuntimeError):
    """The demo could not go on; the message says what happened and where to look."""


class Server:
    """The child, from its start to its end. Use it in a with statement."""

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str | int | float | bool],
        *,
        models_dir: Path | None = None,
        threads: int | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._settings, self._models_dir, self._threads = settings, models_dir, threads
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.url = ""
        self.token = ""

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready. Raises DemoFailed."""
        if (self.data_dir / "thumbwise.db").exists():
            raise DemoFailed(f"{self.data_dir} holds a store already; the demo wants an empty folder (--data)")
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.data_dir / "logs").mkdir(exist_ok=True, mode=0o700)
        self._make_token()
        (self.data_dir / "thumbwise.toml").write_text(as_toml(self._settings), encoding="utf-8")
        command = [sys.executable, "-m", "thumbwise", "up", "--port", "0", "--data", str(self.data_dir)]
        if self._threads is not None:
            command += ["--threads", str(self._threads)]
        self._log = (self.data_dir / "logs" / "up.txt").open("wb")
        self._process = subprocess.Popen(
            command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raise DemoFailed when the server has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            tail = (self.data_dir / "logs" / "up.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
            raise DemoFailed(f"the server ended with status {self._process.returncode}:\n{tail}")

    def stop(self) -> None:
        """End the server as a person would, and by force only if it does not heed."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._log is not None:
            self._log.close()

    def _make_token(self) -> None:
        """Make the admin's token: a server that has to make one shows it on its terminal, which is a log here."""
        try:
            descriptor = os.open(self.data_dir / "admin.token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")

    def _environment(self) -> dict[str, str]:
        stripped = {f"THUMBWISE_{name}{suffix}" for name in NOT_INHERITED for suffix in ("", "_FILE")}
        environment = {name: value for name, value in os.environ.items() if name not in stripped}
        if self._models_dir is not None:
            environment["THUMBWISE_MODELS_DIR"] = str(self._models_dir)
        return environment

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            try:
                self.url = json.loads((self.data_dir / "server.json").read_text(encoding="utf-8"))["url"]
                self.token = (self.data_dir / "admin.token").read_text(encoding="utf-8").strip()
                with Thumbwise(self.url, self.token) as client:
                    client.ready()
                return
            except (OSError, ThumbwiseError):  # not there yet, or not ready yet
                time.sleep(0.2)
        raise DemoFailed(f"the server was not ready within {START_TIMEOUT_S:.0f} s; see {self.data_dir / 'logs'}")


def as_toml(settings: Mapping[str, str | int | float | bool]) -> str:
    """Write "section.key" values as a settings file. JSON's forms of text, numbers and booleans are TOML's too."""
    sections: dict[str, list[str]] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {json.dumps(value)}")
    return "\n".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items())
