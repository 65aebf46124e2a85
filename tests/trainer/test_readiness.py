"""Whether there is enough feedback, and for what."""

from dataclasses import replace
from typing import Any

import pytest

from feedback_store.quarantines import begin_by_hand
from tests.trainer.parts import EASY_ROUNDS, MakeHouse, fill_with_feedback
from tests.trainer.test_reward_bar import rows
from trainer.feedback_rows import Correction, Pair, Vote
from trainer.job_settings import label_smoothing
from trainer.judgements import Usable
from trainer.method_settings import RewardSettings
from trainer.pair_agreement import PairAgreement
from trainer.readiness import METHODS, judge_readiness, readiness
from trainer.reward_bar import judge
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
    first = {"name": "thumbs", "value": 5, "wanted": 200, "at_most": False, "interval": None, "met": False}
    assert report["requirements"]["kto"][0] == first
    assert set(report["requirements"]) == {"common", *METHODS}
    assert report["counts"]["up"] == 3


def corrected(count: int, authors: int) -> Usable:
    corrections = tuple(Correction(n, f"r{n % authors}", f"a{n}", "better") for n in range(count))
    return replace(kept(50, 50), corrections=corrections)


@pytest.mark.parametrize(
    ("count", "authors", "said"),
    [(50, 10, "ready for SFT"), (49, 10, "approved corrections 49 of 50"), (50, 9, "authors of corrections 9 of 10")],
)
def test_sft_asks_for_approved_corrections_of_several_authors(count: int, authors: int, said: str) -> None:
    found = judge_readiness(corrected(count, authors), RoundSettings(), "sft")
    assert said in found.reason and found.ready == (said == "ready for SFT")
    if found.ready:
        assert judge_readiness(corrected(count, authors), RoundSettings()).method == "sft", "auto comes to it last"


def twice_judged(agreeing: int, disagreeing: int) -> Usable:
    """Comparisons judged by two raters each."""
    found = kept(pairs=agreeing + disagreeing)
    again = [
        Pair(
            5000 + n,
            f"r{(n + 1) % 40}",
            *((pair.chosen, pair.rejected) if n < agreeing else (pair.rejected, pair.chosen)),
        )
        for n, pair in enumerate(found.pairs)
    ]
    return replace(found, pairs=(*found.pairs, *again))


def test_agreement_is_asked_where_it_is_known() -> None:
    assert judge_readiness(twice_judged(140, 60), RoundSettings(), "dpo").ready
    unclear = judge_readiness(twice_judged(125, 75), RoundSettings(), "dpo")
    assert unclear.reason == "not ready for DPO: raters' agreement 0.625 of 0.65"
    apart = judge_readiness(twice_judged(100, 100), RoundSettings(), "dpo")
    assert "agreement's lower bound" in apart.reason
    thumbs = kept(150, 50)
    keys = twice_judged(100, 100).prompt_keys | thumbs.prompt_keys
    both = replace(twice_judged(100, 100), votes=thumbs.votes, prompt_keys=keys)
    assert not judge_readiness(both, RoundSettings(), "kto").ready, "people who cannot agree teach nothing by thumbs"
    few = judge_readiness(twice_judged(0, 29), RoundSettings(min_pairs=50, min_pair_prompts=10, min_prompts=10), "dpo")
    assert few.ready, "29 comparisons judged twice say too little"


def test_dpos_label_smoothing_follows_from_the_agreement() -> None:
    reward = RewardSettings()
    assert label_smoothing(twice_judged(140, 60), TrainingSettings(), reward) == pytest.approx(0.1838, abs=1e-4)
    assert label_smoothing(twice_judged(0, 200), TrainingSettings(), reward) == 0.45
    assert label_smoothing(kept(pairs=200), TrainingSettings(), reward) == 0
    assert label_smoothing(twice_judged(140, 60), TrainingSettings(label_smoothing=0.1), reward) == 0.1


def test_ppo_asks_for_many_comparisons_and_then_for_what_the_last_reward_model_lacked() -> None:
    enough = RoundSettings(max_votes_per_rater=10_000)
    found = judge_readiness(kept(pairs=1999), enough, "ppo")
    assert found.reason == "not ready for PPO: comparisons 1999 of 2000"
    assert judge_readiness(kept(pairs=2000), enough, "ppo").ready
    weak = judge([0.1] * 140 + [-0.1] * 110, rows(250), PairAgreement(0.7, None, 0, assumed=True), RewardSettings())
    refused = judge_readiness(kept(pairs=2000), enough, "grpo", reward_report=weak)
    assert "reward model's accuracy 0.56 of 0.7346" in refused.reason
    assert len(refused.ask) == 30
    assert judge_readiness(kept(pairs=2000), enough, "reward", reward_report=weak).ready, "another may be trained"
    assert len(refused.as_dict()["ask"]) == 30
    overconfident = judge([9.0] * 200 + [-9.0] * 50, rows(250), PairAgreement(0.7, None, 0), RewardSettings())
    refused = judge_readiness(kept(pairs=2000), enough, "ppo", reward_report=overconfident)
    assert "reward model's calibration error 0.2, wanted at most 0.08" in refused.reason


def test_a_quarantined_rater_does_not_count(make_house: MakeHouse) -> None:
    house = make_house()
    house.store.write(fill_with_feedback, 1, people=12)
    before = house.store.read(readiness, EASY_ROUNDS, TrainingSettings())
    assert before.method == "kto"
    assert before.counts["thumbs"] == 12 * 4  # two thumbs, and two sides of a verdict
    for person in range(3):
        house.store.write(begin_by_hand, f"rater-{person}", reason="?", begun_by="olga")
    after = house.store.read(readiness, EASY_ROUNDS, TrainingSettings())
    assert (after.counts["thumbs"], after.counts["raters"]) == (9 * 4, 9)
    assert after.counts["acts_of_quarantined_raters"] == 9
    assert after.method is None and "raters 9 of 10" in after.reason
