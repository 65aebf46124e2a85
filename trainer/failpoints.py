"""Places at which a round can be made to die, so that tests and benchmarks can show that it survives.

The environment variable THUMBWISE_TEST_FAILPOINT names one:  NAME[:TURN][=ACTION][@FILE]

    NAME     one of POINTS, in the order in which a round meets them
    TURN     fires the TURN-th time that the place is reached in this process; 1 without it
    ACTION   kill        SIGKILL to this process (the default)
             kill_both   first to the process that started it (a training process's supervisor), then to itself
             stop        SIGSTOP to this process: it sleeps until somebody sends SIGCONT
             disk, memory, nan    raise what a full disk, a full memory, a diverged run raise
    FILE     made when it fires; while it exists nothing fires: so that the round that goes on does not die again

Without the variable a place costs one look at the environment.
"""

import errno
import os
import re
import signal
from collections import Counter
from pathlib import Path

VARIABLE = "THUMBWISE_TEST_FAILPOINT"
POINTS = ("claim", "select", "train", "save", "gate", "publish", "canary", "promote")
ACTIONS = ("kill", "kill_both", "stop", "disk", "memory", "nan")
_FORM = re.compile(r"(?P<name>\w+)(?::(?P<turn>\d+))?(?:=(?P<action>\w+))?(?:@(?P<file>.+))?")

_reached: Counter[str] = Counter()


def reach(name: str) -> None:
    """Say that the place `name` is reached; nothing happens unless the environment says so."""
    wish = os.environ.get(VARIABLE)
    if wish is None:
        return
    found = _FORM.fullmatch(wish)
    if found is None or found["name"] not in POINTS or (found["action"] or "kill") not in ACTIONS:
        raise ValueError(
            f"{VARIABLE} is {wish!r}; wanted: NAME[:TURN][=ACTION][@FILE] with NAME of {', '.join(POINTS)} and ACTION "
            f"of {', '.join(ACTIONS)}"
        )
    if found["name"] != name:
        return
    _reached[name] += 1
    if _reached[name] != int(found["turn"] or 1):
        return
    if found["file"]:
        try:
            Path(found["file"]).touch(exist_ok=False)
        except FileExistsError:
            return
    _act(found["action"] or "kill")


def _act(action: str) -> None:
    if action == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if action == "memory":
        raise MemoryError
    if action == "nan":
        raise FloatingPointError("training diverged: loss is not finite (failpoint)")
    if action == "kill_both":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGSTOP if action == "stop" else signal.SIGKILL)
