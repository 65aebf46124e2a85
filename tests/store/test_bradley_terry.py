"""Strengths of versions, against numbers worked out by hand, and the duels that they are computed from."""

import numpy as np
import pytest

from feedback_store import feedback, raters, replies, versions, win_rates
from feedback_store.bradley_terry import Duel, Standing, standings, strengths
from feedback_store.records import Comparison, NewFeedback
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL, make_reply


def of(found: list[Standing], version: int) -> Standing:
    return next(one for one in found if one.version == version)


def test_strengths_are_those_worked_out_by_hand() -> None:
    """3 : 1 and 2 : 1 are odds of 3 and 2, so the first beats the third with odds of 6; direct 6 : 1 fits."""
    wins = np.array([[[0, 3, 0], [1, 0, 2], [0, 1, 0]], [[0, 3, 6], [1, 0, 2], [1, 1, 0]]], dtype=float)
    theta = strengths(wins, prior=0.0)
    assert np.exp(theta[:, 0] - theta[:, 1]) == pytest.approx([3, 3], rel=1e-4)
    assert np.exp(theta[:, 1] - theta[:, 2]) == pytest.approx([2, 2], rel=1e-4)
    assert np.exp(theta[:, 0] - theta[:, 2]) == pytest.approx([6, 6], rel=1e-4)


def test_a_tie_is_half_a_win_of_either_and_one_half_means_no_difference() -> None:
    duels = [Duel(f"r-{n}", 2, 1) for n in range(4)] + [Duel(f"r-{n}", 2, 1, tied=True) for n in range(4, 8)]
    found = standings(duels, reference=1)
    two = of(found, 2)
    assert two.win_rate == pytest.approx((4 + 2 + 0.5) / (8 + 1))  # half a win beforehand on either side
    assert (two.wins, two.ties, two.losses, two.compared) == (4, 4, 0, 8)
    assert (of(found, 1).win_rate, of(found, 1).interval) == (0.5, None)
    only_ties = standings([Duel("a", 2, 1, tied=True), Duel("b", 1, 2, tied=True)], reference=1)
    assert of(only_ties, 2).win_rate == pytest.approx(0.5)


def test_a_version_that_won_everything_has_a_finite_rate_below_one() -> None:
    (best, _) = standings([Duel(f"r-{n}", 2, 1) for n in range(9)], reference=1)
    assert best.win_rate == pytest.approx(9.5 / 10)
    assert best.interval is not None and best.win_rate is not None
    assert 0.5 < best.interval[0] <= best.win_rate <= best.interval[1] < 1


def test_versions_that_never_met_are_placed_by_those_they_both_met_and_strangers_are_not() -> None:
    chain = [Duel(f"a-{n}", 2, 1) for n in range(300)] + [Duel(f"b-{n}", 1, 2) for n in range(100)]
    chain += [Duel(f"c-{n}", 3, 2) for n in range(200)] + [Duel(f"d-{n}", 2, 3) for n in range(100)]
    found = standings([*chain, Duel("x", 8, 9)], reference=1)
    assert of(found, 3).win_rate == pytest.approx(6 / 7, abs=0.01)
    assert [one.version for one in found] == [3, 2, 1, 9, 8]
    assert of(found, 8).win_rate is None and of(found, 8).interval is None and of(found, 8).wins == 1
    assert standings([], reference=1) == []
    assert {one.win_rate for one in standings(chain, reference=77)} == {None}


def test_swapping_the_sides_mirrors_rates_and_intervals() -> None:
    duels = [Duel(f"r-{n}", 2 if n % 3 else 1, 1 if n % 3 else 2, tied=n % 7 == 0) for n in range(60)]
    swapped = [Duel(duel.rater_id, duel.loser, duel.winner, tied=duel.tied) for duel in duels]
    one, other = of(standings(duels, 1), 2), of(standings(swapped, 1), 2)
    assert one.win_rate is not None and one.interval is not None and other.interval is not None
    assert one.win_rate + (other.win_rate or 0) == pytest.approx(1)
    assert one.interval[0] + other.interval[1] == pytest.approx(1, abs=1e-5)


def test_one_rater_who_votes_a_hundred_times_makes_no_narrow_interval() -> None:
    many = [Duel("flood", 2, 1) for _ in range(100)] + [Duel("anna", 1, 2), Duel("ben", 2, 1), Duel("cleo", 1, 2)]
    spread = [Duel(f"r-{n}", 2, 1) for n in range(101)] + [Duel("anna", 1, 2), Duel("cleo", 1, 2)]
    wide, narrow = of(standings(many, 1), 2).interval, of(standings(spread, 1), 2).interval
    assert wide is not None and narrow is not None
    assert wide[0] < 0.5 < 0.9 < narrow[0]


def test_duels_are_what_raters_hold_now_of_replies_of_different_versions(store: Store) -> None:
    store.write(
        versions.add_candidate, base_model=BASE_MODEL, adapter_sha256="a" * 64, parent=1, method="kto", round_id=None,
        gate_report=None, metrics={},
    )  # fmt: skip
    for name, of_versions in (("pair", (1, 2)), ("same", (1, 1)), ("three", (1, 2, 2))):
        ids = tuple(f"{name}-{place}" for place in range(len(of_versions)))
        for place, version in enumerate(of_versions):
            changes = {"comparison_id": name, "shown_position": place, "policy_version": version}
            if version == 2:
                changes["adapter_sha256"] = "a" * 64
            store.write(replies.add_reply, make_reply(ids[place], **changes))
        store.write(replies.add_comparison, Comparison(name, ids, None, None, "web"))

    def say(rater: str, name: str, **said: object) -> None:
        store.write(raters.ensure_rater, rater, "web")
        kind = "ranking" if "ranking" in said else "verdict"
        store.write(feedback.add_feedback, NewFeedback(kind, rater, "web", comparison_id=name, **said))  # type: ignore[arg-type]

    say("anna", "pair", verdict="pair-0")
    say("anna", "pair", verdict="pair-1")  # changed her mind
    say("ben", "pair", verdict="both_bad")
    say("cleo", "pair", verdict="tie")
    say("cleo", "pair", verdict=None)  # took it back
    say("anna", "same", verdict="same-0")
    say("dora", "three", ranking=("three-1", "three-0", "three-2"))
    found = store.read(win_rates.duels)
    assert sorted(found, key=lambda duel: (duel.rater_id, duel.winner)) == [
        Duel("anna", 2, 1), Duel("ben", 1, 2, tied=True), Duel("dora", 1, 2), Duel("dora", 2, 1),
    ]  # fmt: skip
    two = of(store.read(win_rates.win_rates), 2)
    assert (two.wins, two.ties, two.losses) == (2, 1, 1) and two.win_rate == pytest.approx(3 / 5)
