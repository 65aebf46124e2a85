"""Figures of the overview and of people, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest

from feedback_store import feedback, health, raters, replies
from feedback_store.health import Bucket
from feedback_store.rater_activity import activities, counts
from feedback_store.records import NewFeedback, Thumb
from feedback_store.store import Store
from tests.store.conftest import make_reply

NOON = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)


def thumb(store: Store, rater: str, reply: str, value: Thumb | None, at: datetime) -> None:
    store.write(raters.ensure_rater, rater, "web")
    store.write(feedback.add_feedback, NewFeedback("thumb", rater, "web", reply_id=reply, thumb=value, created_at=at))


def reply(store: Store, name: str, at: datetime, **changes: object) -> None:
    store.write(replies.add_reply, make_reply(name, created_at=at, **changes))


def test_a_day_counts_replies_and_what_raters_hold_now(store: Store) -> None:
    for number in range(4):
        finish = "length" if number == 0 else "stop"
        at = NOON - timedelta(hours=number)
        reply(store, f"r-{number}", at, latency_ms=100.0 * (number + 1), finish_reason=finish)
    reply(store, "old", NOON - timedelta(days=9))
    thumb(store, "anna", "old", "down", NOON - timedelta(days=9))
    thumb(store, "anna", "r-0", "down", NOON - timedelta(hours=2))
    thumb(store, "anna", "r-0", "up", NOON - timedelta(hours=1))  # changed her mind
    thumb(store, "ben", "r-1", "up", NOON - timedelta(hours=1))
    thumb(store, "ben", "r-1", None, NOON)  # took it back
    thumb(store, "cleo", "r-2", "down", NOON)
    since = (NOON - timedelta(days=2)).replace(hour=0)
    found = store.read(health.activity, since, NOON + timedelta(hours=1), "day")
    assert [bucket.replies for bucket in found] == [0, 0, 4]
    today = found[-1]
    assert (today.up, today.down, today.mean_tokens, today.finished) == (1, 1, 5.0, 0.75)
    assert today.latency(0.5) == 250.0 and found[0].latency(0.5) is None and found[0].thumbs_rate is None
    hours = store.read(health.activity, NOON - timedelta(hours=3), NOON + timedelta(hours=1), "hour")
    assert [bucket.replies for bucket in hours] == [1, 1, 1, 1]
    assert [(bucket.up, bucket.down) for bucket in hours] == [(0, 0), (0, 0), (1, 0), (0, 1)]


def test_a_version_has_the_thumbs_of_its_replies(store: Store) -> None:
    reply(store, "r-1", NOON)
    reply(store, "r-2", NOON, completion_tokens=15)
    thumb(store, "anna", "r-1", "up", NOON)
    thumb(store, "ben", "r-1", "down", NOON)
    thumb(store, "ben", "r-1", "up", NOON)
    found = store.read(health.by_version)[1]
    assert (found.replies, found.mean_tokens, found.up, found.down, found.rate) == (2, 10.0, 2, 0, 1.0)
    assert found.interval is not None and found.interval[1] == 1.0


def test_the_pulse_changes_with_replies_and_acts(store: Store) -> None:
    seen = [store.read(health.state_pulse)]
    reply(store, "r-1", NOON)
    seen.append(store.read(health.state_pulse))
    thumb(store, "anna", "r-1", "up", NOON)
    seen.append(store.read(health.state_pulse))
    assert len(set(seen)) == 3 and seen[-1] == store.read(health.state_pulse)


@pytest.mark.parametrize(
    ("recent", "before", "names"),
    [
        (Bucket(NOON, up=10, down=40), Bucket(NOON, up=80, down=20), ["thumbs_fell"]),
        (Bucket(NOON, up=3, down=2), Bucket(NOON, up=80, down=20), []),
        (Bucket(NOON, latency_ms=[900.0] * 60), Bucket(NOON, latency_ms=[200.0] * 60), ["slower"]),
        (Bucket(NOON, replies=90, mean_tokens=20.0), Bucket(NOON, replies=90, mean_tokens=80.0), ["length_moved"]),
        (Bucket(NOON), Bucket(NOON), []),
    ],
)
def test_an_alert_needs_enough_and_a_difference_that_is_none_of_chance(
    one_store: Store, recent: Bucket, before: Bucket, names: list[str]
) -> None:
    found = one_store.read(health.alerts, NOON, [recent], [before])
    assert [alert.name for alert in found] == names


def test_raters_show_floods_bursts_and_who_votes_alike(store: Store) -> None:
    for number in range(30):
        reply(store, f"r-{number}", NOON - timedelta(days=1))
    for number in range(30):
        thumb(store, "quick", f"r-{number}", "up", NOON + timedelta(seconds=number))
    for number in range(6):
        thumb(store, "echo", f"r-{number}", "up", NOON + timedelta(hours=number))
        thumb(store, "critic", f"r-{number}", "down", NOON + timedelta(hours=number))
    found = {one.rater_id: one for one in store.read(activities)}
    assert (found["quick"].burst, found["echo"].burst) == (30, 1)
    assert found["quick"].signals(cap=2) == ["flood", "burst", "alike", "one_sided"]
    assert [partner for partner, _, _ in found["echo"].alike] == ["quick"]
    assert found["critic"].agreement == 0.0 and found["critic"].alike == []
    assert store.read(counts)["raters"] == 3
