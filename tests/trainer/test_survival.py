"""kill -9, a full disk, a full memory, a run that diverges, a trainer that hangs: a round goes on or fails once."""

import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feedback_store import rounds, versions
from feedback_store.store import Store
from tests.databases import url_of
from tests.trainer.parts import MakeHouse, ask, fill_with_feedback, read_round
from tests.trainer.supervisor_program import BASE_MODEL
from tests.waiting import until
from trainer import failpoints, round_folder
from trainer.failures import in_words
from trainer.job import CHECKPOINTS_DIR, Job, PromptRow, VoteRow, write_job
from trainer.lease import Lease, RoundTaken
from trainer.supervisor import Supervisor


def run_trainer(data: Path, share: float, failpoint: str | None) -> int:
    """Run a trainer until no round is open, or until it is killed; return its exit status."""
    environment = os.environ | ({failpoints.VARIABLE: failpoint} if failpoint else {})
    command = [sys.executable, "-m", "tests.trainer.supervisor_program", url_of(data), str(data), str(share)]
    return subprocess.run(command, env=environment, check=False, timeout=100).returncode


@pytest.mark.parametrize(
    ("point", "share"), [("claim", 0.0), ("select", 0.0), ("publish", 0.0), ("promote", 0.0), ("canary", 0.25)]
)
def test_a_trainer_killed_anywhere_is_followed_by_one_that_ends_its_round(
    tmp_path: Path, point: str, share: float
) -> None:
    url = url_of(tmp_path)
    with Store.open(url) as store:
        store.write(versions.bootstrap, BASE_MODEL)
        store.write(fill_with_feedback, 1)
        store.write(rounds.request_round, method=None, requested_by="test", settings={})
    assert run_trainer(tmp_path, share, point) == -signal.SIGKILL
    assert run_trainer(tmp_path, share, None) == 0
    with Store.open(url) as store:
        ended = read_round(store, 1)
        assert ended.state == "published", ended.reason
        assert [one.version for one in store.read(versions.list_versions)] == [2, 1]
        moves = [(move.action, move.version) for move in store.read(versions.deployments)]
        assert moves == [("canary" if share else "promote", 2), ("bootstrap", 1)]
        assert store.read(versions.live_version).version == (1 if share else 2)
        assert dict(store.read(rounds.selection, 1))
    left = {path.name for path in (tmp_path / "rounds").iterdir()}
    assert left <= {"1"}
    assert not list((tmp_path / "rounds").glob("*/*.jsonl")), "texts of users are left"


def test_a_training_process_killed_in_its_gate_is_started_again_and_does_not_train_twice(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    monkeypatch.setenv(failpoints.VARIABLE, f"gate=kill@{tmp_path}/killed")
    round_id = ask(house)
    Supervisor(house.context).run_next()
    ended = read_round(house.store, round_id)
    assert (tmp_path / "killed").exists()
    assert ended.state == "published", ended.reason
    assert ended.fence == 1
    assert house.store.read(versions.live_version).version == 2


class Script:
    """A training process that ends as told: with an event, or killed."""

    leaves = 0

    def __init__(self, folder: Path, threads: int, training: Any = None) -> None:
        type(self).started += 1
        self._folder = folder

    started = 0

    def events(self, timeout_s: float) -> list[dict[str, Any]] | None:
        if self.started <= self.leaves:
            (self._folder / CHECKPOINTS_DIR).mkdir(exist_ok=True)
            (self._folder / CHECKPOINTS_DIR / f"step-{self.started:08d}-aa.safetensors").touch()
        return None

    def end(self) -> None:
        pass

    def wait(self) -> int:
        return -9

    def why_it_died(self, status: int) -> str:
        return "the training process was killed"


@pytest.mark.parametrize(("leaves", "starts"), [(0, 2), (1, 2), (3, 4)])
def test_a_killed_training_process_is_started_again_once_and_whenever_it_got_further(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch, leaves: int, starts: int
) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    monkeypatch.setattr("trainer.round_run.TrainingProcess", Script)
    monkeypatch.setattr(Script, "leaves", leaves)
    monkeypatch.setattr(Script, "started", 0)
    round_id = ask(house)
    Supervisor(house.context).run_next()
    ended = read_round(house.store, round_id)
    assert (ended.state, ended.reason, Script.started) == ("failed", "the training process was killed", starts)
    assert not (house.context.round_folder(round_id) / CHECKPOINTS_DIR).exists()


def test_a_training_process_that_says_nothing_is_taken_for_a_hung_one(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house()
    house.context.rounds = house.context.rounds.model_copy(update={"silent_s": 0.05})
    house.store.write(fill_with_feedback, 1)
    ended: list[bool] = []

    class Hung(Script):
        def events(self, timeout_s: float) -> list[dict[str, Any]] | None:
            return []

        def end(self) -> None:
            ended.append(True)

    monkeypatch.setattr("trainer.round_run.TrainingProcess", Hung)
    round_id = ask(house)
    Supervisor(house.context).run_next()
    assert read_round(house.store, round_id).reason == "the training process said nothing for 0.05 s"
    assert ended == [True]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (ValueError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), "out of"),
        (FloatingPointError("training diverged: x"), "training diverged: x"),
        (RuntimeError("odd"), "RuntimeError: odd"),
        (PermissionError(13, "Permission denied"), "PermissionError: [Errno 13] Permission denied"),
    ],
)
def test_a_failure_is_put_into_words_that_say_what_to_do(error: Exception, said: str) -> None:
    assert in_words(error).startswith(said)


@pytest.mark.parametrize(
    ("action", "said"), [("disk", "the disk is full"), ("memory", "out of memory"), ("nan", "training diverged")]
)
def test_a_round_whose_training_cannot_go_on_fails_with_the_reason(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, said: str
) -> None:
    from trainer.worker import run_round

    folder = tmp_path / "round"
    write_job(folder, job, (), (), ())
    monkeypatch.setenv(failpoints.VARIABLE, f"train={action}")
    monkeypatch.setattr(failpoints, "_reached", Counter())

    def train(*arguments: Any) -> dict[str, float]:
        emit = arguments[-2]
        emit("metric", step=1, values={"loss": 0.5})
        return {}

    monkeypatch.setattr("trainer.worker.train_candidate", train)
    events: list[dict[str, Any]] = []
    status = run_round(folder, job, lambda event, **values: events.append({"event": event, **values}))
    assert status == 1
    assert events[-1]["event"] == "failed"
    assert events[-1]["reason"].startswith(said)
    with round_folder.held(folder):
        pass  # the folder is free again


def test_weights_that_are_not_finite_are_never_sealed(job: Job, tmp_path: Path) -> None:
    import torch

    from trainer.policies import Policies
    from trainer.worker import seal

    policies = Policies.open(job)
    assert policies.odd_weights() is None
    with torch.no_grad():
        next(weight for name, weight in policies.model.named_parameters() if ".default." in name).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="training diverged"):
        seal(policies, job, tmp_path)
    assert not list(Path(job.adapters_dir).glob("*"))


def test_one_training_process_works_in_a_folder_and_a_leftover_one_is_ended(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "7"
    write_job(folder, job, (), (), ())
    program = (
        "import sys, time; from pathlib import Path; from trainer.round_folder import held\n"
        "with held(Path(sys.argv[2])): print('held', flush=True); time.sleep(60)"
    )
    # Its command line is a training process's: anything else is never killed.
    command = [sys.executable, "-c", program, "trainer.worker", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leftover:
        assert leftover.stdout is not None
        assert leftover.stdout.readline() == "held\n"
        with pytest.raises(round_folder.FolderBusy), round_folder.held(folder):
            pass
        os.kill(leftover.pid, signal.SIGSTOP)
        round_folder.end_leftover(folder)
        assert leftover.wait(10) == -signal.SIGKILL
    with round_folder.held(folder):
        pass


def test_what_dead_claims_left_beside_a_folder_is_removed_with_its_texts(make_house: MakeHouse) -> None:
    house = make_house()
    round_id = ask(house)
    house.store.write(rounds.cancel_round, round_id, "anna")
    folder = house.context.round_folder(round_id)
    scratch = round_folder.scratch_folder(folder, 1)
    for place in (folder, scratch):
        write_job(place, _a_job(house), [_a_row()], [], [PromptRow(({"role": "user", "content": "x"},))])
    assert not Supervisor(house.context).run_next()
    assert not scratch.exists()
    assert {path.name for path in folder.iterdir()} == {"job.json"}


def _a_job(house: Any) -> Job:
    return Job(1, "kto", 0, "base", "base", "adapters", 1)


def _a_row() -> VoteRow:
    from tests.trainer.parts import question, reply_text

    return VoteRow(1, 0, question("hello?"), reply_text(), True)


def test_a_trainer_that_wakes_after_its_round_was_taken_over_writes_neither_rows_nor_files(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    round_id = ask(house)
    folder = house.context.round_folder(round_id)

    def slept_past_the_lease(point: str) -> None:
        if point == "select":
            later = datetime.now(UTC) + timedelta(seconds=30)
            assert house.store.write(rounds.claim_round, "another", 60.0, at=later) is not None
            folder.mkdir(parents=True)
            (folder / "job.json").write_text("another's")

    monkeypatch.setattr("trainer.round_run.reach", slept_past_the_lease)
    assert Supervisor(house.context).run_next()
    present = read_round(house.store, round_id)
    assert (present.state, present.lease_owner, present.fence) == ("selecting", "another", 2)
    assert (folder / "job.json").read_text() == "another's"
    assert house.store.read(rounds.selection, round_id) == []


def test_a_lease_beats_by_itself_and_tells_when_it_is_lost(make_house: MakeHouse) -> None:
    house = make_house()
    round_id = ask(house)
    claimed = house.store.write(rounds.claim_round, "me", 0.4)
    assert claimed is not None
    lease = Lease(house.store, claimed, 0.4).start()
    lease.progressed()
    until(lambda: read_round(house.store, round_id).attempts == 0)
    lease.check()
    house.store.write(rounds.cancel_round, round_id, "anna")

    def lost() -> bool:
        try:
            lease.check()
        except RoundTaken as taken:
            return "cancelled by anna" in str(taken)
        return False

    until(lost)
    lease.close()


@pytest.mark.parametrize("wish", ["nowhere", "train=explode", "train:x"])
def test_a_failpoint_that_cannot_be_read_is_named(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, wish)
    with pytest.raises(ValueError, match=failpoints.VARIABLE):
        failpoints.reach("train")


def test_a_failpoint_fires_at_its_turn_and_once_for_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, f"train:2=memory@{tmp_path}/fired")
    monkeypatch.setattr(failpoints, "_reached", Counter())
    failpoints.reach("gate")
    failpoints.reach("train")
    with pytest.raises(MemoryError):
        failpoints.reach("train")
    monkeypatch.setattr(failpoints, "_reached", Counter())
    failpoints.reach("train")
    failpoints.reach("train")
