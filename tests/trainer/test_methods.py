"""What KTO and DPO are given, and that trl computes from it the losses that the files' docstrings state."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.parts import DISLIKED, LIKED, PEFT_NOISE, QUICK_TRAINING, question, reply_text
from trainer import head
from trainer.encoding import Encoded
from trainer.floods import class_weights
from trainer.job import CANCEL_FILE, Job, PairRow, VoteRow
from trainer.methods.common import (
    Cancelled,
    Diverged,
    NothingToTrainOn,
    Watch,
    fitting,
    stratified_order,
)
from trainer.methods.dpo import train_dpo
from trainer.methods.kto import train_kto
from trainer.policies import Policies
from trainer.scoring import summed_logprobs

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]


@pytest.mark.parametrize(
    ("ups", "downs", "weights"),
    [
        (100, 100, (1, 1)),
        (50, 100, (2, 1)),
        (100, 50, (1, 2)),
        (1, 100, (5, 1)),
        (0, 100, (1, 1)),
        (100, 0, (1, 1)),
    ],
)
def test_the_rarer_thumb_weighs_more_until_both_kinds_weigh_alike(ups: int, downs: int, weights: Any) -> None:
    assert class_weights(ups, downs, 5.0) == weights


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.sampled_from([0.5, 1.0, 2.0, 2.5]), st.integers(0, 9))
def test_an_epoch_takes_every_row_once(labels: list[bool], epochs: float, seed: int) -> None:
    order = stratified_order(labels, epochs, seed)
    assert len(order) == round(len(labels) * epochs)
    for start in range(0, len(order) - len(labels) + 1, len(labels)):
        assert sorted(order[start : start + len(labels)]) == list(range(len(labels)))
    assert order == stratified_order(labels, epochs, seed)


@pytest.mark.parametrize("ups", [8, 24, 40, 56])
def test_every_batch_mixes_ups_and_downs(ups: int) -> None:
    labels = [True] * ups + [False] * (64 - ups)
    order = stratified_order(labels, 3, seed=1)
    for start in range(0, len(order), 8):
        found = Counter(labels[place] for place in order[start : start + 8])
        assert abs(found[True] - ups / 8) <= 2
        assert 0 < found[True] < 8 or ups == 8 or ups == 56


def test_rows_that_are_too_long_or_say_nothing_are_dropped() -> None:
    rows = [[Encoded((1,) * 10, (2,) * 5)], [Encoded((1,) * 12, (2,) * 5)], [Encoded((1,), ())]]
    assert fitting(rows, 16) == [0]
    with pytest.raises(NothingToTrainOn, match="none of 3 rows"):
        fitting(rows, 8)


def votes() -> list[VoteRow]:
    said = [(text, text in LIKED) for text in (*LIKED, *DISLIKED, LIKED[0], LIKED[1])]
    return [
        VoteRow(n, n, question(f"tell me {n}"), reply_text(text, reply_id=f"r{n}"), up)
        for n, (text, up) in enumerate(said)
    ]


def pairs() -> list[PairRow]:
    return [
        PairRow(n, n, question(f"tell me {n}"), reply_text(LIKED[n % 2]), reply_text(DISLIKED[n % 2])) for n in range(6)
    ]


def one_step(job: Job, method: Any, **training: Any) -> Job:
    """A job of one batch, at a learning rate so small that the first loss is the loss of the start."""
    settings = {"batch_size": 8, "epochs": 1, "learning_rate": 1e-12} | training
    return replace(job, method=method, training=QUICK_TRAINING.model_copy(update=settings))


def log_ratios(policies: Policies, sequences: list[Encoded]) -> list[float]:
    with policies.use("candidate") as model:
        candidate = summed_logprobs(model, sequences)
    with policies.use("live") as model:
        live = summed_logprobs(model, sequences)
    return [mine - theirs for mine, theirs in zip(candidate, live, strict=True)]


def held_to_plain_text(policies: Policies, job: Job, sequences: list[Encoded], labels: list[bool]) -> float:
    """The part of the first step's loss that plain text adds, by its definition and in float64."""
    first = sequences[stratified_order(labels, 1, job.seed)[0]]
    tokens = [token for token in first.completion_ids if token not in policies.tokenizer.all_special_ids][:64]
    ids = torch.tensor([[policies.tokenizer.bos_token_id or policies.tokenizer.eos_token_id, *tokens]])
    found = []
    for name in ("base", "candidate"):
        with policies.use(name) as model, torch.no_grad():
            found.append(model(input_ids=ids).logits[0].double().softmax(-1))
    base, candidate = found
    divergence = float((base * (base.log() - candidate.log())).sum())
    assert divergence > 0.01, "nothing to tell"
    return job.training.plain_text_weight * divergence


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.fixture
def events() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def emit(events: list[dict[str, Any]]) -> Callable[..., None]:
    return lambda event, **values: events.append({"event": event, **values})


@pytest.fixture
def moved(job: Job) -> Policies:
    """Policies whose candidate is already some way from live."""
    from tests.trainer.test_scoring import perturb

    policies = Policies.open(job)
    perturb(policies)
    return policies


def test_kto_is_the_loss_that_its_file_states(
    job: Job, moved: Policies, tmp_path: Path, events: list[Any], emit: Any
) -> None:
    rows = votes()
    sequences = [moved.encoder.encode(row.messages, row.reply) for row in rows]
    ratios = log_ratios(moved, sequences)
    beta = job.training.beta
    losses = [
        1 - sigmoid(beta * ratio) if row.up else 2.0 * sigmoid(beta * ratio)
        for row, ratio in zip(rows, ratios, strict=True)
    ]
    plain = held_to_plain_text(moved, job, sequences, [row.up for row in rows])
    found = train_kto(moved, rows, one_step(job, "kto"), tmp_path, emit)
    assert (found["desirable_weight"], found["undesirable_weight"]) == (1.0, 2.0)
    anchor = -job.training.anchor * sum(ratios) / len(ratios)
    assert found["loss"] == pytest.approx(sum(losses) / len(losses) + anchor + plain, abs=1e-4)
    assert [event["event"] for event in events] == ["metric"]
    assert {"loss", "grad_norm", "reward_margin"} <= set(events[0]["values"])


def test_kto_with_its_kl_term_runs_as_published(job: Job, moved: Policies, tmp_path: Path, emit: Any) -> None:
    found = train_kto(moved, votes(), one_step(job, "kto", kto_loss="kto"), tmp_path, emit)
    assert found["kl_nats"] >= 0
    assert 0 < found["loss"] < 2


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo_is_the_loss_that_its_file_states(
    job: Job, moved: Policies, tmp_path: Path, emit: Any, smoothing: float
) -> None:
    rows = pairs()
    chosen = log_ratios(moved, [moved.encoder.encode(row.messages, row.chosen) for row in rows])
    rejected = log_ratios(moved, [moved.encoder.encode(row.messages, row.rejected) for row in rows])
    margins = [job.training.beta * (good - bad) for good, bad in zip(chosen, rejected, strict=True)]
    losses = [
        (-(1 - smoothing) * math.log(sigmoid(margin)) + smoothing * math.log(sigmoid(-margin))) / (1 - 2 * smoothing)
        for margin in margins
    ]
    sequences = [moved.encoder.encode(row.messages, row.chosen) for row in rows]
    plain = held_to_plain_text(moved, job, sequences, [True] * len(rows))
    found = train_dpo(moved, rows, one_step(job, "dpo", label_smoothing=smoothing), tmp_path, emit)
    anchor = -job.training.anchor * sum(chosen + rejected) / len(chosen + rejected)
    assert found["loss"] == pytest.approx(sum(losses) / len(losses) + anchor + plain, abs=1e-4)
    assert found["reward_margin"] == pytest.approx(sum(margins) / len(margins), abs=1e-3)


def test_the_chosen_replys_likelihood_adds_to_dpo(job: Job, moved: Policies, tmp_path: Path, emit: Any) -> None:
    plain = train_dpo(moved, pairs(), one_step(job, "dpo"), tmp_path / "plain", emit)["loss"]
    weighed = one_step(job, "dpo", chosen_likelihood_weight=0.5)
    held = train_dpo(moved, pairs(), weighed, tmp_path / "held", emit)["loss"]
    assert held > plain + 0.5


def test_training_moves_liked_replies_up_and_disliked_ones_down(
    job: Job, tmp_path: Path, emit: Any, events: list[Any]
) -> None:
    policies = Policies.open(job)
    rows = votes()
    found = train_kto(policies, rows, one_step(job, "kto", learning_rate=1e-2, epochs=8), tmp_path, emit)
    ratios = log_ratios(policies, [policies.encoder.encode(row.messages, row.reply) for row in rows])
    assert min(ratio for row, ratio in zip(rows, ratios, strict=True) if row.up) > 0
    assert max(ratio for row, ratio in zip(rows, ratios, strict=True) if not row.up) < 0
    assert found["steps"] == 6  # 48 rows in batches of 8
    assert events[-1]["values"]["progress"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"], "trl leaves nothing behind"


def test_our_head_gives_what_trls_gives(moved: Policies) -> None:
    from trl.trainer.utils import add_fused_lm_head

    sequences = [moved.encoder.encode(row.messages, row.reply) for row in votes()]
    add_fused_lm_head(moved.model.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    width = max(row.tokens for row in sequences)
    ids, labels = torch.zeros(len(sequences), width, dtype=torch.long), torch.full((len(sequences), width), -100)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(sequences):
        whole = torch.tensor(row.prompt_ids + row.completion_ids)
        ids[place, : row.tokens], mask[place, : row.tokens] = whole, 1
        labels[place, len(row.prompt_ids) : row.tokens] = whole[len(row.prompt_ids) :]
    assert head.fits(moved.model)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    found: list[tuple[Any, list[torch.Tensor]]] = []
    for outputs in (
        head.scores(moved.model, **inputs, use_cache=False),
        moved.model(**inputs, use_cache=False, fused_lm_head=True),
    ):
        pull = torch.linspace(-1, 1, outputs.log_probs.numel()).reshape(outputs.log_probs.shape)
        moved.model.zero_grad()
        (outputs.log_probs * pull * (labels[:, 1:] != -100)).sum().backward()
        trained = [p for p in moved.model.parameters() if p.requires_grad]
        found.append((outputs, [p.grad.clone() for p in trained if p.grad is not None]))
    (ours, our_gradients), (trls, trl_gradients) = found
    scored = labels[:, 1:] != -100
    for name in ("log_probs", "entropy", "mean_logits", "is_top1"):
        torch.testing.assert_close(
            getattr(ours, name)[scored].float(), getattr(trls, name)[scored].float(), rtol=1e-4, atol=1e-5, msg=name
        )
    assert len(our_gradients) == len(trl_gradients) > 0
    for mine, theirs in zip(our_gradients, trl_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_what_holds_plain_text_leaves_it_nearer_to_the_base(job: Job, tmp_path: Path, emit: Any) -> None:
    def drift(weight: float) -> float:
        policies = Policies.open(job)
        settings = one_step(job, "kto", learning_rate=1e-2, epochs=8, plain_text_weight=weight)
        train_kto(policies, votes(), settings, tmp_path / str(weight), emit)
        text = [Encoded((policies.tokenizer.eos_token_id,), tuple(policies.tokenizer.encode("the cat sat on a mat")))]
        with policies.use("candidate") as model:
            candidate = summed_logprobs(model, text)[0]
        with policies.use("base") as model:
            return abs(candidate - summed_logprobs(model, text)[0])

    assert drift(1.0) < 0.5 * drift(0.0)


def test_a_cancel_file_stops_training_within_a_step(job: Job, tmp_path: Path, events: list[Any]) -> None:
    policies = Policies.open(job)

    def cancel_at_the_second(event: str, **values: Any) -> None:
        events.append(event)
        if len(events) == 2:
            (tmp_path / CANCEL_FILE).touch()

    with pytest.raises(Cancelled):
        train_kto(policies, votes(), one_step(job, "kto", epochs=100), tmp_path, cancel_at_the_second)
    assert len(events) <= 3


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_number_that_is_not_finite_stops_training(tmp_path: Path, emit: Any, name: str) -> None:
    watch = Watch(tmp_path, emit)
    state: Any = SimpleNamespace(global_step=7, max_steps=10)
    watch.on_log(None, state, None, logs={"loss": 0.5, "grad_norm": 1.0})
    with pytest.raises(Diverged, match=f"{name} is not finite at step 7"):
        watch.on_log(None, state, None, logs={"loss": 0.5, "grad_norm": 1.0, name: math.nan})
