"""kill -9 in the middle of a click storm: what was acknowledged is there, once."""

from collections import Counter

from feedback_store import feedback
from feedback_store.store import Store
from tests.store.conftest import Scene
from tests.store.killed import said_until_killed

KILLS = 5
"""The short form; the long one (100, against the whole server) is a benchmark's."""
REPEATED = 40
"""Keys that the next process sends again, as clients do after a lost answer."""


def test_no_acknowledged_vote_is_lost_or_doubled_by_kill_9(one_url: str) -> None:
    with Store.open(one_url) as store:
        scene = Scene(store)
        scene.rater("anna")
        scene.reply("one")
    acknowledged: dict[str, int] = {}
    first = 0
    for kill in range(KILLS):
        for key, feedback_id in clicked_until_killed(one_url, first, 60 + 37 * kill):
            # A repeated vote gets the receipt that it got the first time.
            assert acknowledged.setdefault(key, feedback_id) == feedback_id
        first = max(map(int, acknowledged)) - REPEATED
    with Store.open(one_url) as store:
        stored = store.read(feedback.history, reply_id="one")
    assert set(Counter(act.act.idempotency_key for act in stored).values()) == {1}
    by_key = {act.act.idempotency_key: act.feedback_id for act in stored}
    assert len(acknowledged) > KILLS * 60
    assert {key: by_key.get(key) for key in acknowledged} == acknowledged


def clicked_until_killed(url: str, first: int, lines: int) -> list[tuple[str, int]]:
    """Let a process vote, kill it after that many acknowledged votes, and return all that it acknowledged."""
    said = said_until_killed("click_storm.py", url, str(first), lines=lines)
    return [(key, int(feedback_id)) for key, feedback_id in said]
