"""Work beside the engine that must not be felt by those who read a reply: building the weights of the next version."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import torch

Made = TypeVar("Made")

_NICENESS = 15
_turn = threading.Lock()


def in_background(work: Callable[[], Made]) -> Made:
    """Do `work` in a thread of low priority, with one torch thread, and return what it made or raise what it
    raised. Blocks; one work at a time.

    Priority: on Linux a thread has a niceness of its own, and within one process it counts. A fresh thread, since it
    could not be raised again. The number of torch threads is set for the process and put back at the end; an engine
    that computes meanwhile keeps its own, which OpenMP holds a thread.
    """
    made: list[Made] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        except (OSError, AttributeError):
            pass  # not on this system: it is only slower for the others
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            made.append(work())
        except BaseException as error:  # passed on below, in the thread that asked
            errors.append(error)
        finally:
            torch.set_num_threads(threads)

    with _turn:
        thread = threading.Thread(target=run, name="background")
        thread.start()
        thread.join()
    if errors:
        raise errors[0]
    return made[0]
