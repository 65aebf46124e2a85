"""The engine over vLLM servers: attribution, one reply one policy, and swaps, against stand-ins over real HTTP."""

import asyncio
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks._adapters_made import sealed_policy, write_adapter
from feedback_store.records import Sampling
from serving.adapters import seal_adapter
from serving.engine import (
    AdapterRefused,
    EngineClosed,
    EngineUnavailable,
    PolicyRef,
    PromptTooLong,
    QueueFull,
    ReplyDelta,
    ReplyEnd,
    ReplyRequest,
)
from serving.settings import ServingSettings
from tests.serving.vllm_fake import BASE, LONGEST_TOKENS, FakeVllm, reply_of
from tests.waiting import until_async

pytestmark = pytest.mark.anyio

GREEDY = Sampling(temperature=0, max_tokens=24)
ENDLESS = Sampling(temperature=0, max_tokens=400)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def policies(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PolicyRef, PolicyRef]:
    work = tmp_path_factory.mktemp("sealed")
    return (
        sealed_policy(work, tiny_model_dir, version=2, seed=2),
        sealed_policy(work, tiny_model_dir, version=3, seed=3),
    )


def name_of(policy: PolicyRef) -> str:
    return f"policy-{policy.adapter_sha256}" if policy.adapter_sha256 else BASE


def prompt_of(engine, question: str = "sing") -> tuple[int, ...]:
    return engine.render(({"role": "user", "content": question},))[1]


def lasting_prompt(engine, model: str = BASE) -> tuple[int, ...]:
    """A prompt whose reply goes on for at least 100 tokens."""
    prompts = (prompt_of(engine, f"question {number}") for number in range(1000))
    return next(prompt for prompt in prompts if len(reply_of(model, prompt, 100)[0]) == 100)


async def read(stream) -> tuple[str, ReplyEnd]:
    text = ""
    async for item in stream:
        if isinstance(item, ReplyEnd):
            return text, item
        assert isinstance(item, ReplyDelta)
        text += item.text
    raise AssertionError("a stream ended without its end")


async def test_a_reply_is_the_servers_tokens_with_their_summed_log_probability(
    make_vllm, make_gateway, gateway_base
) -> None:
    fake = make_vllm()
    engine = make_gateway(fake)
    prompt = prompt_of(engine)
    text, end = await read(engine.start(ReplyRequest(prompt, GREEDY)))
    token_ids, logprob = reply_of(BASE, prompt, GREEDY.max_tokens)
    assert end.token_ids == token_ids
    assert end.logprob_nats == pytest.approx(logprob)
    assert end.policy == PolicyRef(1)
    assert text == gateway_base.tokenizer.decode([token for token in token_ids if token != 2])
    assert end.finish_reason == ("stop" if token_ids[-1] == 2 else "length")


async def test_every_sampling_parameter_is_said_and_prompt_logprobs_are_never_asked_for(
    make_vllm, make_gateway
) -> None:
    """What is left out vLLM takes from the model's generation_config.json; prompt_logprobs end its engine."""
    fake = make_vllm()
    engine = make_gateway(fake)
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=20, stop=("zz",), seed=-3)
    await read(engine.start(ReplyRequest(prompt_of(engine), sampling)))
    (body,) = fake.replies_to(BASE)
    assert (body["temperature"], body["top_p"], body["stop"]) == (0.5, 0.9, ["zz"])
    assert 0 <= body["seed"] < 2**63
    neutral = {"top_k": 0, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
    assert {name: body[name] for name in neutral} == neutral
    assert body["prompt"] == list(prompt_of(engine))
    assert not any("prompt_logprobs" in asked for asked in fake.posted("/v1/completions"))


@pytest.mark.parametrize("deaf_to_stops", [False, True])
@pytest.mark.parametrize("tokens_a_chunk", [1, 7])
async def test_a_reply_stops_before_its_stop_string_however_the_tokens_are_packed(
    make_vllm, make_gateway, gateway_base, tokens_a_chunk: int, deaf_to_stops: bool
) -> None:
    """Its tokens end with the one that completes the stop string, also where the server draws more."""
    engine = make_gateway(make_vllm(tokens_a_chunk=tokens_a_chunk, deaf_to_stops=deaf_to_stops))
    decode = gateway_base.tokenizer.decode
    prompt = lasting_prompt(engine)
    text, _ = await read(engine.start(ReplyRequest(prompt, GREEDY)))
    stop = text[9:12]
    cut, end = await read(engine.start(ReplyRequest(prompt, Sampling(temperature=0, max_tokens=24, stop=(stop,)))))
    assert cut == text[: text.index(stop)]
    assert end.finish_reason == "stop"
    assert end.token_ids == reply_of(BASE, prompt, len(end.token_ids))[0]
    assert stop in decode(end.token_ids) and stop not in decode(end.token_ids[:-1])


async def test_no_reply_is_of_two_policies_when_versions_are_swapped_under_load(
    make_vllm, make_gateway, policies
) -> None:
    """30 swaps over two servers under 12 open streams: each reply is, token by token, its own version's."""
    engine = make_gateway(make_vllm(step_s=0.001), make_vllm(step_s=0.001))
    swaps, ended, versions_seen = 0, 0, set()

    async def chat(place: int) -> None:
        nonlocal ended
        turn = place
        while swaps < 30:
            prompt = prompt_of(engine, f"question {turn}")
            stream = engine.start(ReplyRequest(prompt, GREEDY))
            _, end = await read(stream)
            assert end.policy == stream.policy
            assert end.token_ids == reply_of(name_of(end.policy), prompt, GREEDY.max_tokens)[0]
            versions_seen.add(end.policy.version)
            ended, turn = ended + 1, turn + 12

    async def swap() -> None:
        nonlocal swaps
        order = [*policies, PolicyRef(1)]
        while swaps < 30:
            target = order[swaps % 3]
            await asyncio.to_thread(engine.load, target)
            engine.make_live(target.version)
            swaps += 1
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(swap())
        for place in range(12):
            tasks.create_task(chat(place))
    assert ended >= 30
    assert versions_seen == {1, 2, 3}


async def test_an_adapter_is_loaded_from_its_sealed_folder_warmed_and_unloaded_after_its_last_reply(
    make_vllm, make_gateway, policies
) -> None:
    fake = make_vllm(step_s=0.003)
    engine = make_gateway(fake)
    first, second = policies
    await asyncio.to_thread(engine.load, first)
    assert fake.posted("/v1/load_lora_adapter") == [{"lora_name": name_of(first), "lora_path": str(first.adapter_dir)}]
    assert [body["max_tokens"] for body in fake.posted("/v1/completions") if body["model"] == name_of(first)] == [1]
    engine.make_live(2)
    prompt = lasting_prompt(engine, name_of(first))
    stream = engine.start(ReplyRequest(prompt, Sampling(temperature=0, max_tokens=100)))
    await asyncio.to_thread(engine.load, second)
    engine.make_live(3)
    assert engine.live == second and engine.loaded_versions == {2: 1, 3: 0}
    _, end = await read(stream)
    assert end.token_ids == reply_of(name_of(first), prompt, 100)[0]
    await until_async(lambda: list(fake.adapters) == [name_of(second)])
    (unloaded,) = fake.posted("/v1/unload_lora_adapter")
    assert (unloaded["lora_name"], unloaded["under_way"]) == (name_of(first), 0)
    assert not any("load_inplace" in body for body in fake.posted("/v1/load_lora_adapter"))


async def test_the_folder_is_named_as_the_servers_see_it(make_vllm, make_gateway, policies) -> None:
    fake = make_vllm()
    engine = make_gateway(fake, adapters_dir="/mnt/adapters/")
    await asyncio.to_thread(engine.load, policies[0])
    assert fake.adapters[name_of(policies[0])] == f"/mnt/adapters/{policies[0].adapter_sha256}"


async def test_a_version_that_comes_back_while_it_drains_is_not_loaded_again(make_vllm, make_gateway, policies) -> None:
    fake = make_vllm(step_s=0.003)
    engine = make_gateway(fake)
    await asyncio.to_thread(engine.load, policies[0])
    engine.make_live(2)
    stream = engine.start(ReplyRequest(lasting_prompt(engine, name_of(policies[0])), ENDLESS))
    engine.load(PolicyRef(1))
    engine.make_live(1)
    await asyncio.to_thread(engine.load, policies[0])
    engine.make_live(2)
    stream.cancel()
    await read(stream)
    assert list(fake.adapters) == [name_of(policies[0])]
    assert len(fake.posted("/v1/load_lora_adapter")) == 1


async def test_an_adapter_that_a_server_refuses_changes_nothing(make_vllm, make_gateway, policies) -> None:
    fake = make_vllm(load_status=500)
    engine = make_gateway(fake)
    with pytest.raises(AdapterRefused, match="max_lora_rank 8"):
        await asyncio.to_thread(engine.load, policies[0])
    assert engine.live == PolicyRef(1) and engine.loaded_versions == {1: 0}
    _, end = await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    assert end.policy.version == 1
    fake.load_status = 200
    await asyncio.to_thread(engine.load, policies[0])  # tried again at once when it is asked for


async def test_an_adapter_with_nan_never_reaches_a_server(make_vllm, make_gateway, tiny_model_dir, tmp_path) -> None:
    source = write_adapter(tmp_path / "source", tiny_model_dir, seed=4)
    tensors = load_file(source / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, source / "adapter_model.safetensors")
    fake = make_vllm()
    engine = make_gateway(fake)
    base_model = engine._base.fingerprint
    sha256 = seal_adapter(source, tmp_path / "adapters", base_model=base_model, parent=1, round_id=None)
    with pytest.raises(AdapterRefused, match="NaN"):
        engine.load(PolicyRef(2, sha256, tmp_path / "adapters" / sha256))
    assert fake.posted("/v1/load_lora_adapter") == []


async def test_a_cancelled_reply_stops_at_the_server_too(make_vllm, make_gateway) -> None:
    fake = make_vllm(step_s=0.005)
    engine = make_gateway(fake)
    stream = engine.start(ReplyRequest(lasting_prompt(engine), ENDLESS))
    await anext(aiter(stream))
    stream.cancel()
    _, end = await read(stream)
    assert end.finish_reason == "cancelled"
    assert 0 < len(end.token_ids) < 100
    await until_async(lambda: fake.aborted == 1 and fake.under_way == 0)
    assert engine.loaded_versions == {1: 0}


async def test_a_reply_cancelled_before_it_began_ends(make_vllm, make_gateway) -> None:
    engine = make_gateway(make_vllm())
    stream = engine.start(ReplyRequest(prompt_of(engine), ENDLESS))
    stream.cancel()
    _, end = await read(stream)
    assert end.finish_reason in {"cancelled", "stop", "length"}
    assert engine.loaded_versions == {1: 0}


async def test_prompts_that_are_too_long_are_refused_and_replies_end_with_the_servers_context(
    make_vllm, make_gateway
) -> None:
    engine = make_gateway(make_vllm())
    with pytest.raises(PromptTooLong, match=f"at most {LONGEST_TOKENS - 1}"):
        engine.start(ReplyRequest((5,) * LONGEST_TOKENS, GREEDY))
    _, end = await read(engine.start(ReplyRequest((5,) * (LONGEST_TOKENS - 2), GREEDY)))
    assert len(end.token_ids) <= 2


async def test_more_replies_than_the_servers_may_hold_are_refused(make_vllm, make_gateway) -> None:
    engine = make_gateway(make_vllm(step_s=0.05), serving=ServingSettings(max_batch=1, queue_limit=2))
    streams = [engine.start(ReplyRequest(lasting_prompt(engine), ENDLESS)) for _ in range(3)]
    with pytest.raises(QueueFull):
        engine.start(ReplyRequest(prompt_of(engine), GREEDY))
    for stream in streams:
        stream.cancel()


async def test_a_closing_engine_finishes_what_runs_and_takes_no_more(make_vllm, make_gateway) -> None:
    engine = make_gateway(make_vllm(step_s=0.005))
    stream = engine.start(ReplyRequest(prompt_of(engine), GREEDY))
    await asyncio.to_thread(engine.close, 10)
    _, end = await read(stream)
    assert end.finish_reason in {"stop", "length"}
    with pytest.raises(EngineClosed):
        engine.start(ReplyRequest(prompt_of(engine), GREEDY))


async def test_without_a_server_nothing_is_admitted_and_one_that_comes_is_used(
    make_vllm, make_gateway, policies
) -> None:
    fake = make_vllm()
    fake.kill()
    engine = make_gateway(fake, first=policies[0], ready=False)
    with pytest.raises(EngineUnavailable):
        engine.start(ReplyRequest(prompt_of(engine), GREEDY))
    with pytest.raises(EngineUnavailable):
        await asyncio.to_thread(engine.load, policies[1])
    assert set(engine.loaded_versions) == {2}
    fake.start()
    await until_async(lambda: engine.replicas()[0].serving)
    _, end = await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    assert end.policy == policies[0]


def test_only_the_few_paths_that_are_needed_are_ever_asked_for(make_vllm, make_gateway, policies) -> None:
    fake: FakeVllm = make_vllm()
    engine = make_gateway(fake)
    engine.load(policies[0])
    asked = fake.paths | {path for path, _ in fake.bodies}
    assert asked == {"/health", "/v1/models", "/tokenize", "/v1/completions", "/v1/load_lora_adapter"}
