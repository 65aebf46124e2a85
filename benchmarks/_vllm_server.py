"""A real vLLM server as a child process, for the benchmark beside it and the tests against it.

It runs in a Python of its own, because vLLM pins other versions of transformers and fastapi than ours:
THUMBWISE_TEST_VLLM_PYTHON names it, else it stands in .vllm/ of this checkout, where scripts/vllm.sh puts it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
PYTHON_VARIABLE = "THUMBWISE_TEST_VLLM_PYTHON"
START_LIMIT_S = 300
_END_LIMIT_S = 30


def python_with_vllm() -> Path | None:
    """The Python that has vLLM, or None where there is none."""
    named = os.environ.get(PYTHON_VARIABLE)
    path = Path(named) if named else ROOT / ".vllm" / "bin" / "python"
    if not path.is_file():
        return None
    found = subprocess.run([path, "-c", "import importlib.util as u; exit(not u.find_spec('vllm'))"], check=False)
    return path if found.returncode == 0 else None


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def view_of(model: Path, folder: Path) -> Path:
    """A folder with the model's files whose config has rope_theta as well: vLLM reads that, transformers 5 writes it
    inside rope_parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = json.loads((model / "config.json").read_text())
    config.setdefault("rope_theta", (config.get("rope_parameters") or {}).get("rope_theta", 10000.0))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@dataclass
class VllmServer:
    """One vLLM server on a port that it keeps over restarts. `start` it, `kill` it."""

    python: Path
    model_dir: Path
    log: Path
    port: int
    dtype: str = "float32"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it is healthy. Raises RuntimeError with the end of its log."""
        command = [str(self.python), "-m", "vllm.entrypoints.cli.main", "serve", str(self.model_dir)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--served-model-name", "base"]
        command += ["--enable-lora", "--max-loras", "3", "--max-lora-rank", "8", "--max-model-len", "1024"]
        command += ["--dtype", self.dtype, "--enforce-eager", "--max-num-seqs", "16"]
        environment = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
        }
        with self.log.open("ab") as log:
            # A group of its own: vLLM's engine is a child of the server, and must go with it.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        give_up_at = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                raise RuntimeError(f"vLLM did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.2)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter under a name that completions may ask for."""
        body = {"lora_name": name, "lora_path": str(folder)}
        httpx.post(f"{self.url}/v1/load_lora_adapter", json=body, trust_env=False, timeout=60).raise_for_status()

    def kill(self) -> None:
        """kill -9, with its engine."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(_END_LIMIT_S)
            self.process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False
