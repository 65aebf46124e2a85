"""The reward model that chooses duels: only one above its bar, opened while nobody waits, and the right one."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from feedback_store import rounds
from feedback_store.connection import Connection
from serving.settings import PolicySettings
from tests.trainer.parts import PEFT_NOISE, MakeHouse, question, reply_text
from tests.trainer.test_reward_model import EIGHT, moved
from trainer.duel_rewards import LOOK_EVERY_S, DuelRewards, open_reward
from trainer.job import Job
from trainer.method_settings import RewardSettings
from trainer.policies import Policies
from trainer.sealed_reward import RewardRefused

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]
DRAWN = ((1, 2), (3,))


def judged(connection: Connection, sha256: str, passed: bool) -> None:
    """A round whose reward model stands so."""
    rounds.request_round(connection, method="reward", requested_by="test", settings={})
    held = rounds.claim_round(connection, "test", 60)
    assert held is not None
    for state in ("selecting", "training", "gating"):
        held = rounds.advance(connection, held.round_id, held.fence, state)
    report = {"sha256": sha256, "passed": passed, "ask": []}
    rounds.advance(connection, held.round_id, held.fence, "rejected", selection={"reward_model": report}, reason="x")


def test_only_the_newest_model_above_its_bar_is_asked_and_nobody_waits_for_its_opening(make_house: MakeHouse) -> None:
    store, now, opened = make_house().store, [0.0], []
    may_open = threading.Event()

    def open_model(sha256: str) -> Callable[..., list[float]]:
        opened.append(sha256)
        assert may_open.wait(20)
        if sha256 == "damaged":
            raise RewardRefused("its files were altered")
        return lambda prompt, completions: [float(len(ids)) for ids in completions]

    rewards = DuelRewards(store, open_model, clock=lambda: now[0])

    def later() -> list[float] | None:
        now[0] += LOOK_EVERY_S
        rewards((9,), DRAWN)
        rewards.wait()
        return rewards((9,), DRAWN)

    assert rewards((9,), DRAWN) is None and opened == []
    store.write(judged, "weak", False)
    assert later() is None and opened == []
    store.write(judged, "good", True)
    now[0] += LOOK_EVERY_S
    assert rewards((9,), DRAWN) is None, "it is being opened, and somebody is chatting"
    may_open.set()
    rewards.wait()
    assert rewards((9,), DRAWN) == [2.0, 1.0]
    assert later() == [2.0, 1.0] and opened == ["good"]
    store.write(judged, "damaged", True)
    assert later() is None and opened == ["good", "damaged"]
    store.write(judged, "weaker", False)
    assert later() is None


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_a_sealed_model_scores_as_it_did_when_it_was_sealed(job: Job, kind: str) -> None:
    job = replace(
        job,
        reward=RewardSettings(dimensions=("helpful=1", "concise=0.5")),
        lora=job.lora.model_copy(update={"kind": kind, "rank": 4, "target_modules": ("q_proj", "down_proj")}),
    )
    policies = Policies.open(job)
    model = moved(policies, job)
    sha256 = model.seal(job, {})
    encoded = [policies.encoder.encode(question("sing"), reply_text(text)) for text in EIGHT]
    expected = model.rewards(encoded)
    assert float(expected.std()) > 1e-3
    data_dir, base_dir = Path(job.adapters_dir).parent, Path(job.base_model_dir)
    settings = PolicySettings(device="cpu", dtype="float32")
    score = open_reward(data_dir, base_dir, job.base_model, settings, sha256)
    completions: Sequence[tuple[int, ...]] = [one.completion_ids for one in encoded]
    found = torch.tensor(score(encoded[0].prompt_ids, completions))
    assert torch.allclose(found, expected, atol=1e-4)
    with pytest.raises(RewardRefused, match="trained on base model"):
        open_reward(data_dir, base_dir, "another", settings, sha256)
