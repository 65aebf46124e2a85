"""PPO and GRPO: advantages and objectives against float64 references, rollouts, brakes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.parts import PEFT_NOISE, question, reply_text
from tests.trainer.test_reward_model import EIGHT, comparisons, moved, no_emit
from trainer.drawing import engine_draw
from trainer.job import Job, PromptRow
from trainer.method_settings import OnlineSettings
from trainer.methods import online
from trainer.methods.grpo import Grpo, group_advantages, sequence_ratio
from trainer.methods.online import completion_logprobs, final_rewards, moved_nats, train_online, watched
from trainer.methods.ppo import Ppo, clipped_policy_loss, clipped_value_loss, gae, token_rewards, whiten
from trainer.methods.rollouts import Rollout, draw_rollout, k3, prompts_of, until_first_end
from trainer.policies import Policies

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]
QUICK_ONLINE = OnlineSettings(
    min_words=0,
    iterations=3,
    prompts=4,
    replies=3,
    reply_tokens=12,
    minibatch=4,
    learning_rate=5e-3,
    max_kl_nats=1e6,
    max_step_kl_nats=1e6,
    stop_when_hacked=False,
)
numbers = st.lists(st.floats(-5, 5), min_size=1, max_size=12)


def prompts(count: int = 5) -> list[PromptRow]:
    return [PromptRow(question(f"tell me a story about {n}")) for n in range(count)]


@given(numbers, st.floats(0, 1), st.integers(0, 99))
def test_advantages_are_their_definition_in_float64(rewards: list[float], lam: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=len(rewards) + 1)
    values[-1] = 0
    deltas = np.array(rewards) + values[1:] - values[:-1]
    expected = [
        sum(lam**ahead * deltas[place + ahead] for ahead in range(len(rewards) - place))
        for place in range(len(rewards))
    ]
    found = gae(torch.tensor(rewards), torch.tensor(values[:-1], dtype=torch.float32), lam)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@given(numbers, st.integers(0, 99), st.floats(0.05, 0.5))
def test_the_clipped_objective_is_its_definition_in_float64(logs: list[float], seed: int, clip: float) -> None:
    random = np.random.default_rng(seed)
    ratios, advantages = np.exp(np.array(logs) / 5), random.normal(size=len(logs))
    expected = -np.mean(
        [min(r * a, min(max(r, 1 - clip), 1 + clip) * a) for r, a in zip(ratios, advantages, strict=True)]
    )
    found = clipped_policy_loss(torch.tensor(ratios), torch.tensor(advantages), clip)
    assert found.item() == pytest.approx(expected, abs=1e-9)
    old, values, targets = random.normal(size=(3, len(logs)))
    near = old + np.clip(values - old, -clip, clip)
    expected = 0.5 * np.mean(np.maximum((values - targets) ** 2, (near - targets) ** 2))
    found = clipped_value_loss(torch.tensor(values), torch.tensor(old), torch.tensor(targets), clip)
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_no_gradient_rewards_a_ratio_beyond_the_clip() -> None:
    ratios = torch.tensor([1.3, 1.3, 0.7, 0.7], requires_grad=True)
    clipped_policy_loss(ratios, torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.2).backward()
    assert ratios.grad is not None
    assert ratios.grad.tolist() == pytest.approx([0, 0.25, -0.25, 0])


@given(numbers)
def test_whitened_values_have_mean_zero_and_deviation_one_or_are_zero(values: list[float]) -> None:
    found = whiten(torch.tensor(values, dtype=torch.float64))
    assert float(found.mean()) == pytest.approx(0, abs=1e-6)
    if np.std(values) > 1e-3:
        assert float(found.std(correction=0)) == pytest.approx(1, abs=1e-4)
    else:
        assert torch.isfinite(found).all()


def test_a_reply_is_rewarded_at_its_end_and_pays_for_divergence_everywhere() -> None:
    found = token_rewards(torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-1.5, -1.0, -0.5]), 3.0, 0.1)
    assert found.tolist() == pytest.approx([-0.05, 0.1, 3.0])


def test_a_reply_of_too_few_words_gets_the_lowest_reward_and_an_unfinished_one_pays() -> None:
    texts = ["Boil the water first.", "Yes.", "It is a matter of", ""]
    nothing = torch.empty(0)
    rollout = Rollout([], [0] * 4, texts, [True, True, False, True], torch.tensor([3.0, 9.0, 2.0, 8.0]), [],
                      [nothing], [nothing])  # fmt: skip
    settings = OnlineSettings(min_words=3, missing_end_penalty=1.0)
    assert final_rewards(rollout, 1.0, settings).tolist() == [2.0, 0.0, 0.0, 0.0]
    unruled = settings.model_copy(update={"min_words": 0})
    assert final_rewards(rollout, 1.0, unruled).tolist() == [2.0, 8.0, 0.0, 7.0]


def test_group_advantages_against_hand_values() -> None:
    rewards = torch.tensor([1.0, 5.0, 3.0, 5.0, 7.0])
    groups = [0, 1, 0, 1, 2]
    assert group_advantages(rewards, groups, True).tolist() == pytest.approx([-1, 0, 1, 0, 0])
    assert group_advantages(rewards, groups, False).tolist() == pytest.approx([-1, 0, 1, 0, 0])
    three = group_advantages(torch.tensor([0.0, 0.0, 3.0]), [7, 7, 7], True)
    assert three.tolist() == pytest.approx([-1 / math.sqrt(2), -1 / math.sqrt(2), math.sqrt(2)])


def test_the_sequence_ratio_is_the_geometric_mean_of_the_tokens() -> None:
    new, old = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.5, -2.5, -1.7])
    assert sequence_ratio(new, old).item() == pytest.approx(math.exp((0.5 + 0.5 - 1.3) / 3))


def test_a_reply_ends_with_its_first_end_token_though_padding_looks_like_it() -> None:
    assert until_first_end([5, 6, 2, 2, 2], frozenset({2})) == (5, 6, 2)
    assert until_first_end([2, 2], frozenset({2})) == (2,)
    assert until_first_end([5, 6], frozenset({2})) == (5, 6)


def test_prompts_are_dealt_like_a_deck_and_alike_after_a_restart() -> None:
    dealt = [place for iteration in range(5) for place in prompts_of(iteration, 4, 10, seed=3)]
    assert sorted(dealt[:10]) == list(range(10)) == sorted(dealt[10:])
    assert dealt[:10] != dealt[10:]
    assert dealt[12:16] == prompts_of(3, 4, 10, seed=3)


class Recorded:
    """An objective that notes the ratios that it is given."""

    rollout: Any

    def __init__(self, inner: Any) -> None:
        self.inner, self.rollout = inner, None
        self.ratios: list[torch.Tensor] = []
        self.needs_states = inner.needs_states

    def prepare(self, rollout: Rollout, rewards: torch.Tensor, kl_weight: float) -> dict[str, float]:
        self.rollout = rollout
        found: dict[str, float] = self.inner.prepare(rollout, rewards, kl_weight)
        return found

    def loss(self, new: torch.Tensor, places: Sequence[int], clip: float) -> Any:
        self.ratios.append((new.detach() - torch.cat([self.rollout.old[place] for place in places])).exp())
        return self.inner.loss(new, places, clip)

    def weight(self, places: Sequence[int]) -> float:
        return float(self.inner.weight(places))

    def state(self) -> Any:
        return self.inner.state()

    def load(self, state: Any) -> None:
        self.inner.load(state)


@pytest.mark.parametrize("method", ["ppo", "grpo", "gspo"])
def test_the_ratio_is_exactly_one_on_the_first_minibatch(job: Job, tmp_path: Path, method: str) -> None:
    ratio = "sequence" if method == "gspo" else "token"
    job = replace(job, online=QUICK_ONLINE.model_copy(update={"iterations": 2, "ratio": ratio, "passes": 2}))
    policies = Policies.open(job)
    reward = moved(policies, job)
    objective = Recorded(Ppo(policies, job) if method == "ppo" else Grpo(job))
    events: list[Any] = []
    found = train_online(
        policies, reward, objective, prompts(), [], job, tmp_path, lambda event, **values: events.append(values),
        engine_draw(job),
    )  # fmt: skip
    assert torch.equal(objective.ratios[0], torch.ones_like(objective.ratios[0]))
    assert torch.equal(objective.ratios[6], torch.ones_like(objective.ratios[6])), "and of the second iteration"
    assert not torch.equal(objective.ratios[3], torch.ones_like(objective.ratios[3])), "the second pass has moved"
    assert (found["iterations"], found["steps"], found["stopped_by"]) == (2, 12, "iterations")
    assert found["reward_margin"] == events[1]["values"]["reward"] - events[0]["values"]["reward"]
    assert {"reward", "kl_nats", "loss", "grad_norm", "entropy_nats", "clipped"} <= set(events[0]["values"])
    assert not list(tmp_path.glob("cache/*")), "no sealed rollout policy is left behind"


def test_the_engine_draws_what_the_training_scores(job: Job, tmp_path: Path) -> None:
    """Also for a candidate that has moved, and the reference's divergence is that of the definition."""
    from tests.trainer.test_scoring import perturb

    job = replace(job, online=QUICK_ONLINE)
    policies = Policies.open(job)
    perturb(policies)
    reward = moved(policies, job)
    ids = [policies.encoder.prompt_ids(row.messages) for row in prompts()]
    found = draw_rollout(policies, reward, ids, job, tmp_path, engine_draw(job), 0, with_states=True)
    assert found.sampler_gap_nats < 0.2, "the engine works in bfloat16; another policy or template differs by nats"
    assert len(found.sequences) == 12 and found.kl_nats > 0.1
    assert all(len(old) == len(row.completion_ids) for old, row in zip(found.old, found.sequences, strict=True))
    assert all(len(states) == len(old) for states, old in zip(found.states, found.old, strict=True))
    with policies.use("live") as model, torch.no_grad():
        for row, reference in list(zip(found.sequences, found.reference, strict=True))[:3]:
            alone, _ = completion_logprobs(model, [row])
            torch.testing.assert_close(alone, reference, rtol=0, atol=1e-4)
    assert sorted(place for batch in found.batches for place in batch) == list(range(12))


def test_log_probabilities_of_a_batch_of_eight_equal_eight_of_one(job: Job) -> None:
    policies = Policies.open(job)
    sequences = [policies.encoder.encode(question(f"tell me {n}"), reply_text(text)) for n, text in enumerate(EIGHT)]
    with torch.no_grad():
        together, _ = completion_logprobs(policies.model, sequences)
        apart = torch.cat([completion_logprobs(policies.model, [sequence])[0] for sequence in sequences])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


def test_k3_is_never_negative_and_nothing_for_equal_policies() -> None:
    torch.manual_seed(0)
    mine, other = torch.randn(100), torch.randn(100)
    assert float(k3(mine, other).min()) >= 0
    assert float(k3(mine, mine).abs().max()) == 0
    assert moved_nats(mine, mine, 4) == 0


@pytest.mark.parametrize("method", ["ppo", "gspo"])
def test_the_policy_comes_to_say_what_is_rewarded(job: Job, tmp_path: Path, method: str) -> None:
    """The reward is the share of tokens from one half of the vocabulary: about one half at first."""
    settings: dict[str, Any] = {
        "iterations": 7,
        "prompts": 8,
        "replies": 16,
        "minibatch": 32,
        "reply_tokens": 4,
        "kl_weight": 0.0,
        "learning_rate": 1e-2,
        "sequence_clip": 0.1,
    }
    settings["ratio"] = "sequence" if method == "gspo" else "token"
    free = job.training.model_copy(update={"plain_text_weight": 0.0})
    job = replace(job, online=QUICK_ONLINE.model_copy(update=settings), training=free)
    policies = Policies.open(job)

    class Pays:
        def rewards(self, sequences: Sequence[Any]) -> torch.Tensor:
            shares = [sum(token < 160 for token in row.completion_ids) / len(row.completion_ids) for row in sequences]
            return torch.tensor(shares)

    seen: list[float] = []
    reward: Any = Pays()
    objective = Ppo(policies, job) if method == "ppo" else Grpo(job)
    train_online(
        policies, reward, objective, prompts(8), [], job, tmp_path,
        lambda event, **values: seen.append(values["values"]["reward"]), engine_draw(job),
    )  # fmt: skip
    assert seen[0] == pytest.approx(0.5, abs=0.05)
    assert seen[-1] > seen[0] + 0.08


def test_the_weight_of_the_divergence_rises_above_its_target_and_never_falls_below_its_first(
    job: Job, tmp_path: Path
) -> None:
    job = replace(job, online=OnlineSettings(kl_weight=0.1, kl_target_nats=2.0, kl_gain=0.2, stop_when_hacked=False))
    policies = Policies.open(job)
    loop = online._Loop(policies, Grpo(job), watched(policies, [], 0), job, tmp_path)
    loop.iteration = 1

    def after(gap_nats: float) -> float:
        log_p = [torch.zeros(1), torch.zeros(1)]
        reference = [found + gap_nats for found in log_p]
        loop.look(Rollout([], [0] * 2, ["one", "two"], [True, True], torch.zeros(2), [], log_p, reference))
        return loop.kl_weight

    # e³ − 4 = 16 nats is twice the target and more: the weight rises by the whole gain.
    weights = [after(gap) for gap in (0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 0.0)]
    assert weights == pytest.approx([0.1, 0.1, 0.12, 0.144, 0.1152, 0.1, 0.1])


FIRST = {"words": 40.0, "short": 0.0, "repeated": 0.02, "finished": 0.5, "reward": 0.0, "reward_error": 0.1,
         "kl_nats": 0.0, "held_out_preference": 0.5}  # fmt: skip


@pytest.mark.parametrize(
    ("now", "brake"),
    [
        ({}, ""),
        ({"kl_nats": 4.1}, "budget"),
        ({"short": 0.06}, "emptiness"),
        ({"repeated": 0.08}, "repetition"),
        ({"words": 9.0}, "length"),
        ({"words": 161.0}, "length"),
        ({"words": 20.0, "finished": 0.9, "reward": 2.0, "held_out_preference": 0.7}, ""),
        ({"reward": 2.0, "held_out_preference": 0.49}, "preference"),
        ({"reward": 0.1, "held_out_preference": 0.49}, ""),
    ],
)
def test_each_brake_holds_where_its_setting_says(job: Job, tmp_path: Path, now: dict[str, float], brake: str) -> None:
    job = replace(job, online=OnlineSettings())
    policies = Policies.open(job)
    loop = online._Loop(policies, Grpo(job), watched(policies, comparisons(32), 32), job, tmp_path)
    loop._first = FIRST
    loop._history = [FIRST, FIRST | {"held_out_preference": 0.68}]
    assert loop._brake(FIRST | {"held_out_preference": 0.6} | now) == brake


def test_a_stopped_training_goes_back_to_weights_that_were_looked_at(job: Job, tmp_path: Path) -> None:
    job = replace(job, online=QUICK_ONLINE.model_copy(update={"iterations": 6, "max_kl_nats": 1e-3}))
    policies = Policies.open(job)
    before = {name: found.detach().clone() for name, found in policies.model.named_parameters() if found.requires_grad}
    reward = moved(policies, job)
    found = train_online(policies, reward, Grpo(job), prompts(), [], job, tmp_path, no_emit, engine_draw(job))
    assert (found["stopped_by"], found["iterations"]) == ("budget", 1)
    for name, parameter in policies.model.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name])


def test_the_watch_says_where_the_policy_has_moved(job: Job, tmp_path: Path) -> None:
    policies = Policies.open(job)
    rows = comparisons(24)
    watch = watched(policies, rows, 64)
    assert watch.preference(policies) == 0.5
    assert watched(policies, rows[:19], 64).preference(policies) is None
    from tests.trainer.test_methods import one_step
    from trainer.methods.dpo import train_dpo

    train_dpo(policies, rows, one_step(job, "dpo", learning_rate=1e-2, epochs=6), tmp_path, no_emit)
    found = watch.preference(policies)
    assert found is not None and found > 0.9
