"""Who may work in a round's folder: one training process at a time, and only of the claim that holds the round.

The store's fence keeps a late loser from writing rows; these three keep it from writing files:

- Each claim selects into a folder of its own (`rounds/7.3` for fence 3), which takes the round's name in one rename.
- The training process holds a lock on `run.lock` and writes its process id into it. The operating system lets the lock
  go with the process, however that ends.
- Whoever takes a round over ends the process that a stopped or hung supervisor left behind (`end_leftover`).
"""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

RUN_LOCK = "run.lock"
_LEFTOVER_S = 10.0
"""How long a killed process may take to let its lock go: the kernel frees its memory first."""


class FolderBusy(Exception):
    """Another training process works in the folder, and it cannot be ended from here."""


def scratch_folder(folder: Path, fence: int) -> Path:
    """Return where the claim `fence` writes before the folder is complete."""
    return folder.with_name(f"{folder.name}.{fence}")


def take_its_name(scratch: Path, folder: Path) -> None:
    """Put a complete folder in the round's place."""
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)


def remove_scratch(folder: Path) -> None:
    """Remove what claims that died while selecting left beside the round's folder."""
    for left in folder.parent.glob(f"{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises FolderBusy when another one does."""
    descriptor = os.open(folder / RUN_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusy(f"another training process works in {folder.name}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def end_leftover(folder: Path) -> None:
    """End the training process of a former claim. Raises FolderBusy when it goes on, which is no harm: the caller
    leaves the round, and comes back to it when its lease has run out."""
    until = time.monotonic() + _LEFTOVER_S
    while _is_held(folder):
        if (pid := _training_pid(folder)) is not None:
            logger.warning("leftover training process killed pid=%d folder=%s", pid, folder.name)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise FolderBusy(f"another training process works in {folder.name} and does not end")
        time.sleep(0.05)


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / RUN_LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _training_pid(folder: Path) -> int | None:
    """The holder's id, if it is a training process of this very folder here (in another container it is not)."""
    try:
        pid = int((folder / RUN_LOCK).read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"trainer.worker" in command and os.fsencode(folder) in command else None
