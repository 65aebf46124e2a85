"""Whether there is enough feedback, and for what."""

from typing import Any

import pytest

from feedback_store.raters import set_quarantine
from tests.trainer.parts import EASY_ROUNDS, MakeHouse, fill_with_feedback
from trainer.readiness import judge_readiness, readiness
from trainer.selection import Pair, Usable, Vote
from trainer.settings import RoundSettings, TrainingSettings


def kept(ups: int = 0, downs: int = 0, pairs: int = 0, raters: int = 40, prompts: int = 100) -> Usable:
    votes = [Vote(n, f"r{n % raters}", f"a{n}", n < ups, "thumb") for n in range(ups + downs)]
    found = [Pair(n, f"r{n % raters}", f"c{n}", f"d{n}") for n in range(pairs)]
    named = [vote.reply_id for vote in votes] + [name for pair in found for name in (pair.chosen, pair.rejected)]
    return Usable(tuple(votes), tuple(found), {name: f"p{int(name[1:]) % prompts}" for name in named}, {})


@pytest.mark.parametrize(
    ("feedback", "wanted", "method", "said"),
    [
        (kept(150, 50), "auto", "kto", "ready for KTO"),
        (kept(149, 50), "auto", None, "thumbs 199 of 200"),
        (kept(160, 49), "auto", None, "rarer thumbs 49 of 50"),
        (kept(950, 50), "auto", None, "share of rarer thumbs 0.05 of 0.1"),
        (kept(50, 150), "auto", "kto", "ready for KTO"),
        (kept(pairs=200), "auto", "dpo", "ready for DPO"),
        (kept(pairs=199), "dpo", None, "pairs 199 of 200"),
        (kept(pairs=200, prompts=99), "dpo", None, "prompts of pairs 99 of 100"),
        (kept(150, 50, pairs=200), "auto", "kto", "ready for KTO"),
        (kept(150, 50, pairs=200), "dpo", "dpo", "ready for DPO"),
        (kept(150, 50), "dpo", None, "pairs 0 of 200"),
        (kept(150, 50, raters=19), "auto", None, "raters 19 of 20"),
        (kept(150, 50, prompts=49), "auto", None, "prompts 49 of 50"),
        (kept(), "auto", None, "not ready for KTO: raters 0 of 20"),
    ],
)
def test_a_round_is_ready_exactly_from_its_thresholds_on(feedback: Usable, wanted: Any, method: Any, said: str) -> None:
    found = judge_readiness(feedback, RoundSettings(), wanted)
    assert (found.method, found.ready) == (method, method is not None)
    assert said in found.reason


def test_the_report_names_every_requirement_with_what_was_found() -> None:
    report = judge_readiness(kept(3, 2), RoundSettings()).as_dict()
    assert report["ready"] is False
    assert report["requirements"]["kto"][0] == {"name": "thumbs", "value": 5, "wanted": 200, "met": False}
    assert report["counts"]["up"] == 3


def test_a_quarantined_rater_does_not_count(make_house: MakeHouse) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1, people=12)
    before = house.store.read(readiness, EASY_ROUNDS, TrainingSettings())
    assert before.method == "kto"
    assert before.counts["thumbs"] == 12 * 4  # two thumbs, and two sides of a verdict
    for person in range(3):
        house.store.write(set_quarantine, f"rater-{person}", True)
    after = house.store.read(readiness, EASY_ROUNDS, TrainingSettings())
    assert (after.counts["thumbs"], after.counts["raters"]) == (9 * 4, 9)
    assert after.counts["acts_of_quarantined_raters"] == 9
    assert after.method is None and "raters 9 of 10" in after.reason
