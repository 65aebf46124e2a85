"""Readiness on whole stores: too little data, one-sided thumbs, people who cannot agree, a weak reward model, all well.

Each store says for every method whether it may run, and in numbers what it lacks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store import annotation_labels, annotation_queues, feedback, raters, replies, review, rounds, versions
from feedback_store.annotation_progress import requests
from feedback_store.connection import Connection
from feedback_store.dashboard.wording import lacking
from feedback_store.records import BOTH_BAD, Comparison, NewFeedback, Round
from feedback_store.store import Store
from tests.databases import url_of
from tests.trainer.parts import make_reply
from tests.trainer.test_reward_bar import rows
from trainer import transactions
from trainer.method_settings import RewardSettings
from trainer.missing import further_thumbs
from trainer.pair_agreement import PairAgreement
from trainer.readiness import METHODS, Readiness, readiness
from trainer.reward_bar import judge
from trainer.settings import RoundSettings, TrainingSettings

# Stores of hundreds of acts instead of thousands: the rules are the same, only the numbers are smaller.
ROUNDS = RoundSettings(
    min_thumbs=60, min_minority=15, min_pairs=60, min_pair_prompts=30, min_reward_pairs=80, min_corrections=6,
    min_authors=3, min_prompts=20, max_votes_per_rater=30,
)  # fmt: skip
REWARD = RewardSettings(min_held_out=10)
PEOPLE = 24

Fill = Callable[[Connection], None]


def someone(connection: Connection, number: int) -> str:
    rater_id = f"rater-{number % PEOPLE}"
    raters.ensure_rater(connection, rater_id, "web")
    return rater_id


def thumbs(up: int, down: int, reason: str | None = None) -> Fill:
    """Thumbs of everybody in turn on replies of their own; the downs give a reason."""

    def fill(connection: Connection) -> None:
        for n in range(up + down):
            replies.add_reply(connection, make_reply(f"t{n}", prompt=f"tell {n}"))
            said = NewFeedback(
                "thumb", someone(connection, n), "web", reply_id=f"t{n}", thumb="up" if n < up else "down",
                reason=None if n < up else reason,
            )  # fmt: skip
            feedback.add_feedback(connection, said)

    return fill


def choices(count: int, *, judged_by: int = 1, agreeing: float = 1.0, verdict: str | None = None) -> Fill:
    """Comparisons of two replies, judged by `judged_by` people; on a share of them the last one is of another mind."""

    def fill(connection: Connection) -> None:
        for n in range(count):
            names = (f"c{n}-a", f"c{n}-b")
            for place, name in enumerate(names):
                replies.add_reply(
                    connection, make_reply(name, prompt=f"compare {n}", comparison_id=f"c{n}", shown_position=place)
                )
            replies.add_comparison(connection, Comparison(f"c{n}", names, None, None, "web"))
            for turn in range(judged_by):
                apart = turn == judged_by - 1 and turn > 0 and n >= agreeing * count
                said = verdict or names[1 if apart else 0]
                act = NewFeedback(
                    "verdict", someone(connection, n + turn * 7), "web", comparison_id=f"c{n}", verdict=said
                )
                feedback.add_feedback(connection, act)

    return fill


def corrections(count: int) -> Fill:
    """Rewrites that an operator approved."""

    def fill(connection: Connection) -> None:
        for n in range(count):
            replies.add_reply(connection, make_reply(f"x{n}", prompt=f"correct {n}"))
            act = NewFeedback(
                "correction", someone(connection, n), "web", reply_id=f"x{n}", correction="A robin, in short."
            )
            given = feedback.add_feedback(connection, act)
            target = review.Target(f"x{n}", 0, feedback_id=given.feedback_id)
            review.act(connection, "approve", [target], actor="olga", reason="good")

    return fill


def begun_round(connection: Connection) -> Round:
    """A PPO round that is training."""
    rounds.request_round(connection, method="ppo", requested_by="test", settings={})
    held = rounds.claim_round(connection, "test", 60)
    assert held is not None
    held = rounds.advance(connection, held.round_id, held.fence, "selecting")
    return rounds.advance(connection, held.round_id, held.fence, "training")


def reward_round(margins: Sequence[float]) -> Fill:
    """A round whose reward model has these margins on comparisons of the store, and asks about what it lacks."""

    def fill(connection: Connection) -> None:
        compared = [
            replace(
                row, chosen=replace(row.chosen, reply_id=f"c{n}-a"), rejected=replace(row.rejected, reply_id=f"c{n}-b")
            )
            for n, row in enumerate(rows(len(margins)))
        ]
        report = judge(margins, compared, PairAgreement(0.7, None, 0, assumed=True), REWARD)
        held = begun_round(connection)
        held = transactions.note_reward_model(connection, held, {"sha256": "f" * 64, **report})
        held = rounds.advance(connection, held.round_id, held.fence, "gating")
        rounds.advance(connection, held.round_id, held.fence, "rejected", reason="below its bar")

    return fill


def label(count: int) -> Fill:
    """Two annotators finish the first tasks."""

    def fill(connection: Connection) -> None:
        for _ in range(count):
            given = annotation_labels.next_assignment(connection, "user:ada")
            assert given is not None
            saved = annotation_labels.save(
                connection, "user:ada", given.label.label_id, 0, ranked=given.label.shown[:1]
            )
            annotation_labels.finish(connection, "user:ada", given.label.label_id, saved.revision)

    return fill


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Callable[..., Readiness]]:
    """Fill a store and judge it."""
    with Store.open(url_of(tmp_path)) as store:
        store.write(versions.bootstrap, "base")

        def look(*fills: Fill) -> Readiness:
            for fill in fills:
                store.write(fill)
            return store.read(readiness, ROUNDS, TrainingSettings(auto_order=("kto", "dpo", "sft", "ppo")), REWARD)

        yield look


def lacks(found: Readiness) -> dict[str, list[str]]:
    return {method: [one.words for one in found.missing[method]] for method in METHODS if found.missing[method]}


WELL = (thumbs(45, 30), choices(110, judged_by=2, agreeing=0.9), corrections(6))
SURE = [3.0] * 25


def test_an_empty_store_says_how_much_each_method_needs(judged: Callable[..., Readiness]) -> None:
    found = judged()
    common = ["20 more raters", "20 more prompts"]
    assert not found.ready and set(lacks(found)) == set(METHODS)
    assert lacks(found)["kto"] == ["60 more thumbs, 15 of them down", *common]
    assert lacks(found)["dpo"] == [*common, "60 more choices between two replies", "30 more prompts with a choice"]
    assert lacks(found)["sft"] == [*common, "6 more approved corrections", "3 more authors of corrections"]
    assert lacks(found)["ppo"] == [*common, "80 more comparisons", "10 more held-out comparisons"]


def test_too_little_data_is_counted_down_to_the_last_thumb(judged: Callable[..., Readiness]) -> None:
    found = judged(thumbs(30, 3))
    assert found.method is None and lacks(found)["kto"] == ["27 more thumbs, 12 of them down"]
    report = found.as_dict()["methods"]["kto"]
    assert report["may_run"] is False
    assert {name: report["missing"][0][name] for name in ("more", "kind", "of_kind")} == {
        "more": 27, "kind": "down", "of_kind": 12,
    }  # fmt: skip
    assert lacking(report["missing"][0]) == "27 more thumbs, 12 of them down"


def test_one_sided_thumbs_ask_for_the_rarer_kind_alone(judged: Callable[..., Readiness]) -> None:
    found = judged(thumbs(200, 10))
    assert found.method is None and lacks(found)["kto"] == ["13 more thumbs, all down"]
    share = next(item for item in found.requirements["kto"] if item.name == "share of rarer thumbs")
    assert share.interval is not None and share.interval[0] < 10 / 210 < share.interval[1]


def test_people_who_cannot_agree_teach_nothing_and_readiness_says_so(judged: Callable[..., Readiness]) -> None:
    found = judged(thumbs(45, 30), choices(110, judged_by=2, agreeing=0.45))
    assert found.method is None, "thumbs of people who cannot agree teach as little"
    assert "agreement's lower bound" in found.reason
    assert {"agreement's lower bound", "raters' agreement"} <= {one.name for one in found.missing["dpo"]}
    assert found.signals is not None and found.signals.alpha.alpha is not None
    assert found.signals.alpha.low is not None and found.signals.alpha.high is not None
    assert found.signals.alpha.low < found.signals.alpha.alpha < found.signals.alpha.high < 0.3
    (doubt,) = found.as_dict()["wrong_tool"]
    assert doubt["name"] == "people cannot agree" and "write down what a good reply is" in doubt["advice"]
    assert doubt["interval"][1] < ROUNDS.min_pair_agreement and doubt["n"] == 110


def test_a_model_that_does_not_know_is_told_from_one_that_chooses_badly(judged: Callable[..., Readiness]) -> None:
    knows = judged(thumbs(45, 40, reason="too-long: far too long"))
    assert knows.method == "kto" and knows.signals is not None and knows.signals.doubts == ()


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (thumbs(45, 40, reason="wrong,missed_the_point"), "40 of 40 thumbs down with a reason say “wrong”"),
        (choices(40, verdict=BOTH_BAD), "40 of 40 verdicts say that both replies are bad"),
    ],
)
def test_a_model_that_does_not_know_is_no_matter_of_choice(
    judged: Callable[..., Readiness], fill: Fill, said: str
) -> None:
    found = judged(fill)
    assert found.signals is not None
    (doubt,) = found.signals.doubts
    assert (doubt.name, doubt.found) == ("the model does not know", said)
    assert "larger base model" in doubt.advice


def test_a_weak_reward_model_holds_back_ppo_alone_and_asks_for_labels(judged: Callable[..., Readiness]) -> None:
    found = judged(*WELL, reward_round([0.1] * 14 + [-0.1] * 11), label(3))
    assert found.method == "kto" and set(lacks(found)) == {"ppo", "grpo"}
    said = lacks(found)["ppo"]
    assert "reward model's accuracy 0.56, wanted at least 0.735" in said
    assert said[-1] == "3 of 25 labels until PPO may run"
    assert found.as_dict()["reward_model"]["ceiling"] == pytest.approx(0.8162, abs=1e-4)
    assert found.reward_model is not None and found.reward_model["interval"][0] < 0.56
    assert len(found.ask) == 25


def test_where_all_is_well_every_method_may_run(judged: Callable[..., Readiness]) -> None:
    found = judged(*WELL, reward_round(SURE))
    assert lacks(found) == {} and found.method == "kto"
    assert found.signals is not None and found.signals.doubts == ()
    assert found.signals.alpha.alpha is not None and found.signals.alpha.alpha > 0.6
    assert found.reward_model is not None and found.reward_model["passed"]
    agreement = next(item for item in found.requirements["dpo"] if item.name == "raters' agreement")
    assert agreement.interval is not None and agreement.interval[0] < agreement.value < agreement.interval[1]
    report: dict[str, Any] = found.as_dict()
    assert all(found["may_run"] for found in report["methods"].values())


def test_a_resumed_round_asks_people_once(tmp_path: Path) -> None:
    with Store.open(url_of(tmp_path)) as store:
        store.write(versions.bootstrap, "base")
        store.write(choices(30))
        held = store.write(begun_round)
        report = {"sha256": "f" * 64, "ask": [["c0-a", "c0-b"], ["c7-a", "c7-b"], ["gone-a", "gone-b"]]}
        held = store.write(transactions.note_reward_model, held, report)
        assert store.write(transactions.note_reward_model, held, report).selection == held.selection
        (request,) = store.read(annotation_queues.list_requests)
        assert (request.wanted, request.purpose, request.requested_by) == (2, "until PPO may run", "round 1")
        given = store.write(annotation_labels.next_assignment, "user:ada")
        assert given is not None and given.task.comparison_id == "c0", "the least certain comes first"


def test_a_newer_reward_model_asks_instead_of_the_older_one_and_not_for_what_is_labelled(tmp_path: Path) -> None:
    weak = reward_round([0.1] * 14 + [-0.1] * 11)
    with Store.open(url_of(tmp_path)) as store:
        store.write(versions.bootstrap, "base")
        for fill in (choices(30), weak, label(4), weak):
            store.write(fill)
        newer, older = store.read(requests)
        assert (older.done, older.request.wanted) == (4, 4), "nobody needs the rest of it any more"
        assert (newer.done, newer.request.wanted) == (0, 21)
        store.write(weak)
        assert [one.request.wanted for one in store.read(requests)] == [21, 4], "one that nobody began is gone"


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 250), st.integers(0, 80), st.floats(0, 0.4))
def test_the_further_thumbs_are_enough_and_one_fewer_is_not(
    up: int, down: int, least: int, rarer: int, share: float
) -> None:
    more, of_kind = further_thumbs(up, down, least, rarer, share)

    def enough(more: int, of_kind: int) -> bool:
        minority, total = min(up, down) + of_kind, up + down + more
        return total >= least and minority >= rarer and minority >= share * total - 1e-9

    assert 0 <= of_kind <= more and enough(more, of_kind)
    assert not more or not enough(more - 1, min(of_kind, more - 1))
