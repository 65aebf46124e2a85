"""Rounds that survive: one round for each due time, and none stuck or half-published after kill -9 at every step.

Due times: two trainers (clock and rounds each) over one PostgreSQL. A minute is due after another while the driver
kills trainers, stops them for longer than their lease and lets them go on, and sets the clock back (to a time that is
over) and forth (to a due time still to come, whose round is then asked for early and must not be asked for again).

Kills: a round on SQLite dies at each named step (trainer/failpoints.py); the next trainer must end it. The steps of the
training process train a tiny random model for real and die with and without their supervisor.

Ends with 1 when a promise is broken. `--keep DIR` keeps what each case found, so that an interrupted run goes on.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks._postgres import running_postgres
from benchmarks._round_program import LEASE_S
from benchmarks.report import Row, report
from feedback_store import dues, rounds, versions
from feedback_store.records import ROUND_ENDED
from feedback_store.store import Store
from serving.adapters import check_adapter
from serving.engine.base_model import fingerprint
from tests.conftest import build_tiny_model
from tests.trainer.parts import fill_with_feedback
from tests.trainer.supervisor_program import BASE_MODEL
from trainer.failpoints import POINTS, VARIABLE

FIRST = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
IN_TRAINING_PROCESS = ("train", "save", "gate")
TRAINING_STEPS = 5
PATIENCE_S = 600.0
END_S = 900
AGAIN_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--due", type=int, default=50, help="due times; 0: none")
    parser.add_argument("--times", type=int, default=20, help="kills at each step; 0: none")
    parser.add_argument("--points", default=",".join(POINTS), help="steps to die at, or nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    seed, times = arguments.seed, arguments.times
    points = [point for point in arguments.points.split(",") if point and times]
    with tempfile.TemporaryDirectory(prefix="bench-rounds-") as name:
        folder, keep = Path(name), arguments.keep or Path(name) / "kept"
        keep.mkdir(parents=True, exist_ok=True)
        model = folder / "model"
        model.mkdir()
        build_tiny_model(model)
        rows: list[Row] = []
        broken: list[str] = []
        cases = {f"due {arguments.due}": (arguments.due, partial(due_times, folder / "due", arguments.due))}
        cases = cases if arguments.due else {}
        cases |= {f"{point} {times}": (times, partial(kills, folder, model, point, times)) for point in points}
        for case, (wanted, make) in cases.items():
            found = kept(keep / f"{case} seed {seed}.json", partial(make, random.Random(f"{seed} {case}")))
            rows += found
            broken += [row.case for row in found if row.ours != wanted]
    report(
        "rounds",
        rows,
        "Due times: two trainers over one PostgreSQL, killed, stopped beyond their lease and set back and forth in "
        "time at random; made-up training. Kills: a round on SQLite that dies by SIGKILL at the step and is taken up "
        "by the next trainer; counted is how many came to an end with the store, the pointer and the sealed adapters "
        "whole. No peer: they keep no such promise.",
        seed=seed,
    )
    if broken:
        raise SystemExit("broken: " + "; ".join(broken))


def kept(path: Path, make: Callable[[], list[Row]]) -> list[Row]:
    """The rows that were found before, or what `make` finds now."""
    if not path.exists():
        path.write_text(json.dumps([asdict(row) for row in make()]), encoding="utf-8")
    return [Row(**values) for values in json.loads(path.read_text(encoding="utf-8"))]


class Trainers:
    """Two trainers that are killed, stopped and started anew."""

    def __init__(self, url: str, data: Path, clock: Path, dice: random.Random) -> None:
        self._command = [sys.executable, "-m", "benchmarks._round_program", "--url", url, "--data", str(data)]
        self._command += ["--clock", str(clock)]
        self._dice = dice
        self._stopped: dict[int, float] = {}
        self.running = [self._begin() for _ in range(2)]
        self.done: Counter[str] = Counter()

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def disturb(self) -> None:
        """Perhaps do something to one of them; wake those that slept long enough."""
        for place, since in list(self._stopped.items()):
            if time.monotonic() - since > 2 * LEASE_S:
                os.kill(self.running[place].pid, signal.SIGCONT)
                del self._stopped[place]
        place = self._dice.randrange(2)
        if place in self._stopped or self._dice.random() > 0.08:
            return
        if self._dice.random() < 0.5:
            os.kill(self.running[place].pid, signal.SIGSTOP)
            self._stopped[place] = time.monotonic()
            self.done["stopped"] += 1
        else:
            self.running[place].kill()
            self.running[place].wait()
            self.running[place] = self._begin()
            self.done["killed"] += 1

    def end(self) -> None:
        for one in self.running:
            one.kill()
            one.wait()


def due_times(data: Path, count: int, dice: random.Random) -> list[Row]:
    """Let `count` minutes become due and count the rounds. Raises SystemExit when one is stuck."""
    data.mkdir()
    clock = data / "clock"
    with running_postgres() as server, Store.open(url := server.format(database="postgres")) as store:
        store.write(versions.bootstrap, BASE_MODEL)
        store.write(fill_with_feedback, 1)
        show(clock, FIRST - timedelta(minutes=1))
        trainers = Trainers(url, data, clock, dice)
        jumps: Counter[str] = Counter()
        try:
            for place in range(count):
                if jump := jump_of(place, count, dice):
                    show(clock, FIRST + timedelta(minutes=place + jump, seconds=30))
                    jumps["back" if jump < 0 else "forth"] += 1
                    for _ in range(5):
                        trainers.disturb()
                        time.sleep(0.05)
                show(clock, FIRST + timedelta(minutes=place, seconds=dice.randrange(60)))
                until_ended(store, FIRST + timedelta(minutes=place), trainers)
            for place in (0, count - 1):  # once more past all of them: nothing is asked for again
                show(clock, FIRST + timedelta(minutes=place, seconds=45))
                time.sleep(AGAIN_S)
        finally:
            trainers.end()
        found = store.read(rounds.list_rounds, 10 * count)
        names = [one.due for one in store.read(dues.list_dues, 10 * count) if one.state == "asked"]
    states = Counter(one.state for one in found)
    disturbed = f"{trainers.done['killed']} kills, {trainers.done['stopped']} stops"
    disturbed += f", {jumps['back']} jumps back, {jumps['forth']} forth"
    print(f"due times: {dict(states)}; {disturbed}", flush=True)
    return [
        Row(f"rounds for {count} due times ({disturbed})", len(found), unit="rounds"),
        Row("… due times that have a round", len(set(names)), unit="due times"),
        Row("… of these published", states["published"], unit="rounds"),
    ]


def jump_of(place: int, count: int, dice: random.Random) -> int:
    """By how many minutes the clock goes wrong before the due time `place`: mostly none, else to one that is over or to
    one of the next ones."""
    chance = dice.random()
    if place and chance < 0.3:
        return -dice.randint(1, place)
    if chance > 0.85 and place < count - 1:
        return dice.randint(1, min(5, count - 1 - place))
    return 0


def show(clock: Path, at: datetime) -> None:
    scratch = clock.with_suffix(".part")
    scratch.write_text(at.isoformat())
    scratch.replace(clock)


def until_ended(store: Store, due: datetime, trainers: Trainers) -> None:
    name, deadline = due.strftime("%Y-%m-%dT%H:%M"), time.monotonic() + PATIENCE_S
    while True:
        settled = store.read(dues.get_due, name)
        asked = settled.round_id if settled is not None else None
        if asked is not None and store.read(rounds.get_round, asked).state in ROUND_ENDED:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the due time {name} is stuck: {settled}")
        trainers.disturb()
        time.sleep(0.1)


def kills(folder: Path, model: Path, point: str, times: int, dice: random.Random) -> list[Row]:
    """Kill a round at `point`, `times` times; count those that came to a whole end."""
    ends: Counter[str] = Counter()
    for turn in range(times):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            ends[one_kill(Path(name), model, point, turn, dice)] += 1
    said = ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))
    print(f"killed at {point}: {said}", flush=True)
    whole = sum(count for state, count in ends.items() if not state.startswith("BROKEN"))
    return [Row(f"killed at {point} {times} times: ended whole ({said})", whole, unit="rounds")]


def one_kill(data: Path, model: Path, point: str, turn: int, dice: random.Random) -> str:
    """Run a round that dies at `point` and the trainer after it; return the round's state, or what is broken."""
    real = point in IN_TRAINING_PROCESS
    url = f"sqlite:///{data}/thumbwise.db"
    with Store.open(url) as store:
        store.write(versions.bootstrap, fingerprint(model) if real else BASE_MODEL)
        store.write(fill_with_feedback, 1)
        store.write(rounds.request_round, method=None, requested_by="bench", settings={})
    action = "kill_both" if real and turn % 2 else "kill"
    step = dice.randint(1, TRAINING_STEPS) if point == "train" else 1
    command = [sys.executable, "-m", "benchmarks._round_program", "--url", url, "--data", str(data), "--until-ended"]
    command += ["--model", str(model)] if real else []
    command += ["--canary-share", "0.25"] if point == "canary" else []
    failpoint = {VARIABLE: f"{point}:{step}={action}@{data / 'died'}"}
    for environment in (os.environ | failpoint, os.environ | failpoint):
        ended = subprocess.run(command, env=environment, check=False, timeout=END_S, stderr=subprocess.DEVNULL)
    if ended.returncode != 0:
        return f"BROKEN: the next trainer ended with {ended.returncode}"
    if not (data / "died").exists():
        return "BROKEN: nothing died"
    with Store.open(url) as store:
        return wholeness(store, data, real)


def wholeness(store: Store, data: Path, real: bool) -> str:
    """The round's state, or what is wrong with what it left."""
    one = store.read(rounds.get_round, 1)
    live, found = store.read(versions.live_version), store.read(versions.list_versions)
    if one.state not in ROUND_ENDED:
        return f"BROKEN: {one.state}"
    if one.state == "failed":
        return "failed" if live.version == 1 else "BROKEN: failed, and live"
    if len(found) != 2 or one.candidate_version != 2:
        return f"BROKEN: {len(found)} versions"
    log = [move.action for move in store.read(versions.deployments)]
    if log not in (["bootstrap"], ["promote", "bootstrap"], ["canary", "bootstrap"]):
        return f"BROKEN: {json.dumps(log)}"
    if real and found[0].adapter_sha256 is not None:
        check_adapter(data / "adapters" / found[0].adapter_sha256, found[0].adapter_sha256, found[0].base_model)
    if list((data / "rounds").glob("**/*.jsonl")):
        return "BROKEN: texts of users are left"
    return one.state


if __name__ == "__main__":
    main()
