"""kill -9 in the middle of a click storm: what was acknowledged is there, once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from feedback_store import feedback
from feedback_store.store import Store
from tests.store.conftest import Scene

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
    program = [sys.executable, str(Path(__file__).with_name("click_storm.py")), url, str(first)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, text=True, cwd=root, env={"PYTHONPATH": str(root)}
    ) as process:
        assert process.stdout is not None
        read = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        read.extend(process.stdout)
    whole = [line.split() for line in read if line.endswith("\n")]
    return [(key, int(feedback_id)) for key, feedback_id in whole]
