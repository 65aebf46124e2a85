"""A trainer as a program of its own, to be killed: `python -m benchmarks._round_program --url URL --data DIR …`.

With `--until-ended` it runs rounds until none is open and ends. Without, it runs the clock and the rounds as
`thumbwise train` does, until it is killed; `--clock FILE` makes it read the time from a file that others write.
With `--model DIR` a round trains for real on that model, without it in a made-up process that passes every gate.
"""

import argparse
import signal
import threading
import time
from datetime import datetime
from pathlib import Path

from feedback_store import rounds
from feedback_store.records import ROUND_ENDED
from feedback_store.store import Store
from serving.engine.base_model import fingerprint
from tests.trainer.parts import EASY_GATE, EASY_ROUNDS, QUICK_TRAINING
from tests.trainer.supervisor_program import BASE_MODEL, PassingProcess
from trainer import round_run, schedule
from trainer.context import TrainerContext
from trainer.schedule import RoundClock
from trainer.settings import CanarySettings
from trainer.supervisor import Supervisor

LEASE_S = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--canary-share", type=float, default=0.0)
    parser.add_argument("--clock", type=Path)
    parser.add_argument("--until-ended", action="store_true")
    arguments = parser.parse_args()
    if arguments.model is None:
        vars(round_run)["TrainingProcess"] = PassingProcess
    with Store.open(arguments.url) as store:
        context = TrainerContext(
            store,
            arguments.data,
            arguments.model or arguments.data,
            fingerprint(arguments.model) if arguments.model else BASE_MODEL,
            rounds=EASY_ROUNDS.model_copy(
                update={
                    "lease_s": LEASE_S,
                    "schedule": "* * * * *",
                    "timezone": "UTC",
                    "auto_promote": arguments.clock is None,
                }
            ),
            training=QUICK_TRAINING,
            gate=EASY_GATE,
            canary=CanarySettings(share=arguments.canary_share),
        )
        if arguments.until_ended:
            _until_ended(Supervisor(context), store)
        else:
            _for_ever(context, arguments.clock)


def _until_ended(supervisor: Supervisor, store: Store) -> None:
    supervisor.run_next()
    while any(one.state not in ROUND_ENDED for one in store.read(rounds.list_rounds)):
        supervisor.run_next()
        time.sleep(0.02)


def _for_ever(context: TrainerContext, clock: Path) -> None:
    schedule._LOOK_EVERY_S = 0.05  # the driver's minutes are shorter than ours
    supervisor = Supervisor(context)
    hands = RoundClock(context, supervisor.wake, lambda: datetime.fromisoformat(clock.read_text().strip()))
    hands.start()
    supervisor.start()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    hands.close()
    supervisor.close()


stop = threading.Event()

if __name__ == "__main__":
    main()
