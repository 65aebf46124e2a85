"""The engine against transformers' own generation, and one reply against one policy."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks._adapters_made import sealed_policy
from feedback_store.records import Sampling
from serving.engine import (
    EngineClosed,
    PolicyRef,
    PromptTooLong,
    QueueFull,
    ReplyDelta,
    ReplyEnd,
    ReplyRequest,
    VersionNotServed,
)
from serving.engine.base_model import load_model
from serving.engine.drawing import draw_replies
from serving.engine.torch_engine import TorchEngine, TorchStream
from serving.engine.weights import BaseWeights
from serving.settings import PolicySettings, ServingSettings

BASE = PolicyRef(1)
QUESTIONS = (
    "sing",
    "tell me a story about a bird",
    "what is rain?",
    "write it again, and then once more, slowly please",
    "a",
)
GREEDY = Sampling(temperature=0, max_tokens=24)

pytestmark = pytest.mark.anyio

Make = Callable[..., TorchEngine]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def base(tiny_model_dir: Path) -> BaseWeights:
    return BaseWeights(tiny_model_dir, PolicySettings(dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def policies(base: BaseWeights, tmp_path_factory: pytest.TempPathFactory) -> tuple[PolicyRef, PolicyRef]:
    work = tmp_path_factory.mktemp("sealed")
    return (
        sealed_policy(work, base.directory, version=2, seed=2),
        sealed_policy(work, base.directory, version=3, seed=3),
    )


@pytest.fixture
def make_engine(base: BaseWeights) -> Iterator[Make]:
    made: list[TorchEngine] = []

    def make(first: PolicyRef = BASE, **settings: Any) -> TorchEngine:
        made.append(TorchEngine(base, ServingSettings(threads=1, **settings), first))
        return made[-1]

    yield make
    for engine in made:
        engine.close(0)


def request_of(base: BaseWeights, question: str, sampling: Sampling = GREEDY) -> ReplyRequest:
    return ReplyRequest(base.renderer.render(({"role": "user", "content": question},))[1], sampling)


def greedy_by_transformers(base: BaseWeights, policy: PolicyRef, question: str) -> tuple[tuple[int, ...], float]:
    """Token ids and summed log-probability of transformers' own greedy generation with peft's unmerged adapter."""
    model = load_model(base.directory, torch.float32)
    if policy.adapter_dir is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, policy.adapter_dir)
    prompt = torch.tensor([request_of(base, question).prompt_ids])
    out = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=GREEDY.max_tokens,
        pad_token_id=2,
    )
    ids = tuple(out[0, prompt.shape[1] :].tolist())
    with torch.no_grad():
        logprobs = torch.log_softmax(model(out).logits[0, prompt.shape[1] - 1 : -1].float(), -1)
    return ids, float(logprobs.gather(1, out[0, prompt.shape[1] :, None]).sum())


async def read(stream: TorchStream) -> tuple[str, ReplyEnd]:
    text = ""
    async for item in stream:
        if isinstance(item, ReplyEnd):
            return text, item
        assert isinstance(item, ReplyDelta)
        text += item.text
    raise AssertionError("a stream ended without its end")


def test_a_ragged_batch_says_what_transformers_says_of_each_prompt_alone(
    base: BaseWeights, policies: tuple[PolicyRef, PolicyRef]
) -> None:
    for policy in (BASE, policies[0]):
        drawn = draw_replies(base, policy, [request_of(base, question) for question in QUESTIONS], rows=3)
        for question, (_, end) in zip(QUESTIONS, drawn, strict=True):
            ids, logprob = greedy_by_transformers(base, policy, question)
            assert end.token_ids == ids
            assert end.logprob_nats == pytest.approx(logprob, abs=1e-3)


def test_equal_prompts_are_prefilled_once_and_draw_apart(base: BaseWeights) -> None:
    requests = [request_of(base, "sing", Sampling(temperature=1, max_tokens=12, seed=seed)) for seed in range(6)]
    together = draw_replies(base, BASE, requests, rows=6)
    alone = [draw_replies(base, BASE, [request], rows=1)[0] for request in requests]
    assert [end.token_ids for _, end in together] == [end.token_ids for _, end in alone]
    assert len({end.token_ids for _, end in together}) > 1


async def test_a_stream_brings_the_text_piece_by_piece_and_the_tokens_at_its_end(
    base: BaseWeights, make_engine: Make
) -> None:
    engine = make_engine()
    text, end = await read(engine.start(request_of(base, "sing")))
    whole = [token for token in end.token_ids if token not in base.end_ids]
    assert text == base.tokenizer.decode(whole)
    assert end.policy == BASE


async def test_a_reply_begun_before_a_swap_ends_on_its_own_version(
    base: BaseWeights, policies: tuple[PolicyRef, PolicyRef], make_engine: Make
) -> None:
    """200 swaps under 16 open streams: none dropped, each token-equal to an undisturbed run of its version."""
    undisturbed = {
        policy.version: {
            question: drawn[1].token_ids
            for question, drawn in zip(
                QUESTIONS,
                draw_replies(base, policy, [request_of(base, question) for question in QUESTIONS]),
                strict=True,
            )
        }
        for policy in (BASE, *policies)
    }
    engine = make_engine(max_batch=16)
    for policy in policies:
        engine.load(policy)
    swaps, ended, versions_seen = 0, 0, set()

    async def chat(place: int) -> None:
        nonlocal ended
        turn = place
        while swaps < 200:
            question = QUESTIONS[turn % len(QUESTIONS)]
            stream = engine.start(request_of(base, question))
            _, end = await read(stream)
            assert end.policy == stream.policy
            assert end.token_ids == undisturbed[end.policy.version][question]
            versions_seen.add(end.policy.version)
            ended += 1
            turn += 1

    async def swap() -> None:
        nonlocal swaps
        order = [*policies, BASE]
        while swaps < 200:
            target = order[swaps % 3]
            await asyncio.to_thread(engine.load, target)
            engine.make_live(target.version)
            swaps += 1
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(swap())
        for place in range(16):
            tasks.create_task(chat(place))
    assert ended >= 16
    assert versions_seen == {1, 2, 3}


async def test_an_old_generation_is_freed_when_its_last_reply_ends(
    base: BaseWeights, policies: tuple[PolicyRef, PolicyRef], make_engine: Make
) -> None:
    engine = make_engine()
    stream = engine.start(request_of(base, "tell me a story", Sampling(temperature=0, max_tokens=200)))
    engine.load(policies[0])
    engine.make_live(2)
    assert engine.live.version == 2
    await read(stream)
    for _ in range(200):
        if set(engine.loaded_versions) == {2}:
            break
        await asyncio.sleep(0.01)
    assert set(engine.loaded_versions) == {2}


async def test_live_and_canary_are_served_at_once_each_by_its_own_weights(
    base: BaseWeights, policies: tuple[PolicyRef, PolicyRef], make_engine: Make
) -> None:
    alone = {
        policy.version: draw_replies(base, policy, [request_of(base, "sing")])[0][1].token_ids
        for policy in (BASE, policies[0])
    }
    assert alone[1] != alone[2]
    engine = make_engine()
    with pytest.raises(VersionNotServed):
        engine.start(replace(request_of(base, "sing"), version=2))
    with pytest.raises(LookupError, match="version 2 is not loaded"):
        engine.make_live(1, canary=2)
    engine.load(policies[0])
    engine.make_live(1, canary=2)
    streams = [engine.start(replace(request_of(base, "sing"), version=version)) for version in (None, 2) * 4]
    for stream, version in zip(streams, (1, 2) * 4, strict=True):
        _, end = await read(stream)
        assert (end.policy, end.token_ids) == (stream.policy, alone[version])
        assert end.policy.version == version


async def test_a_canary_that_ends_finishes_its_replies_and_takes_no_more(
    base: BaseWeights, policies: tuple[PolicyRef, PolicyRef], make_engine: Make
) -> None:
    engine = make_engine()
    engine.load(policies[0])
    engine.make_live(1, canary=2)
    long = Sampling(temperature=0, max_tokens=200)
    stream = engine.start(replace(request_of(base, "tell me a story", long), version=2))
    engine.make_live(1)
    with pytest.raises(VersionNotServed):
        engine.start(replace(request_of(base, "sing"), version=2))
    _, end = await read(stream)
    assert (end.policy.version, end.finish_reason) in {(2, "stop"), (2, "length")}
    for _ in range(200):
        if set(engine.loaded_versions) == {1}:
            break
        await asyncio.sleep(0.01)
    assert set(engine.loaded_versions) == {1}


async def test_a_cancelled_reply_stops_and_frees_its_row(base: BaseWeights, make_engine: Make) -> None:
    engine = make_engine()
    stream = engine.start(request_of(base, "sing", Sampling(temperature=1, max_tokens=1500, seed=1)))
    stream.cancel()
    _, end = await read(stream)
    assert end.finish_reason in {"cancelled", "stop"}
    assert len(end.token_ids) < 1500


async def test_a_full_queue_and_a_long_prompt_are_refused(base: BaseWeights, make_engine: Make) -> None:
    engine = make_engine(max_batch=1, queue_limit=1, max_context_tokens=256)
    streams = []
    with pytest.raises(QueueFull):
        for _ in range(20):
            streams.append(engine.start(request_of(base, "sing", Sampling(temperature=1, max_tokens=200, seed=3))))
    with pytest.raises(PromptTooLong, match="at most 255"):
        engine.start(request_of(base, "x" * 4000))
    for stream in streams:
        stream.cancel()


async def test_one_who_floods_the_queue_delays_others_by_a_turn_and_leaves_them_room(
    base: BaseWeights, make_engine: Make
) -> None:
    engine = make_engine(max_batch=1, queue_limit=8)
    short = Sampling(temperature=0, max_tokens=4)
    order: list[str] = []

    async def drain(name: str, stream: TorchStream) -> None:
        await read(stream)
        order.append(name)

    def ask(user: str | None) -> TorchStream:
        return engine.start(replace(request_of(base, "sing", short), user=user))

    with engine._lock:  # nothing is drawn until everybody has asked
        floods = [ask("flood") for _ in range(4)]
        with pytest.raises(QueueFull, match="4 requests of this user wait already") as refused:
            ask("flood")
        others = {name: ask(name) for name in ("anna", "ben")}
        nameless = ask(None)
        with pytest.raises(QueueFull, match="4 requests of this user"):
            ask("flood")
        last = ask("eve")
        with pytest.raises(QueueFull, match="the reply queue is full"):
            ask("dora")
    assert refused.value.own == 4 and refused.value.retry_after_s >= 1
    async with asyncio.TaskGroup() as tasks:
        for name, stream in (*others.items(), ("nameless", nameless), ("eve", last), *(("flood", s) for s in floods)):
            tasks.create_task(drain(name, stream))
    assert order == ["flood", "anna", "ben", "nameless", "eve", "flood", "flood", "flood"]


async def test_a_request_that_is_cancelled_in_the_queue_gives_its_place_back(
    base: BaseWeights, make_engine: Make
) -> None:
    engine = make_engine(max_batch=1, queue_limit=2)
    with engine._lock:
        waiting = [engine.start(replace(request_of(base, "sing"), user=user)) for user in "ab"]
        waiting[0].cancel()
    _, end = await read(waiting[0])
    assert end.finish_reason == "cancelled" and end.token_ids == ()
    _, end = await read(waiting[1])
    assert end.finish_reason in {"stop", "length"}
    assert engine.loaded_versions == {1: 0}


async def test_the_queue_is_bounded_over_live_and_canary_together(
    base: BaseWeights, policies: tuple[PolicyRef, PolicyRef], make_engine: Make
) -> None:
    engine = make_engine(queue_limit=2)
    engine.load(policies[0])
    engine.make_live(1, canary=2)
    with engine._lock:
        for user, version in (("a", None), ("b", 2)):
            engine.start(replace(request_of(base, "sing"), user=user, version=version)).cancel()
        with pytest.raises(QueueFull):
            engine.start(replace(request_of(base, "sing"), user="c"))


async def test_a_closing_engine_finishes_what_runs_and_takes_no_more(base: BaseWeights, make_engine: Make) -> None:
    engine = make_engine()
    stream = engine.start(request_of(base, "sing"))
    await asyncio.to_thread(engine.close, 10)
    _, end = await read(stream)
    assert end.finish_reason in {"stop", "length"}
    with pytest.raises(EngineClosed):
        engine.start(request_of(base, "sing"))


def test_a_reply_stops_before_its_stop_string(base: BaseWeights) -> None:
    text, _ = draw_replies(base, BASE, [request_of(base, "sing")])[0]
    stop = text[5:8]
    cut, end = draw_replies(
        base, BASE, [request_of(base, "sing", Sampling(temperature=0, max_tokens=24, stop=(stop,)))]
    )[0]
    assert cut == text[: text.index(stop)]
    assert end.finish_reason == "stop"


def test_a_step_that_fails_ends_its_replies_and_the_engine_goes_on(
    base: BaseWeights, make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    batch = next(iter(engine._generations.values())).batch

    def broken() -> int:
        raise MemoryError("planted")

    async def scenario() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(batch, "step", broken)
            _, end = await read(engine.start(request_of(base, "sing")))
            assert end.finish_reason == "cancelled"
        _, end = await read(engine.start(request_of(base, "sing")))
        assert end.finish_reason in {"stop", "length"}

    asyncio.run(scenario())
