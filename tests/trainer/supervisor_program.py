"""A trainer as a program of its own, for tests that kill it: `python -m tests.trainer.supervisor_program URL DATA
SHARE`.

Its training process is made up: it seals nothing and passes every gate. It runs until no round is open.
"""

import sys
import time
from pathlib import Path
from typing import Any

from feedback_store import rounds
from feedback_store.records import ROUND_ENDED
from feedback_store.store import Store
from tests.trainer.parts import EASY_GATE, EASY_ROUNDS, QUICK_TRAINING
from trainer import round_run
from trainer.context import TrainerContext
from trainer.settings import CanarySettings
from trainer.supervisor import Supervisor

BASE_MODEL = "base-of-a-program"
REPORT = {"outcome": "pass", "summary": "every check passed", "checks": []}


class PassingProcess:
    """Says what a round says that passes."""

    def __init__(self, folder: Path, threads: int, training: Any = None) -> None:
        self._left: list[dict[str, Any]] = [
            {"event": "metric", "step": 1, "values": {"loss": 0.5}},
            {"event": "state", "state": "gating"},
            {"event": "sealed", "adapter_sha256": folder.name.rjust(64, "a"), "metrics": {}},
            {"event": "gate", "report": REPORT},
        ]

    def events(self, timeout_s: float) -> list[dict[str, Any]] | None:
        return [self._left.pop(0)] if self._left else None

    def end(self) -> None:
        self._left = []

    def wait(self) -> int:
        return 0

    def why_it_died(self, status: int) -> str:
        return f"ended with status {status}"


def context_of(store: Store, data: Path, share: float = 0.0) -> TrainerContext:
    return TrainerContext(
        store,
        data,
        data,
        BASE_MODEL,
        rounds=EASY_ROUNDS.model_copy(update={"lease_s": 1.01}),
        training=QUICK_TRAINING,
        gate=EASY_GATE,
        canary=CanarySettings(share=share),
    )


def main() -> None:
    url, data, share = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    vars(round_run)["TrainingProcess"] = PassingProcess
    with Store.open(url) as store:
        supervisor = Supervisor(context_of(store, data, share))
        supervisor.run_next()
        while any(one.state not in ROUND_ENDED for one in store.read(rounds.list_rounds)):
            supervisor.run_next()
            time.sleep(0.02)


if __name__ == "__main__":
    main()
