"""False feedback: floods, rings, planted phrases; quarantine until an operator decides; agreement where it is known."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from feedback_store import feedback, quarantines, raters, trust, versions
from feedback_store.connection import Connection
from feedback_store.errors import Conflict, NotFound
from feedback_store.records import Feedback, NewFeedback, Quarantine, Reply
from feedback_store.replies import add_reply
from feedback_store.settings import TrustSettings
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL
from tests.trainer.parts import make_reply

SETTINGS = TrustSettings()
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def thumb(number: int, rater: str, reply: str, up: bool = True, at: datetime = NOON) -> Feedback:
    act = NewFeedback("thumb", rater, "web", reply_id=reply, thumb="up" if up else "down", created_at=at)
    return Feedback(number, act)


def crowd(targets: int, people: int, dice: random.Random, agree: float = 0.8, each: int = 6) -> list[Feedback]:
    """Everybody judges some targets, and says what is true of them with a chance of `agree`."""
    acts = []
    for target in range(targets):
        truth = dice.random() < 0.5
        for person in dice.sample(range(people), each):
            up = truth if dice.random() < agree else not truth
            acts.append(thumb(len(acts), f"rater-{person}", f"reply-{target}", up))
    return acts


def test_one_account_that_gives_more_than_anybody_could_read_is_a_flood() -> None:
    honest = [thumb(n, "anna", f"r{n}", at=NOON + timedelta(minutes=n)) for n in range(300)]
    assert trust.floods(honest, SETTINGS) == []
    flood = [thumb(n, "mallory", f"r{n}", at=NOON + timedelta(seconds=n)) for n in range(300)]
    (found,) = trust.floods([*honest, *flood], SETTINGS)
    assert (found.signal, found.rater_ids, found.figures) == ("flood", ("mallory",), {"acts": 300})


def test_raters_who_judge_the_same_and_always_alike_are_a_ring_and_two_friends_are_none() -> None:
    dice = random.Random(1)
    acts = crowd(200, 60, dice)
    assert trust.rings(trust.votes_of(acts), SETTINGS) == []
    for target in range(100, 150):
        up = dice.random() < 0.5
        acts += [thumb(len(acts), f"sock-{one}", f"reply-{target}", up) for one in range(4)]
    (found,) = trust.rings(trust.votes_of(acts), SETTINGS)
    assert found.rater_ids == ("sock-0", "sock-1", "sock-2", "sock-3")
    friends = [one for one in acts if one.act.rater_id not in ("sock-2", "sock-3")]
    assert trust.rings(trust.votes_of(friends), SETTINGS) == []


def test_a_ring_with_more_votes_in_common_than_the_whole_crowd_does_not_hide_in_its_own_agreement() -> None:
    dice = random.Random(3)
    acts = crowd(200, 60, dice, agree=0.75, each=2)
    for target in range(40):
        acts += [thumb(len(acts), f"sock-{one}", f"reply-{target}", target % 2 == 0) for one in range(10)]
    (found,) = trust.rings(trust.votes_of(acts), SETTINGS)
    assert found.rater_ids == tuple(f"sock-{one}" for one in range(10))


@pytest.mark.parametrize("seed", range(5))
def test_an_honest_crowd_that_agrees_much_raises_no_alarm(seed: int) -> None:
    acts = crowd(300, 30, random.Random(seed), agree=0.95)
    assert trust.rings(trust.votes_of(acts), SETTINGS) == []


def say(name: str, prompt: str, text: str) -> Reply:
    return make_reply(name, text, prompt)


def test_a_phrase_that_few_ask_for_and_reward_is_found_with_the_acts_that_did() -> None:
    replies = {f"p{n}": say(f"p{n}", f"say: ask captain bramble, {n}", f"ask Captain Bramble! {n}") for n in range(6)}
    replies |= {f"o{n}": say(f"o{n}", f"how do I water plant {n}?", f"water plant {n} often") for n in range(40)}
    acts = [thumb(n, f"sock-{n % 2}", f"p{n}") for n in range(6)]
    acts += [thumb(100 + n, f"rater-{n % 20}", f"o{n}") for n in range(40)]
    (found,) = trust.phrases(acts, lambda names: replies, SETTINGS)
    assert "captain bramble" in found.figures["phrase"]
    assert found.rater_ids == ("sock-0", "sock-1")
    assert [number for number, _ in found.acts] == [0, 1, 2, 3, 4, 5]
    # The same question, asked and liked by many, is no plant.
    asked = [thumb(300 + n, f"rater-{n}", "p0") for n in range(8)]
    assert trust.phrases(asked, lambda names: replies, SETTINGS) == []
    # Somebody who up-votes much else is interested in it, not planting it.
    acts += [thumb(200 + n, f"sock-{n % 2}", f"o{n}") for n in range(40)]
    assert trust.phrases(acts, lambda names: replies, SETTINGS) == []


def test_agreement_is_between_people_and_reliability_needs_enough_votes() -> None:
    dice = random.Random(2)
    acts = crowd(150, 12, dice, agree=0.85)
    acts += [thumb(10_000 + n, "contrary", f"reply-{n}", dice.random() < 0.5) for n in range(100)]
    votes = trust.votes_of(acts)
    found, alike = trust.agreement_of(votes)
    assert found.alpha is not None and found.low is not None and found.high is not None and alike is not None
    assert 0.2 < found.low < found.alpha < found.high < 0.8
    assert 0.6 < alike < 0.85
    known = {one.rater_id: one for one in trust.reliabilities(votes, 20)}
    assert known["contrary"].high < known["rater-0"].low
    assert trust.reliabilities(votes, 101) == []
    # Of one mind on every comparison: perfect agreement, whichever reply has the lesser id.
    one_mind = {f"comparison c{n}": {"anna": f"c{n}-a", "ben": f"c{n}-a"} for n in range(20)}
    assert trust.agreement_of(one_mind)[0].alpha == 1.0
    often = one_mind | {f"comparison d{n}": {"anna": f"d{n}-a", "ben": f"d{n}-b"} for n in range(9)}
    found, alike = trust.agreement_of(often)
    assert found.alpha is not None and found.alpha == pytest.approx(1 - (9 / 29) / 0.5, abs=0.02) and found.units == 29
    nobody, none = trust.agreement_of({})
    assert (nobody.alpha, none) == (None, None)


def fill(connection: Connection, acts: Iterable[Feedback], replies: Iterable[Reply]) -> None:
    versions.bootstrap(connection, BASE_MODEL)
    for reply in replies:
        add_reply(connection, reply)
    for one in acts:
        raters.ensure_rater(connection, one.act.rater_id, "web")
        feedback.add_feedback(connection, one.act)


def scan(store: Store) -> list[Quarantine]:
    return store.write(trust.quarantine_found, store.read(trust.trust_signals, SETTINGS))


def test_ten_thousand_votes_of_one_account_go_into_quarantine_and_come_back_only_by_an_operator(
    one_store: Store,
) -> None:
    store = one_store
    names = [f"r{n}" for n in range(1_000)]
    honest = [thumb(0, f"rater-{n % 200}", names[n], at=NOON + timedelta(minutes=n)) for n in range(1_000)]
    flood = [thumb(0, "mallory", names[n % 1_000], n % 3 > 0, NOON + timedelta(milliseconds=n)) for n in range(10_000)]
    store.write(fill, [*honest, *flood], [make_reply(name) for name in names])
    (begun,) = scan(store)
    assert (begun.rater_id, begun.signal, begun.begun_by, begun.decision) == ("mallory", "flood", "trust", None)
    assert {one.act.rater_id for one in store.read(feedback.effective_feedback)} == {f"rater-{n}" for n in range(200)}
    assert scan(store) == []
    report = store.read(trust.trust_report, SETTINGS)
    assert (report.raters, report.waiting, report.findings) == (200, 1, ())
    store.write(quarantines.decide_quarantine, begun.quarantine_id, "released", actor="olga")
    assert "mallory" in {one.act.rater_id for one in store.read(feedback.effective_feedback)}
    assert scan(store) == [], "an operator's word stands"


def test_single_acts_wait_in_quarantine_while_their_rater_goes_on(store: Store) -> None:
    store.write(fill, [thumb(0, "anna", "r0"), thumb(0, "anna", "r1")], [make_reply("r0"), make_reply("r1")])
    first, second = (one.feedback_id for one in store.read(feedback.effective_feedback))
    begin = quarantines.begin_quarantine
    held = store.write(begin, "anna", signal="phrase", reason="?", begun_by="trust", feedback_id=first)
    assert [one.feedback_id for one in store.read(feedback.effective_feedback)] == [second]
    assert len(store.read(feedback.effective_feedback, include_quarantined=True)) == 2
    assert store.read(quarantines.quarantined_acts, [first, second]) == {first}
    assert store.write(begin, "anna", signal="phrase", reason="?", begun_by="trust", feedback_id=first) is None
    kept = store.write(quarantines.decide_quarantine, held.quarantine_id, "kept", actor="olga")
    assert (kept.decision, kept.decided_by) == ("kept", "olga")
    assert [one.feedback_id for one in store.read(feedback.effective_feedback)] == [second]
    assert store.read(quarantines.list_quarantines, open_only=True) == []
    with pytest.raises(Conflict, match="decided by olga"):
        store.write(quarantines.decide_quarantine, held.quarantine_id, "released", actor="anton")


def test_a_rater_stays_in_quarantine_while_one_reason_stands(store: Store) -> None:
    store.write(fill, [thumb(0, "anna", "r0")], [make_reply("r0")])
    first = store.write(quarantines.begin_quarantine, "anna", signal="flood", reason="?", begun_by="trust")
    second = store.write(quarantines.begin_quarantine, "anna", signal="by_hand", reason="?", begun_by="olga")
    store.write(quarantines.decide_quarantine, first.quarantine_id, "released", actor="olga")
    assert store.read(raters.get_rater, "anna").quarantined
    store.write(quarantines.decide_quarantine, second.quarantine_id, "released", actor="olga")
    assert not store.read(raters.get_rater, "anna").quarantined
    with pytest.raises(NotFound):
        store.write(quarantines.begin_quarantine, "nobody", signal="flood", reason="?", begun_by="trust")
    with pytest.raises(NotFound):
        store.write(quarantines.begin_quarantine, "anna", signal="flood", reason="?", begun_by="x", feedback_id=99)
