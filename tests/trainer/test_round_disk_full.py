"""A full disk at the steps of a round that its supervisor takes itself. (Training has its own in test_survival.)"""

from collections import Counter
from pathlib import Path

import pytest

from feedback_store import rounds, versions
from feedback_store.store import Store
from tests.databases import url_of
from tests.trainer.parts import fill_with_feedback, read_round
from tests.trainer.supervisor_program import BASE_MODEL, PassingProcess, context_of
from trainer import failpoints, round_run
from trainer.supervisor import Supervisor


@pytest.mark.parametrize(
    ("point", "share", "state", "live"),
    [
        ("select", 0.0, "failed", 1),
        ("publish", 0.0, "failed", 1),
        # The pointer has moved by then, in one transaction with the round's end: what is true stays.
        ("promote", 0.0, "published", 2),
        ("canary", 0.25, "published", 1),
    ],
)
def test_a_round_that_meets_a_full_disk_fails_once_or_is_done_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, share: float, state: str, live: int
) -> None:
    monkeypatch.setattr(round_run, "TrainingProcess", PassingProcess)
    monkeypatch.setattr(failpoints, "_reached", Counter())
    monkeypatch.setenv(failpoints.VARIABLE, f"{point}=disk@{tmp_path}/full")
    with Store.open(url_of(tmp_path)) as store:
        store.write(versions.bootstrap, BASE_MODEL)
        store.write(fill_with_feedback, 1)
        supervisor = Supervisor(context_of(store, tmp_path, share))
        store.write(rounds.request_round, method=None, requested_by="test", settings={})
        supervisor.run_next()
        assert (tmp_path / "full").exists()
        ended = read_round(store, 1)
        assert ended.state == state
        assert state == "published" or (ended.reason or "").startswith("the disk is full")
        assert store.read(versions.live_version).version == live
        assert not list((tmp_path / "rounds").glob("**/*.jsonl")), "texts of users are left"
        if state == "failed":  # there is room again
            store.write(rounds.request_round, method=None, requested_by="test", settings={})
            supervisor.run_next()
            assert read_round(store, 2).state == "published"
            assert store.read(versions.live_version).version > 1
