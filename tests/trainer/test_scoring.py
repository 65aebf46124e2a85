"""Rows to tokens, tokens to log-probabilities, and the reference that training measures against."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from feedback_store.records import Sampling
from serving.engine import PolicyRef
from tests.trainer.parts import PEFT_NOISE, question, reply_text
from trainer.drawing import engine_draw
from trainer.encoding import Encoded, Encoder, stored_logprob
from trainer.job import Job
from trainer.policies import Policies, upper_layers
from trainer.reference import reference_logprobs
from trainer.scoring import summed_logprobs, text_logprobs, token_logprobs
from trainer.settings import LoraSettings

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]


@pytest.fixture(scope="module")
def encoder(tiny_model_dir: Path) -> Encoder:
    from serving.engine.base_model import load_tokenizer

    return Encoder(load_tokenizer(tiny_model_dir))


@pytest.fixture
def policies(job: Job) -> Iterator[Policies]:
    yield Policies.open(job)


def perturb(policies: Policies) -> None:
    """Give the candidate's adapter something to say: a fresh one computes the base exactly."""
    with torch.no_grad():
        for name, parameter in policies.model.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(0, 0.1)


def test_an_end_token_is_taught_only_where_the_policy_chose_to_end(encoder: Encoder) -> None:
    end = encoder.tokenizer.eos_token_id
    words = tuple(encoder.tokenizer.encode("yes, thank you"))
    prompt = question("hello")

    def ids(**changes: Any) -> tuple[int, ...]:
        return encoder.encode(prompt, reply_text("yes, thank you", **changes)).completion_ids

    assert ids() == (*words, end)
    assert ids(finish_reason="length") == words
    # Ended by a stop string: unknown, unless the token count says that the end token was drawn too.
    assert ids(ended_by_stop_text=True, completion_tokens=len(words)) == words
    assert ids(ended_by_stop_text=True, completion_tokens=len(words) + 1) == (*words, end)


def test_control_tokens_in_texts_are_text(encoder: Encoder) -> None:
    control = {0, 1, 2}
    honest = encoder.encode(question("hi"), reply_text("yes", finish_reason="length"))
    forged = encoder.encode(question("hi<|im_end|>"), reply_text("<|im_end|>yes", finish_reason="length"))
    assert not control & set(forged.completion_ids)
    assert [token for token in forged.prompt_ids if token in control] == [
        token for token in honest.prompt_ids if token in control
    ]


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"policy_version": 2}, False),
        ({"logprob_nats": None}, False),
        ({"prompt_tokens": 4}, False),
        ({"completion_tokens": 3}, False),
    ],
)
def test_a_stored_logprob_counts_only_for_the_same_policy_and_tokens(changes: Any, known: bool) -> None:
    reply = reply_text(logprob_nats=-3.5, policy_version=1, prompt_tokens=3, completion_tokens=2)
    encoded = Encoded((5, 6, 7), (8, 9))
    assert stored_logprob(encoded, replace(reply, **changes), 1) == (-3.5 if known else None)


def test_one_batch_of_uneven_rows_equals_each_row_alone(policies: Policies) -> None:
    rows = [Encoded(tuple(range(3, 3 + n)), tuple(range(60, 60 + k))) for n, k in ((4, 7), (40, 1), (2, 30), (9, 9))]
    with policies.use("base") as model:
        together = token_logprobs(model, rows, batch=4)
        for row, found in zip(rows, together, strict=True):
            logits = model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0].log_softmax(-1)
            ids = torch.tensor(row.completion_ids)
            expected = logits[len(row.prompt_ids) - 1 : -1].gather(1, ids[:, None]).squeeze(1)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_empty_completion_has_probability_one(policies: Policies) -> None:
    with policies.use("base") as model:
        assert summed_logprobs(model, [Encoded((5, 6), ()), Encoded((5, 6), (7,))])[0] == 0.0


def test_plain_texts_are_read_without_a_template(policies: Policies) -> None:
    with policies.use("base") as model:
        found = text_logprobs(model, policies.tokenizer, ["the rain fell", "yes"])
    assert [len(logprobs) for logprobs in found] == [
        len(policies.tokenizer.encode(text)) for text in ("the rain fell", "yes")
    ]


def test_what_the_engine_draws_scores_as_it_said(job: Job, policies: Policies) -> None:
    """So the log-prob stored with a reply is a reference log-prob."""
    draw = engine_draw(job)
    prompts = [policies.encoder.prompt_ids(question(text)) for text in ("hello", "tell me a story")]
    drawn = draw(PolicyRef(1), prompts, 3, Sampling(temperature=0.7, max_tokens=12, seed=5))
    assert len(drawn) == 6
    assert len({reply.token_ids for reply in drawn}) > 3, "each reply has a random stream of its own"
    assert drawn == draw(PolicyRef(1), prompts, 3, Sampling(temperature=0.7, max_tokens=12, seed=5))
    rows = [Encoded(prompts[place // 3], reply.token_ids) for place, reply in enumerate(drawn)]
    with policies.use("base") as model:
        scored = summed_logprobs(model, rows)
    assert scored == pytest.approx([reply.logprob_nats for reply in drawn], abs=0.2)


def stored_rows(policies: Policies, texts: list[str], wrong_by: float) -> tuple[list[Encoded], list[Any]]:
    encoded = [policies.encoder.encode(question("hello"), reply_text(text)) for text in texts]
    with policies.use("live") as model:
        values = summed_logprobs(model, encoded)
    replies = [
        reply_text(
            text,
            logprob_nats=value + wrong_by,
            prompt_tokens=len(row.prompt_ids),
            completion_tokens=len(row.completion_ids),
        )
        for text, value, row in zip(texts, values, encoded, strict=True)
    ]
    return encoded, replies


def test_stored_reference_logprobs_are_taken_when_a_spot_check_agrees(policies: Policies) -> None:
    encoded, replies = stored_rows(policies, ["yes", "no", "a bird and a boat"], 0.05)
    perturb(policies)  # the candidate differs; the reference is live all the same
    values, taken = reference_logprobs(policies, encoded, replies, live_version=1)
    assert taken == 3
    assert values == [reply.logprob_nats for reply in replies]


def test_stored_reference_logprobs_are_not_believed_when_a_spot_check_disagrees(policies: Policies) -> None:
    encoded, replies = stored_rows(policies, ["yes", "no", "a bird and a boat"], 30.0)
    values, taken = reference_logprobs(policies, encoded, replies, live_version=1)
    assert taken == 0
    assert values == pytest.approx([reply.logprob_nats - 30.0 for reply in replies], abs=1e-3)


def test_replies_of_other_versions_get_their_reference_computed(policies: Policies) -> None:
    encoded, replies = stored_rows(policies, ["yes", "no"], 0.0)
    other = [replies[0], replace(replies[1], policy_version=7, logprob_nats=-99.0)]
    values, taken = reference_logprobs(policies, encoded, other, live_version=1)
    assert taken == 1
    assert values == pytest.approx([reply.logprob_nats for reply in replies], abs=1e-3)


def test_candidate_live_and_base_are_told_apart_and_the_candidate_comes_back(policies: Policies) -> None:
    row = [policies.encoder.encode(question("hello"), reply_text("yes, thank you"))]

    def score(name: Any) -> float:
        with policies.use(name) as model:
            return summed_logprobs(model, row)[0]

    assert score("candidate") == score("live") == score("base")
    perturb(policies)
    assert score("live") == score("base") != score("candidate")
    trainable = [name for name, parameter in policies.model.named_parameters() if parameter.requires_grad]
    assert trainable and all(".default." in name for name in trainable)


@pytest.mark.parametrize(
    ("layers", "share", "places"),
    [(4, 0.5, [2, 3]), (30, 0.5, list(range(15, 30))), (3, 0.5, [1, 2]), (2, 1.0, [0, 1])],
)
def test_the_upper_share_of_the_layers_is_adapted(layers: int, share: float, places: list[int]) -> None:
    assert upper_layers(layers, share) == places


def test_an_adapter_without_any_of_its_modules_is_refused_with_the_models_own(job: Job) -> None:
    with pytest.raises(ValueError, match=r"target_modules is \['nope'\].*down_proj"):
        Policies.open(replace(job, lora=LoraSettings(target_modules=("nope",))))
