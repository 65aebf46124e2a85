"""How many cores each part computes with. Must run before torch is imported anywhere in the process.

Two torch processes with as many threads as cores each, on the same cores, run 4 to 7 times slower: OpenMP's threads
spin while they wait. So they wait passively, and while a round trains, server and trainer share the cores out.
"""

import os


def quiet_openmp() -> None:
    """Make OpenMP's threads sleep while they wait, unless the environment says otherwise."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def cores() -> int:
    """Cores that this process may use (its affinity, where the system tells it)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def engine_threads(setting: int, *, training: bool) -> int:
    """Torch threads of the engine: `setting`, or for 0 all cores when alone and one fewer while a round trains."""
    if setting:
        return setting
    return max(1, cores() - 1) if training else cores()
