"""The canary's judge: harm is rolled back, preference promoted, thin evidence held; over a real store."""

from datetime import UTC, datetime
from typing import Any

import pytest

from feedback_store import feedback, quarantines, raters, replies, versions
from feedback_store.canary_evidence import CanaryEvidence, Look, PairVote, canary_evidence
from feedback_store.connection import Connection
from feedback_store.records import Canary, Comparison, NewFeedback, PolicyVersion
from serving.engine import AdapterRefused
from tests.trainer.parts import House, MakeHouse, make_reply
from trainer.canary_judge import CanaryJudge, Coins, canary_report, coins_of, decide, decided_pairs
from trainer.settings import CanarySettings

EASY = CanarySettings(share=0.5, min_pairs=40, min_raters=5)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def version(number: int) -> PolicyVersion:
    return PolicyVersion(number, "candidate", "b", None, None, None, None)


def evidence(won: int = 0, lost: int = 0, ties: int = 0, people: int = 50, **more: Any) -> CanaryEvidence:
    said = [True] * won + [False] * lost + [None] * ties
    pairs = tuple(PairVote(f"rater-{place % people}", word) for place, word in enumerate(said))
    values = {"pairs": pairs, "thumbs": (), "conversations": ()} | more
    return CanaryEvidence(Canary(version(2), 0.5), version(1), AT, **values)


@pytest.mark.parametrize(
    ("found", "action", "said"),
    [
        (evidence(), "hold", "not enough to tell"),
        (evidence(10, 10, 30), "hold", "not enough to tell"),
        (evidence(45, 10), "promote", "people prefer it: won 45 of 55"),
        (evidence(10, 45), "roll_back", "won 10 of 55 decided comparisons"),
        (evidence(30, 0), "hold", "10 more comparisons"),
        (evidence(45, 5, people=2), "hold", "3 more raters"),
        (evidence(20, 20, 500), "hold", "not enough to tell"),
    ],
)
def test_the_evidence_decides(found: CanaryEvidence, action: str, said: str) -> None:
    decision = decide(found, EASY)
    assert (decision.action, said in decision.reason) == (action, True), decision.reason


def test_one_rater_decides_nothing_however_often_they_vote() -> None:
    angry = evidence(lost=500, people=1)
    assert decided_pairs(angry.pairs, 10) == (Coins(0, 10), 1)
    assert decide(angry, EASY).action == "hold"


def test_empty_replies_alone_end_a_canary_that_nobody_compares() -> None:
    looks = tuple(Look(of_canary, good=not of_canary) for _ in range(40) for of_canary in (True, False))
    decision = decide(evidence(conversations=looks), EASY)
    assert decision.action == "roll_back"
    assert "no empty reply where live's had one 0 of 40 times" in decision.reason


def test_looks_become_coins_in_the_order_in_which_they_came() -> None:
    looks = [Look(True, True), Look(True, False), Look(False, False), Look(True, True), Look(False, True)]
    assert coins_of(looks) == Coins(1, 2)
    assert coins_of(looks[:2]) == Coins(0, 0)


def talk(connection: Connection, turn: int, winner: int | None, sides: tuple[int, ...] = (1, 2)) -> None:
    """One comparison of the two versions, and a verdict for `winner` (None: a tie)."""
    rater = f"rater-{turn % 10}"
    raters.ensure_rater(connection, rater, "web")
    names = tuple(f"c{turn}-{place}" for place in range(len(sides)))
    for place, (name, side) in enumerate(zip(names, sides, strict=True)):
        reply = make_reply(name, policy_version=side, comparison_id=f"c{turn}", shown_position=place)
        replies.add_reply(connection, reply)
    replies.add_comparison(connection, Comparison(f"c{turn}", names, rater, None, "web"))
    verdict = "tie" if winner is None else names[sides.index(winner)]
    feedback.add_feedback(connection, NewFeedback("verdict", rater, "web", comparison_id=f"c{turn}", verdict=verdict))


def with_canary(house: House) -> CanaryJudge:
    house.context.canary = EASY
    house.store.write(
        versions.add_candidate,
        base_model=house.context.base_model,
        adapter_sha256="a" * 64,
        parent=1,
        method="kto",
        round_id=None,
        gate_report=None,
        metrics={},
    )
    house.store.write(versions.start_canary, 2, 0.5, actor="anna", reason="try it")
    return CanaryJudge(house.context)


def test_a_canary_that_people_dislike_is_stopped_and_the_log_says_why(make_house: MakeHouse) -> None:
    house = make_house()
    judge = with_canary(house)
    moved: list[bool] = []
    house.context.on_pointer_moved = lambda: moved.append(True)
    for turn in range(12):
        house.store.write(talk, turn, 1)
    assert judge.look().action == "hold"
    for turn in range(12, 40):
        house.store.write(talk, turn, 1, (2, 1))
    decision = judge.look()
    assert decision is not None
    assert decision.action == "roll_back"
    last = house.store.read(versions.deployments, 1)[0]
    assert (last.action, last.version, last.actor) == ("canary_stop", 2, "canary")
    assert "won 0 of 40" in last.reason
    assert last.evidence["comparisons"] == {"won": 0, "decided": 40, "undecided": 0, "raters": 10}
    assert moved == [True]
    assert house.store.read(versions.live_version).version == 1
    assert judge.look() is None


def test_a_canary_that_people_prefer_is_promoted_once_prepared(make_house: MakeHouse) -> None:
    house = make_house()
    judge = with_canary(house)
    for turn in range(40):
        house.store.write(talk, turn, 2)
    prepared: list[int] = []

    def refuse(version: int) -> None:
        raise AdapterRefused("its tensors are odd")

    house.context.prepare_version = refuse
    assert judge.look() is None
    assert house.store.read(versions.live_version).version == 1
    house.context.prepare_version = prepared.append
    assert judge.look().action == "promote"
    assert prepared == [2]
    assert house.store.read(versions.live_version).version == 2
    assert house.store.read(versions.deployments, 1)[0].evidence["win_rate"] == 1.0


def test_only_fair_comparisons_since_the_canary_began_count(make_house: MakeHouse) -> None:
    house = make_house()
    judge = with_canary(house)
    house.store.write(versions.stop_canary, actor="anna", reason="not yet")
    house.store.write(talk, 0, 1)
    house.store.write(versions.start_canary, 2, 0.1, actor="anna", reason="again")
    house.store.write(versions.start_canary, 2, 0.5, actor="anna", reason="more")
    house.store.write(talk, 1, 1)
    house.store.write(talk, 2, None)
    house.store.write(talk, 3, 1, (1, 2, 1))  # two of one version: no fair coin
    house.store.write(talk, 4, 1, (1, 1))
    house.store.write(talk, 5, 2)
    house.store.write(quarantines.begin_by_hand, "rater-5", reason="?", begun_by="olga")
    found = house.store.read(canary_evidence)
    assert [(pair.rater_id, pair.canary_won) for pair in found.pairs] == [("rater-1", False), ("rater-2", None)]
    report = house.store.read(canary_report, EASY)
    assert (report["action"], report["canary"], report["live"]) == ("hold", 2, 1)
    assert report["comparisons"] == {"won": 0, "decided": 1, "undecided": 1, "raters": 1}
    judge.close()


def test_thumbs_count_once_for_a_rater_and_side_and_empty_replies_once_for_a_conversation(
    make_house: MakeHouse,
) -> None:
    house = make_house()
    with_canary(house)

    def chat(connection: Connection) -> None:
        for rater in ("rater-1", "rater-2"):
            raters.ensure_rater(connection, rater, "web")
        for turn, (side, conversation, tokens) in enumerate([(2, "a", 1), (2, "a", 9), (1, "b", 9), (2, "c", 9)]):
            reply = make_reply(f"r{turn}", policy_version=side, conversation_id=conversation, completion_tokens=tokens)
            replies.add_reply(connection, reply)
        for rater, reply_id, thumb in (
            ("rater-1", "r0", "down"),
            ("rater-1", "r1", "up"),
            ("rater-2", "r2", "up"),
            ("rater-2", "r3", "up"),
        ):
            act = NewFeedback("thumb", rater, "web", reply_id=reply_id, thumb=thumb)  # type: ignore[arg-type]
            feedback.add_feedback(connection, act)

    house.store.write(chat)
    found = house.store.read(canary_evidence)
    assert found.thumbs == (Look(True, False), Look(False, True), Look(True, True))
    assert found.conversations == (Look(True, False), Look(False, True), Look(True, True))
