"""What the supervisor decides, with a training process that says what a test tells it to say."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from feedback_store import feedback, quarantines, raters, replies, rounds, side_by_sides, versions
from feedback_store.records import NewFeedback
from feedback_store.settings import TrustSettings
from serving.engine import AdapterRefused
from tests.trainer.parts import EASY_ROUNDS, MakeHouse, ask, fill_with_feedback, make_reply, read_round
from trainer.child import TrainingProcess, child_environment
from trainer.job import LOG_FILE, TRAIN_FILE, Job, read_rows, write_job
from trainer.settings import CanarySettings
from trainer.supervisor import Supervisor

PASSED = {"outcome": "pass", "summary": "every check passed", "checks": []}
SEALED = {"event": "sealed", "adapter_sha256": "a" * 64, "metrics": {"loss": 0.4}}
GATING = {"event": "state", "state": "gating"}


class ScriptedProcess:
    """Says its events and ends. `script` may hold functions: they are called in between."""

    script: tuple[Any, ...] = ()

    def __init__(self, folder: Path, threads: int, training: Any = None) -> None:
        self._left = list(self.script)

    def events(self, timeout_s: float) -> list[dict[str, Any]] | None:
        if not self._left:
            return None
        said = self._left.pop(0)
        if callable(said):
            said()
            return []
        return [said]

    def end(self) -> None:
        self._left = []

    def wait(self) -> int:
        return 0

    def why_it_died(self, status: int) -> str:
        return f"the training process ended with status {status}"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Any:
    def say(*script: Any) -> None:
        monkeypatch.setattr(ScriptedProcess, "script", script)

    monkeypatch.setattr("trainer.round_run.TrainingProcess", ScriptedProcess)
    return say


def run(house: Any, **wish: Any) -> Any:
    round_id = ask(house, **wish)
    assert Supervisor(house.context).run_next()
    return read_round(house.store, round_id)


def test_a_candidate_that_may_not_go_live_by_itself_waits_for_an_admin(make_house: MakeHouse, say: Any) -> None:
    house = make_house(rounds=EASY_ROUNDS.model_copy(update={"auto_promote": False}))
    house.store.write(fill_with_feedback, 1)
    say(GATING, SEALED, {"event": "gate", "report": PASSED}, {"event": "done", "metrics": {}})
    ended = run(house)
    assert ended.state == "published"
    assert "waits for an admin" in ended.reason
    assert house.store.read(versions.live_version).version == 1
    assert house.store.read(versions.get_version, 2).state == "candidate"


def test_a_candidate_that_the_engine_refuses_does_not_go_live(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)

    def refuse(version: int) -> None:
        raise AdapterRefused("its tensors are odd")

    house.context.prepare_version = refuse
    say(GATING, SEALED, {"event": "gate", "report": PASSED})
    ended = run(house)
    assert ended.state == "published"
    assert "its tensors are odd" in ended.reason
    assert house.store.read(versions.live_version).version == 1


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_only_a_passed_gate_promotes(make_house: MakeHouse, say: Any, outcome: str) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    report = PASSED | {"outcome": outcome, "summary": "too short"}
    say(GATING, SEALED, {"event": "gate", "report": report})
    ended = run(house)
    assert (ended.state, ended.candidate_version) == ("rejected", 2)
    assert "too short" in ended.reason
    assert ended.gate_report == report
    assert house.store.read(versions.get_version, 2).state == "rejected"
    assert house.store.read(versions.live_version).version == 1


def test_a_version_that_went_live_meanwhile_keeps_the_candidate_waiting(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)

    def somebody_promotes_another() -> None:
        other = house.store.write(
            versions.add_candidate,
            base_model=house.context.base_model,
            adapter_sha256="b" * 64,
            parent=1,
            method=None,
            round_id=None,
            gate_report=None,
            metrics={},
        )
        house.store.write(versions.promote, other.version, actor="admin", reason="by hand")

    say(GATING, SEALED, somebody_promotes_another, {"event": "gate", "report": PASSED})
    ended = run(house)
    assert ended.state == "published"
    assert "went live meanwhile" in ended.reason
    assert house.store.read(versions.live_version).version == 2
    assert house.store.read(versions.get_version, 3).state == "candidate"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_version_that_people_veto_at_the_last_moment_waits_for_an_admin(
    make_house: MakeHouse, say: Any, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    house = make_house(canary=CanarySettings(share=share))
    house.store.write(fill_with_feedback, 1)

    def veto(point: str) -> None:
        if point == "publish":
            house.store.write(side_by_sides.veto, 2, actor="olga", reason="it is rude")

    monkeypatch.setattr("trainer.round_run.reach", veto)
    say(GATING, SEALED, {"event": "gate", "report": PASSED})
    ended = run(house)
    assert ended.state == "published"
    assert "vetoed by olga: it is rude" in ended.reason and "waits for an admin" in ended.reason
    assert house.store.read(versions.live_version).version == 1
    assert house.store.read(versions.canary) is None


def test_what_the_process_says_failed_is_the_rounds_reason(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    say({"event": "failed", "reason": "training diverged: loss is not finite at step 3"})
    ended = run(house)
    assert (ended.state, ended.reason) == ("failed", "training diverged: loss is not finite at step 3")


def test_a_process_that_ends_without_a_gate_report_fails_its_round(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    say(GATING, SEALED)
    ended = run(house)
    assert (ended.state, ended.reason) == ("failed", "the training process ended with status 0")


def test_a_round_taken_over_by_another_trainer_is_left_alone(make_house: MakeHouse, say: Any) -> None:
    house = make_house(rounds=EASY_ROUNDS.model_copy(update={"lease_s": 1.1}))
    house.store.write(fill_with_feedback, 1)
    round_id = ask(house)

    def another_takes_over() -> None:
        lease = rounds.heartbeat
        house.store.write(lease, round_id, 1, -1.0)  # as if this supervisor had slept past its lease
        assert house.store.write(rounds.claim_round, "another", 60.0) is not None

    say(another_takes_over, GATING, SEALED, {"event": "gate", "report": PASSED})
    assert Supervisor(house.context).run_next()
    present = read_round(house.store, round_id)
    assert (present.state, present.lease_owner, present.fence) == ("training", "another", 2)
    assert [version.version for version in house.store.read(versions.list_versions)] == [1]


def test_a_rounds_own_settings_win_and_are_written_down(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    say(GATING, SEALED, {"event": "gate", "report": PASSED})
    ended = run(house, settings={"training": {"beta": 0.25}, "force": True})
    assert ended.settings["training"]["beta"] == 0.25
    assert ended.settings["training"]["batch_size"] == 8
    assert ended.settings["gate"]["replies"] == 24
    assert ended.settings["force"] is True


def test_too_little_feedback_ends_a_round_rejected(make_house: MakeHouse, say: Any) -> None:
    house = make_house(rounds=EASY_ROUNDS.model_copy(update={"min_thumbs": 10_000}))
    house.store.write(fill_with_feedback, 1)
    ended = run(house, method="kto")
    assert ended.state == "rejected"
    assert "of 10000" in ended.reason
    assert not house.context.round_folder(ended.round_id).exists()


def test_a_forced_round_runs_on_little_feedback(make_house: MakeHouse, say: Any) -> None:
    house = make_house(rounds=EASY_ROUNDS.model_copy(update={"min_thumbs": 10_000, "min_pairs": 10_000}))
    house.store.write(fill_with_feedback, 1)
    say(GATING, SEALED, {"event": "gate", "report": PASSED})
    ended = run(house, settings={"force": True})
    assert (ended.state, ended.method) == ("published", "kto")


def test_a_forced_round_without_any_feedback_says_so(make_house: MakeHouse, say: Any) -> None:
    ended = run(make_house(), settings={"force": True})
    assert ended.state == "rejected"
    assert "no thumb" in ended.reason


def test_a_round_that_nobody_can_finish_is_given_up(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    round_id = ask(house)
    for turn in range(5):
        at = datetime(2026, 1, 1, turn, tzinfo=UTC)
        assert house.store.write(rounds.claim_round, "a trainer that dies", 60.0, at=at) is not None
    assert Supervisor(house.context).run_next()
    ended = read_round(house.store, round_id)
    assert ended.state == "failed"
    assert ended.reason is not None and "given up" in ended.reason


def test_a_folder_names_no_rater(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)
    seen: list[str] = []
    folder = house.context.round_folder(1)

    def look() -> None:
        assert read_rows(folder, TRAIN_FILE)
        seen.extend(path.read_text() for path in folder.glob("*.json*"))
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.jsonl"))

    say(look, {"event": "failed", "reason": "enough seen"})
    run(house)
    assert seen and not any("rater-" in text for text in seen)


def test_what_looks_false_is_out_of_reach_before_a_round_selects(make_house: MakeHouse, say: Any) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1)

    def flood(connection: Any) -> None:
        raters.ensure_rater(connection, "mallory", "web")
        for number in range(30):
            replies.add_reply(connection, make_reply(f"m{number}", prompt=f"mallory {number}"))
            act = NewFeedback("thumb", "mallory", "web", reply_id=f"m{number}", thumb="up")
            feedback.add_feedback(connection, act)

    house.context.trust = TrustSettings(flood_votes=20)
    house.store.write(flood)
    say(GATING, SEALED, {"event": "gate", "report": PASSED})
    ended = run(house)
    assert ended.state == "published", ended.reason
    assert ended.selection["quarantined_by_this_round"] == 1
    frozen = [number for number, _ in house.store.read(rounds.selection, ended.round_id)]
    assert "mallory" not in {one.act.rater_id for one in house.store.read(feedback.get_feedback, frozen)}
    assert [one.rater_id for one in house.store.read(quarantines.list_quarantines, open_only=True)] == ["mallory"]


def test_a_killed_process_says_how_and_where_it_ended(tmp_path: Path) -> None:
    child = TrainingProcess(tmp_path, threads=1)
    os.kill(child.pid, signal.SIGKILL)
    while child.events(0.1) is not None:
        pass
    status = child.wait()
    (tmp_path / "log.txt").write_text("first\nsecond\nthird\nlast line\n")
    reason = child.why_it_died(status)
    assert "was killed" in reason and reason.endswith("second | third | last line")


def test_a_training_process_does_not_outlive_its_supervisor(job: Job, tmp_path: Path) -> None:
    """A supervisor that dies closes the pipe it held; here it is closed by hand."""
    folder = tmp_path / "round"
    write_job(folder, job, (), (), ())
    child = TrainingProcess(folder, threads=1)
    assert child._process.stdin is not None
    child._process.stdin.close()
    while child.events(0.1) is not None:
        pass
    assert child.wait() == 1
    assert not (folder / LOG_FILE).read_text(), "it ended without a word, not by an error"


def test_a_training_process_is_offline_patient_and_keeps_its_files_in_its_folder(tmp_path: Path) -> None:
    environment = child_environment(3, tmp_path)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["TMPDIR"].startswith(str(tmp_path))


def test_a_training_process_yields_also_where_sessions_share_the_processor() -> None:
    group = Path("/proc/self/autogroup")
    code = (
        "import os, pathlib; from trainer.worker import yield_to_others; yield_to_others(12); print(os.nice(0)); "
        f"group = pathlib.Path({str(group)!r}); print(group.read_text().split()[-1] if group.exists() else 12)"
    )
    ran = subprocess.run([sys.executable, "-c", code], start_new_session=True, capture_output=True, check=True)
    assert ran.stdout.split() == [b"12", b"12"]
