"""One rater who votes faster than people read is refused in time, and nobody else is."""

import pytest

from feedback_store.feedback import effective_feedback
from serving.vote_limit import TooManyVotes, VoteLimit


class Clock:
    """A clock that is set by hand."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def refused(limit: VoteLimit, rater: str = "anna") -> float | None:
    """Give a vote; return how long it is to wait when it is refused."""
    try:
        limit.take(rater)
    except TooManyVotes as error:
        return error.retry_after_s
    return None


def test_a_burst_is_taken_then_a_vote_an_interval_and_a_refused_one_costs_nothing():
    clock = Clock()
    limit = VoteLimit(per_minute=30, burst=5, clock=clock)
    assert [refused(limit) for _ in range(5)] == [None] * 5
    assert [refused(limit) for _ in range(1_000)] == [2.0] * 1_000
    assert refused(limit, "ben") is None, "somebody else's votes are somebody else's"
    clock.now_s += 1.5
    assert refused(limit) == pytest.approx(0.5)
    clock.now_s += 0.5
    assert (refused(limit), refused(limit)) == (None, 2.0)
    clock.now_s += 3_600
    assert [refused(limit) for _ in range(6)] == [None] * 5 + [2.0], "who rested has a whole burst again, and no more"


def test_what_is_kept_is_bounded_and_zero_is_no_limit(monkeypatch):
    monkeypatch.setattr("serving.vote_limit.MOST_RATERS", 3)
    limit = VoteLimit(per_minute=1, burst=1, clock=Clock())
    assert [refused(limit, name) for name in "abcd"] == [None] * 4
    assert refused(limit, "d") is not None and refused(limit, "a") is None and len(limit._ahead) == 3
    unlimited = VoteLimit(per_minute=0, burst=1, clock=Clock())
    assert [refused(unlimited) for _ in range(100)] == [None] * 100


def test_of_ten_thousand_votes_of_one_rater_the_burst_is_stored_and_the_rest_told_when_to_come_back(
    context, chat, client, store
):
    context.vote_limit = VoteLimit(per_minute=6, burst=3)
    reply = chat("hello", user="anna")

    def vote(rater: str, thumb: str):
        return client.post("/v1/feedback", json={"rater": rater, "reply_id": reply["id"], "thumb": thumb})

    answers = [vote("anna", thumb) for thumb in ("up", "down", "up", "down", "down")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    error = answers[-1].json()["error"]
    assert (error["code"], error["type"]) == ("too_many_votes", "rate_limit_error") and "not stored" in error["message"]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert vote("ben", "down").status_code == 200
    said = {act.act.rater_id: act.act.thumb for act in store.read(effective_feedback)}
    assert sorted(said.values()) == ["down", "up"], "what was stored last counts"
    assert "thumbwise_refused_feedback_total 2.0" in client.get("/metrics").text
