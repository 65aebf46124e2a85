"""The load in small (`make bench-load` is a thousand people for ten minutes), and how memory is judged."""

import random

import pytest

from benchmarks._chatters import Crowd
from benchmarks._memory import Slope, slope
from benchmarks.load import is_flat, promises, rows, serve, serve_bare


def test_a_small_crowd_chats_and_votes_without_an_error_and_everything_is_stored(tmp_path):
    crowd = Crowd(people=20, seconds=3, think_s=0.2, repeats=0.2)
    engine = ("--words", "4", "--step-s", "0.005")
    ours = serve(tmp_path / "ours", crowd, engine)
    assert all(promises(ours, crowd).values()), promises(ours, crowd)
    assert ours.load.replies > 40 and ours.load.conversations > 20 and ours.load.pages >= 3
    assert ours.votes.acknowledged == ours.votes.stored < len(ours.load.acknowledged), "some were sent twice"
    peer = serve_bare(tmp_path / "peer", Crowd(people=5, seconds=1, think_s=0.1, told=False), engine)
    assert peer.replies and peer.acknowledged and not peer.errors
    assert {row.case: row.ours for row in rows(ours, peer, crowd)}["errors"] == 0


def memory(mib_an_hour: float, seconds: int = 600) -> list[tuple[float, float]]:
    dice = random.Random(1)
    return [(float(at), 200 + mib_an_hour * at / 3600 + dice.gauss(0, 0.5)) for at in range(seconds)]


@pytest.mark.parametrize(("grows", "flat"), [(0.0, True), (20.0, True), (120.0, False)])
def test_memory_is_flat_where_its_slope_may_be_none_or_adds_up_to_little(grows, flat):
    from benchmarks._chatters import Load

    found = slope(memory(grows))
    assert found.low <= grows <= found.high
    assert is_flat(found, Load(memory=memory(grows))) is flat


def test_a_run_that_is_too_short_has_no_slope():
    with pytest.raises(ValueError, match="run it for longer"):
        slope([(0.0, 1.0), (1.0, 1.0)])
    assert slope([(float(at), 7.0) for at in range(20)]) == Slope(0, 0, 0)
