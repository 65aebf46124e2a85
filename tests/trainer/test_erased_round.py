"""Somebody is erased while a round trains: their words leave its folder, and it trains anew without them."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from feedback_store import feedback, lineage, raters, replies, rounds
from feedback_store.rater_data import erase_rater
from feedback_store.records import NewFeedback
from tests.trainer.parts import LIKED, MakeHouse, ask, fill_with_feedback, make_reply, read_round
from trainer.job import CHECKPOINTS_DIR, SEALED_FILE, TRAIN_FILE
from trainer.supervisor import Supervisor

WORDS = "perhaps-the-heron-7f3a"


class Told:
    """A training process to which something happens while it works, and which then ends."""

    happens: ClassVar[list[Any]] = []
    seen: ClassVar[list[set[str]]] = []

    def __init__(self, folder: Path, threads: int, training: Any = None) -> None:
        self._folder = folder
        self._looks = 0
        held = {path.name for path in folder.rglob("*") if path.is_file() and WORDS.encode() in path.read_bytes()}
        self.seen.append(held)
        (folder / CHECKPOINTS_DIR).mkdir(exist_ok=True)
        (folder / CHECKPOINTS_DIR / "step-00000001-aa.safetensors").touch()

    def events(self, timeout_s: float) -> list[dict[str, Any]] | None:
        self._looks += 1
        if self._looks == 1 and self.happens:
            (self._folder / SEALED_FILE).write_text("{}")
            self.happens.pop(0)()
            return []
        return None

    def end(self) -> None:
        assert (self._folder / SEALED_FILE).exists(), "it is ended before its files are changed"

    def wait(self) -> int:
        return 1

    def why_it_died(self, status: int) -> str:
        return "that will do"


@pytest.fixture
def happening(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr("trainer.round_run.TrainingProcess", Told)
    monkeypatch.setattr(Told, "happens", [])
    monkeypatch.setattr(Told, "seen", [])
    return Told.happens


def test_who_is_erased_while_a_round_trains_is_not_in_what_it_makes(
    make_house: MakeHouse, happening: list[Any]
) -> None:
    house = make_house()
    store = house.store
    store.write(fill_with_feedback, 1)
    store.write(raters.ensure_rater, "asker", "web")
    said = make_reply("hers", f"{LIKED[0]} {WORDS}", f"what of {WORDS}?", rater_id="asker")
    store.write(replies.add_reply, said)
    for person in range(20):  # of whoever is held out and whoever is not
        act = NewFeedback("thumb", f"rater-{person}", "web", reply_id="hers", thumb="up")
        store.write(feedback.add_feedback, act)
    happening.append(lambda: store.write(erase_rater, "asker"))
    round_id = ask(house, method="kto")
    Supervisor(house.context).run_next()
    ended = read_round(store, round_id)
    assert (ended.state, ended.reason) == ("failed", "that will do")
    first, second = Told.seen
    assert TRAIN_FILE in first and second == set()
    kept = {number for number, _ in store.read(rounds.selection, round_id)}
    of_hers = {one.feedback_id for one in store.read(feedback.recent_feedback, 100) if one.act.reply_id == "hers"}
    assert kept and of_hers and not kept & of_hers, "what it trains on is what it says"
    assert store.read(lineage.flagged_versions) == {}


def test_an_erasure_of_somebody_else_leaves_a_round_alone_and_many_end_it(
    make_house: MakeHouse, happening: list[Any]
) -> None:
    house = make_house()
    store = house.store
    store.write(fill_with_feedback, 1)
    store.write(raters.ensure_rater, "stranger", "web")
    happening.append(lambda: store.write(erase_rater, "stranger"))
    ask(house, method="kto")
    Supervisor(house.context).run_next()
    assert len(Told.seen) == 1, "it went on"
    happening += [lambda number=number: store.write(erase_rater, f"rater-{number}") for number in range(10)]
    round_id = ask(house, method="kto")
    Supervisor(house.context).run_next()
    ended = read_round(store, round_id)
    assert ended.state == "cancelled" and "erased again and again" in str(ended.reason)
    assert not list(house.context.round_folder(round_id).glob("*.jsonl"))
