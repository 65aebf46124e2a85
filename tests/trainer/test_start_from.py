"""Where a candidate begins is what its training holds it to, for every method: live's adapter, or the base."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feedback_store import versions
from feedback_store.records import Round
from tests.trainer.parts import PEFT_NOISE, QUICK_TRAINING, MakeHouse, ask, fill_with_feedback, read_round
from tests.trainer.test_methods import log_ratios, one_step, pairs, votes
from tests.trainer.test_online import QUICK_ONLINE
from tests.trainer.test_resume import train
from tests.trainer.test_scoring import perturb
from trainer.job import Job
from trainer.methods.dpo import train_dpo
from trainer.policies import Policies
from trainer.supervisor import Supervisor
from trainer.worker import seal

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]


@pytest.fixture
def with_live(job: Job, tmp_path: Path) -> Job:
    """A job whose live version has an adapter far from the base."""
    policies = Policies.open(job)
    perturb(policies)
    return replace(job, live_version=2, live_adapter_sha256=seal(policies, job, tmp_path / "live"))


@pytest.mark.parametrize("begin", ["live", "base"])
@pytest.mark.parametrize("method", ["kto", "dpo", "ppo", "grpo"])
def test_the_first_step_of_every_method_diverges_from_its_reference_by_nothing(
    with_live: Job, tmp_path: Path, method: str, begin: str
) -> None:
    job = one_step(with_live, method, start_from=begin, learning_rate=1e-2, batch_size=6)
    job = replace(job, online=QUICK_ONLINE.model_copy(update={"iterations": 1, "prompts": 2, "reply_tokens": 6}))
    policies = Policies.open(job)
    assert policies.reference == begin
    apart = log_ratios(policies, [policies.encoder.encode(row.messages, row.reply) for row in votes()])
    assert (max(map(abs, apart)) < 1e-4) == (begin == "live")
    steps: list[dict[str, float]] = []
    train(method, policies, job, tmp_path, lambda event, **values: steps.append(values["values"]))
    name = "kl_nats" if method in ("ppo", "grpo") else "reward_margin"
    assert steps[0][name] == pytest.approx(0, abs=1e-4)


def test_swapping_the_replies_of_every_pair_negates_dpos_margin(job: Job, tmp_path: Path) -> None:
    swapped = [replace(row, chosen=row.rejected, rejected=row.chosen) for row in pairs()]
    found: list[float] = []
    for turn, rows in enumerate((pairs(), swapped)):
        policies = Policies.open(job)  # which seeds what comes next as well
        perturb(policies)
        metrics = train_dpo(policies, rows, one_step(job, "dpo"), tmp_path / str(turn), lambda *_, **__: None)
        found.append(metrics["reward_margin"])
    assert found[1] == pytest.approx(-found[0], abs=1e-4) and abs(found[0]) > 1e-2


@pytest.mark.parametrize(("begin", "reference"), [("live", 2), ("base", 1)])
def test_a_rounds_row_records_what_it_was_held_to(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch, begin: str, reference: int
) -> None:
    house = make_house(training=QUICK_TRAINING.model_copy(update={"start_from": begin}))
    added = house.store.write(
        versions.add_candidate,
        adapter_sha256="a" * 64,
        parent=1,
        method="kto",
        round_id=None,
        base_model=house.context.base_model,
        gate_report=None,
        metrics={},
    ).version
    house.store.write(versions.promote, added, actor="test", reason="", forced=True)
    house.store.write(fill_with_feedback, added, adapter="a" * 64)
    selected: list[Round] = []

    class Stops:
        def __init__(self, *_: Any) -> None:
            selected.append(read_round(house.store, round_id))
            raise ValueError("enough")

    monkeypatch.setattr("trainer.round_run.TrainingProcess", Stops)
    round_id = ask(house)
    Supervisor(house.context).run_next()
    assert [one.reference_version for one in selected] == [reference]
