"""kill -9 during a click storm. `make bench-kills` runs the same with 100 kills; THUMBWISE_KILLS sets how many here."""

import os

import pytest

from benchmarks._kill_storm import run_storm

KILLS = int(os.environ.get("THUMBWISE_KILLS", "5"))


@pytest.mark.timeout(60 + 10 * KILLS)
def test_no_acknowledged_vote_is_lost_or_doubled_when_the_server_is_killed(tmp_path):
    found = run_storm(tmp_path, KILLS, seed=0)
    assert (found.votes.lost, found.votes.doubled, found.votes.unasked) == (0, 0, 0)
    assert found.votes.acknowledged == found.votes.stored >= 20 * KILLS
    assert found.repeats > 0  # the kills hit votes under way, else this showed nothing
