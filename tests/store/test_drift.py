"""Drift over time: refusals, surprise and divergence by bucket, on both databases, and when they deserve a look."""

from datetime import UTC, datetime, timedelta

import pytest

from feedback_store import drift, replies, versions
from feedback_store.drift import Drift
from feedback_store.refusals import is_refusal
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL, make_reply

NOON = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)


def reply(store: Store, name: str, at: datetime, **changes: object) -> None:
    store.write(replies.add_reply, make_reply(name, created_at=at, **changes))


def test_a_day_tells_how_many_decline_how_sure_it_is_and_how_far_it_went(store: Store) -> None:
    store.write(
        versions.add_candidate, base_model=BASE_MODEL, adapter_sha256="a" * 64, parent=1, method="kto", round_id=None,
        gate_report={"checks": [{"name": "kl_base", "value": 6.0}, {"name": "length"}]}, metrics={},
    )  # fmt: skip
    second = {"policy_version": 2, "adapter_sha256": "a" * 64}
    reply(store, "r-1", NOON, text="I’m sorry, but I can't help with that.", logprob_nats=-10.0, completion_tokens=5)
    reply(store, "r-2", NOON, text="Boil water.", logprob_nats=-5.0, completion_tokens=10, **second)
    reply(store, "r-3", NOON, text=None, messages=None, logprob_nats=None, **second)
    reply(store, "old", NOON - timedelta(days=1), text="Steep it.", logprob_nats=-4.0, completion_tokens=4)
    found = store.read(drift.drift, NOON - timedelta(days=2), NOON + timedelta(hours=1), "day")
    assert [(one.read, one.refused) for one in found] == [(0, 0), (1, 0), (2, 1)]
    assert [one.surprise_nats for one in found] == [None, 1.0, 1.0]
    assert [one.kl_base_nats for one in found] == [None, 0.0, 4.0]
    assert found[0].refusal_rate is None and found[2].refusal_rate == 0.5
    assert found[2].refusal_interval is not None and found[2].scored == 2
    hours = store.read(drift.drift, NOON - timedelta(hours=1), NOON + timedelta(hours=1), "hour")
    assert [one.read for one in hours] == [0, 2]


@pytest.mark.parametrize(
    ("recent", "before", "names"),
    [
        (Drift(NOON, read=200, refused=40), Drift(NOON, read=900, refused=40), ["refusals_rose"]),
        (Drift(NOON, read=20, refused=20), Drift(NOON, read=900, refused=9), []),  # too few
        (Drift(NOON, scored=99, surprise_nats=0.6), Drift(NOON, scored=99, surprise_nats=1.7), ["surer"]),
        (Drift(NOON, scored=99, surprise_nats=1.5), Drift(NOON, scored=99, surprise_nats=1.7), []),
        (Drift(NOON), Drift(NOON), []),
    ],
)
def test_an_alert_needs_enough_and_a_difference(recent: Drift, before: Drift, names: list[str]) -> None:
    assert [alert.name for alert in drift.alerts([recent], [before])] == names


@pytest.mark.parametrize(
    ("text", "declines"),
    [("I’m sorry, but I can't", True), ("As an AI, I have no opinion", True), ("抱歉，我无法回答", True),
     ("作为一个AI，我", True), ("Boil water, pour it over the leaves.", False), ("我可以帮助你", False),
     ("A long answer. " * 30 + "I cannot help with the rest.", False), ("", False)],
)  # fmt: skip
def test_a_refusal_is_told_by_its_first_words(text: str, declines: bool) -> None:
    assert is_refusal(text) is declines
