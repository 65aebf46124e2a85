"""The training process as its supervisor holds it: started polite and offline, read line by line, ended for sure."""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import trainer
from trainer.events import parse_event
from trainer.job import CANCEL_FILE, LOG_FILE
from trainer.settings import TrainingSettings

logger = logging.getLogger(__name__)

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
"""The interface of processes that all run here: nobody else can reach what they exchange."""
_GRACE_S = 2.0
"""How long a process that was told to stop may finish its step before it is killed."""
_REASON_LINES = 3
_REASON_CHARACTERS = 600


class TrainingProcess:
    """One `python -m trainer.worker FOLDER`, or torchrun with several. `events` yields what it says; `end` stops it."""

    def __init__(self, folder: Path, threads: int, training: TrainingSettings | None = None) -> None:
        """`threads`: of all processes on this host. `training`: how they are started; one process where not given."""
        training = training or TrainingSettings()
        self._folder = folder
        with (folder / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *launch_arguments(training), "-m", "trainer.worker", str(folder)],
                stdin=subprocess.PIPE,  # never written to: it closes when this process dies, and the child ends with it
                stdout=subprocess.PIPE,
                stderr=log,
                env=child_environment(max(1, threads // training.processes_here), folder)
                | ({} if training.hosts > 1 else {"GLOO_SOCKET_IFNAME": _LOOPBACK}),
                start_new_session=True,  # Ctrl-C in the terminal is the supervisor's to handle
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"events-{folder.name}", daemon=True)
        self._reader.start()
        self._over = False
        logger.info("training process started pid=%d folder=%s", self._process.pid, folder.name)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def events(self, timeout_s: float) -> list[dict[str, Any]] | None:
        """Return what was said since the last call, waiting at most `timeout_s` for the first; None when it is over."""
        found: list[dict[str, Any]] = []
        with contextlib.suppress(queue.Empty):
            while not self._over:
                event = self._events.get(timeout=timeout_s) if not found else self._events.get_nowait()
                if event is None:
                    self._over = True
                else:
                    found.append(event)
        return None if self._over and not found else found

    def end(self) -> None:
        """Tell it to stop after its present step, then kill it. Returns when it is gone."""
        with contextlib.suppress(OSError):
            (self._folder / CANCEL_FILE).touch()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for its end and return its exit status; negative is the signal that killed it."""
        status = self._process.wait()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()  # ends the processes that a killed torchrun leaves: they hold standard output open
        self._reader.join()
        self._process.stdout.close()
        return status

    def why_it_died(self, status: int) -> str:
        """Put its end into words: the signal or status, and the last lines of its log."""
        if status == -signal.SIGKILL:
            how = "was killed (out of memory, or by hand)"
        elif status < 0:
            how = f"was ended by signal {-status}"
        else:
            how = f"ended with status {status}"
        last = _last_lines(self._folder / LOG_FILE)
        return f"the training process {how}" + (f": {last}" if last else "")

    def _read(self) -> None:
        stream: IO[str] | None = self._process.stdout
        assert stream is not None
        for line in stream:
            event = parse_event(line)
            if event is not None:
                self._events.put(event)
        self._events.put(None)


def launch_arguments(training: TrainingSettings) -> list[str]:
    """Python's arguments in front of `-m trainer.worker`: torchrun's, where it starts several."""
    if training.launcher != "torchrun":
        return []
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    if training.hosts > 1:
        where = ["--node-rank", "0", "--master-addr", training.master_address]
        where += ["--master-port", str(training.master_port)]
    size = ["--nnodes", str(training.hosts), "--nproc-per-node", str(training.processes_here)]
    return ["-m", "torch.distributed.run", *size, *where]


def child_environment(threads: int, folder: Path) -> dict[str, str]:
    """The environment of a training process: few threads that sleep while they wait (two spinning torch processes slow
    each other down 4-7 times), no hub, every stray file under the round's folder."""
    threads_text = str(threads)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(
            part for part in (str(Path(trainer.__file__).parent.parent), os.environ.get("PYTHONPATH", "")) if part
        ),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads_text,
        "MKL_NUM_THREADS": threads_text,
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "cache"),
        "TMPDIR": str(_scratch(folder)),
    }


def threads_for(setting: int) -> int:
    """Threads of a training process: the setting, or all cores but one."""
    if setting:
        return setting
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _scratch(folder: Path) -> Path:
    scratch = folder / "cache" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _last_lines(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return " | ".join(line.strip() for line in lines[-_REASON_LINES:])[-_REASON_CHARACTERS:]
