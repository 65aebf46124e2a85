"""The reward model: its losses against hand-computed values, what it keeps of a batch, how it is sealed."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.parts import DISLIKED, LIKED, PEFT_NOISE, question, reply_text
from trainer.job import Job, PairRow
from trainer.method_settings import RewardSettings
from trainer.methods.reward_model import (
    RewardModel,
    all_pairs_loss,
    held_out_margins,
    plackett_luce_loss,
    rankings_of,
    rewards_dir,
    train_reward_model,
)
from trainer.methods.rewarded import make_reward_model
from trainer.methods.steps import bucketed_batches
from trainer.policies import Policies
from trainer.sealed_reward import HEAD_FILE, RewardRefused

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]
QUICK_REWARD = RewardSettings(learning_rate=2e-2, head_learning_rate=2e-2, epochs=6, batch_size=4)
EIGHT = ("yes", "no", "perhaps", *LIKED, *DISLIKED, "a song, please")


def no_emit(event: str, **values: Any) -> None:
    pass


def comparisons(count: int = 12) -> list[PairRow]:
    return [
        PairRow(
            n,
            n,
            question(f"tell me {n}"),
            reply_text(LIKED[n % 2], reply_id=f"good{n}"),
            reply_text(DISLIKED[n % 2], reply_id=f"bad{n}"),
        )
        for n in range(count)
    ]


def ranked(feedback_id: int, *names: str, decided: int | None = None, reason: str | None = None) -> list[PairRow]:
    """The pairs of one act that orders `names` from best to worst; only the first `decided` places where given."""
    places = range(len(names) - 1 if decided is None else decided)
    texts = {name: reply_text(f"text {name}", reply_id=name) for name in names}
    return [
        PairRow(feedback_id, 0, question("?"), texts[names[place]], texts[worse], reason)
        for place in places
        for worse in names[place + 1 :]
    ]


def moved(policies: Policies, job: Job) -> RewardModel:
    """A reward model some way from its start, where no head is zero."""
    model = RewardModel(policies, job)
    with torch.no_grad():
        torch.manual_seed(3)
        for parameter in (*model.parameters.values(), *model.head.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_plackett_and_luces_loss_against_hand_values() -> None:
    rewards = torch.tensor([1.0, 0.0, -1.0])
    first, second = math.log(math.e + 1 + 1 / math.e) - 1, math.log(1 + 1 / math.e)
    assert plackett_luce_loss(rewards, 2).item() == pytest.approx((first + second) / 2, abs=1e-6)
    assert plackett_luce_loss(rewards, 1).item() == pytest.approx(first, abs=1e-6)
    assert plackett_luce_loss(torch.zeros(4), 3).item() == pytest.approx(math.log(24) / 3, abs=1e-6)  # 1 of 4! orders


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_ranking_of_two_is_bradley_and_terrys_model(better: float, worse: float) -> None:
    rewards = torch.tensor([better, worse], dtype=torch.float64)
    expected = math.log1p(math.exp(-abs(better - worse))) + max(0.0, worse - better)
    assert plackett_luce_loss(rewards, 1).item() == pytest.approx(expected, abs=1e-9)
    assert all_pairs_loss(rewards, 1).item() == pytest.approx(expected, abs=1e-9)


def test_all_pairs_of_a_ranking_against_hand_values() -> None:
    rewards = torch.tensor([2.0, 1.0, -1.0])

    def loss(margin: float) -> float:
        return math.log1p(math.exp(-margin))

    assert all_pairs_loss(rewards, 2).item() == pytest.approx((loss(1) + loss(3) + loss(2)) / 3, abs=1e-6)
    assert all_pairs_loss(rewards, 1).item() == pytest.approx((loss(1) + loss(3)) / 2, abs=1e-6)


def test_pairs_of_one_act_become_its_ranking_again() -> None:
    rows = ranked(1, "c", "a", "d", "b") + ranked(2, "x", "y", "z", decided=1) + ranked(3, "m", "n")
    names = [([reply.reply_id for reply in one.replies], one.decided) for one in rankings_of(rows, ["overall"])]
    assert names[0] == (["c", "a", "d", "b"], 3)
    assert (names[1][0][0], set(names[1][0]), names[1][1]) == ("x", {"x", "y", "z"}, 1)
    assert names[2] == (["m", "n"], 1)


@pytest.mark.parametrize(
    ("reason", "taught"),
    [
        (None, (0,)),
        ("", (0,)),
        ("concise", (2,)),
        ("Concise: good", (2,)),
        ("it is concise", (0,)),
        ("too-long", (2,)),  # as the bots write it
        ("too_long,harmful: it goes on and on", (1, 2)),  # as the web chat does
        ("correct; brief; I like birds", (0, 2)),  # as the Annotate page does
        ("good_tone", (3,)),  # as the settings say
        ("purple", (0,)),
    ],
)
def test_a_verdict_teaches_the_dimensions_that_its_reasons_speak_of(
    reason: str | None, taught: tuple[int, ...]
) -> None:
    names = ["helpful", "harmless", "concise", "polite"]
    (found,) = rankings_of(ranked(1, "a", "b", reason=reason), names, ("good_tone=polite",))
    assert found.dimensions == taught


def test_reasons_of_settings_name_a_dimension_each() -> None:
    assert RewardSettings(reasons=("Good-Tone = polite",)).reasons == ("good_tone=polite",)
    for wrong in ("polite", "=polite", "good_tone="):
        with pytest.raises(ValueError, match="reasons"):
            RewardSettings(reasons=(wrong,))


def test_a_reason_moves_its_own_dimension_and_no_other(job: Job, tmp_path: Path) -> None:
    settings = QUICK_REWARD.model_copy(update={"dimensions": ("helpful=1", "harmless=1", "concise=1"), "centre": 0.0})
    job = replace(job, reward=settings)
    policies = Policies.open(job)
    rows = [replace(row, reason="brief; so short") for row in comparisons()]
    model, _ = train_reward_model(policies, rows, job, tmp_path, no_emit)
    weight = model.head.weight.detach()
    assert weight[2].abs().sum() > 0 and weight[0].abs().sum() == weight[1].abs().sum() == 0
    assert min(held_out_margins(model, policies, rows)) > 0
    assert held_out_margins(model, policies, [replace(row, reason="safe") for row in rows]) == [0.0] * len(rows)
    both = held_out_margins(model, policies, [replace(row, reason="safe; brief") for row in rows])
    assert both == pytest.approx([margin / 2 for margin in held_out_margins(model, policies, rows)])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 9), st.sampled_from([1.0, 2.0]))
def test_an_epoch_takes_every_comparison_once_and_those_of_a_prompt_together(
    prompts: list[int], size: int, epochs: float
) -> None:
    lengths = [7 * prompt % 11 for prompt in prompts]
    batches = bucketed_batches(lengths, prompts, epochs, size, seed=2)
    assert sorted(place for batch in batches for place in batch) == sorted([*range(len(prompts))] * int(epochs))
    for batch in batches:
        for prompt in {prompts[place] for place in batch}:
            assert sum(prompts[place] == prompt for place in batch) == prompts.count(prompt)
    assert batches == bucketed_batches(lengths, prompts, epochs, size, seed=2)


def test_dimensions_are_read_with_their_weights_or_refused() -> None:
    assert RewardSettings(dimensions=("helpful=2", "concise")).weights == {"helpful": 2.0, "concise": 1.0}
    for wrong in ((), ("a=b",), ("=1",), ("a=1", "A=2")):
        with pytest.raises(ValueError, match="dimensions"):
            RewardSettings(dimensions=wrong)


def test_one_batch_of_eight_equals_eight_of_one(job: Job) -> None:
    policies = Policies.open(job)
    model = moved(policies, job)
    sequences = [policies.encoder.encode(question(f"tell me {n}"), reply_text(text)) for n, text in enumerate(EIGHT)]
    with model.active() as active:
        together = model.dimensions(active, sequences)
        apart = torch.cat([model.dimensions(active, [sequence]) for sequence in sequences])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)
    assert together.std() > 0.1


def test_swapping_the_two_replies_negates_the_margin(job: Job) -> None:
    policies = Policies.open(job)
    model = moved(policies, job)
    rows = comparisons()
    swapped = [replace(row, chosen=row.rejected, rejected=row.chosen) for row in rows]
    margins = held_out_margins(model, policies, rows)
    assert held_out_margins(model, policies, swapped) == pytest.approx([-margin for margin in margins], abs=1e-6)
    assert max(abs(margin) for margin in margins) > 0.1


def test_the_reward_weighs_its_dimensions(job: Job) -> None:
    job = replace(job, reward=RewardSettings(dimensions=("helpful=2", "concise=-0.5")))
    policies = Policies.open(job)
    model = moved(policies, job)
    sequences = [policies.encoder.encode(question("?"), reply_text(text)) for text in LIKED]
    both = model.all_dimensions(sequences)
    torch.testing.assert_close(model.rewards(sequences), 2 * both[:, 0] - 0.5 * both[:, 1])


def test_it_learns_what_people_chose_and_begins_at_log_two(job: Job, tmp_path: Path) -> None:
    job = replace(job, reward=QUICK_REWARD)
    policies = Policies.open(job)
    before = {name: found.clone() for name, found in policies.model.named_parameters() if ".default." in name}
    losses: list[float] = []
    model, metrics = train_reward_model(
        policies, comparisons(), job, tmp_path, lambda event, **values: losses.append(values["values"]["reward/loss"])
    )
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics["reward/accuracy"] == 1.0 and metrics["reward/rows"] == 12
    assert min(held_out_margins(model, policies, comparisons(20)[12:])) > 1
    after = {name: found for name, found in policies.model.named_parameters() if ".default." in name}
    assert all(torch.equal(before[name], after[name]) for name in before), "the policy's adapter is left alone"
    assert all(found.requires_grad for found in after.values()), "and may be trained next"


def test_a_judged_reward_model_pays_in_honest_log_odds_when_it_is_taken_up_again_too(job: Job, tmp_path: Path) -> None:
    job = replace(job, reward=QUICK_REWARD)
    for _ in ("trained", "taken up"):
        policies = Policies.open(job)
        sequences = [policies.encoder.encode(question("?"), reply_text(text)) for text in (*LIKED, *DISLIKED)]
        model, made = make_reward_model(policies, comparisons(), comparisons(8), job, tmp_path, no_emit)
        assert model.temperature == made["report"]["temperature"] != 1.0
        raw = model.all_dimensions(sequences).squeeze(1)
        torch.testing.assert_close(model.rewards(sequences) * model.temperature, raw)


def test_a_sealed_reward_model_scores_as_before_and_a_damaged_one_is_refused(job: Job) -> None:
    policies = Policies.open(job)
    model = moved(policies, job)
    sequences = [policies.encoder.encode(question("?"), reply_text(text)) for text in (*LIKED, *DISLIKED)]
    expected = model.rewards(sequences)
    sha256 = model.seal(job, {"passed": True})
    assert model.seal(job, {"passed": True}) == sha256
    folder = rewards_dir(job) / sha256
    assert json.loads((folder / "manifest.json").read_text())["report"] == {"passed": True}

    again = RewardModel(Policies.open(job), job)
    again.load(job, sha256)
    torch.testing.assert_close(again.rewards(sequences), expected, rtol=0, atol=0)
    with pytest.raises(RewardRefused, match="base model"):
        again.load(replace(job, base_model="another"), sha256)
    wider = replace(job, lora=job.lora.model_copy(update={"rank": 4}))
    with pytest.raises(RewardRefused, match="shape"):
        RewardModel(Policies.open(wider), wider).load(wider, sha256)
    head = folder / HEAD_FILE
    head.write_bytes(head.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RewardRefused, match="altered"):
        again.load(job, sha256)
    head.unlink()
    with pytest.raises(RewardRefused, match=r"head\.safetensors missing"):
        again.load(job, sha256)
