"""vLLM servers that crash, restart, lag, refuse, lie or are full: no reply is lost that another could finish, and none
is served that could not be trusted."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from benchmarks._adapters_made import sealed_policy
from feedback_store.records import Sampling
from serving.engine import EngineUnavailable, PolicyRef, QueueFull, ReplyRequest
from tests.serving.test_vllm_engine import ENDLESS, GREEDY, lasting_prompt, name_of, prompt_of, read
from tests.serving.vllm_fake import BASE, reply_of
from tests.waiting import until_async

pytestmark = pytest.mark.anyio

HUNDRED = Sampling(temperature=0, max_tokens=100)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def policy(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> PolicyRef:
    return sealed_policy(tmp_path_factory.mktemp("sealed"), tiny_model_dir, version=2, seed=2)


async def test_a_reply_whose_only_server_restarts_goes_on_where_it_was(make_vllm, make_gateway, policy) -> None:
    """The server forgets its adapters; they are loaded again before anything is drawn, and no token differs."""
    fake = make_vllm(step_s=0.001)
    engine = make_gateway(fake, first=policy)
    prompt = lasting_prompt(engine, name_of(policy))
    fake.dies_after_tokens = 40
    _, end = await read(engine.start(ReplyRequest(prompt, HUNDRED)))
    token_ids, logprob = reply_of(name_of(policy), prompt, 100)
    assert end.token_ids == token_ids
    assert end.logprob_nats == pytest.approx(logprob)
    assert len(fake.posted("/v1/load_lora_adapter")) == 2
    first, second = fake.replies_to(name_of(policy))
    assert second["prompt"][: len(prompt)] == first["prompt"]
    assert second["max_tokens"] == 100 - (len(second["prompt"]) - len(prompt))


async def test_replies_move_from_a_crashed_server_to_the_other(make_vllm, make_gateway) -> None:
    one, other = make_vllm(step_s=0.002), make_vllm(step_s=0.002)
    engine = make_gateway(one, other)
    prompt = lasting_prompt(engine)
    streams = [engine.start(ReplyRequest(prompt, HUNDRED)) for _ in range(8)]
    await until_async(lambda: one.under_way == 4 and other.under_way == 4)
    await asyncio.to_thread(one.kill)
    ends = [end for _, end in await asyncio.gather(*(read(stream) for stream in streams))]
    assert {end.token_ids for end in ends} == {reply_of(BASE, prompt, 100)[0]}
    assert {end.finish_reason for end in ends} == {"length"}
    states = {state.url: state for state in engine.replicas()}
    assert states[other.url].serving and not states[one.url].serving
    assert states[one.url].trouble == "it cannot be connected to"


async def test_an_adapter_that_a_server_has_lost_is_loaded_again_before_it_is_used(
    make_vllm, make_gateway, policy
) -> None:
    fake = make_vllm()
    engine = make_gateway(fake, first=policy, look_every_s=30)
    fake.adapters.clear()  # restarted, faster than anyone looks
    prompt = prompt_of(engine)
    _, end = await read(engine.start(ReplyRequest(prompt, GREEDY)))
    assert end.token_ids == reply_of(name_of(policy), prompt, GREEDY.max_tokens)[0]
    assert list(fake.adapters) == [name_of(policy)]


async def test_a_seeded_reply_that_moves_does_not_draw_the_same_numbers_again(make_vllm, make_gateway) -> None:
    one, other = make_vllm(dies_after_tokens=40), make_vllm(dies_after_tokens=40)
    engine = make_gateway(one, other)
    await read(engine.start(ReplyRequest(lasting_prompt(engine), Sampling(temperature=1, max_tokens=100, seed=11))))
    seeds = {body["seed"] for fake in (one, other) for body in fake.replies_to(BASE)}
    assert 11 in seeds and len(seeds) > 1


async def test_a_reply_that_nobody_can_finish_ends_as_cancelled_with_what_was_drawn(make_vllm, make_gateway) -> None:
    fake = make_vllm(step_s=0.005)
    engine = make_gateway(fake, failover_s=0.2)
    prompt = lasting_prompt(engine)
    stream = engine.start(ReplyRequest(prompt, HUNDRED))
    await anext(aiter(stream))
    await asyncio.to_thread(fake.kill)
    _, end = await read(stream)
    assert end.finish_reason == "cancelled"
    assert 0 < len(end.token_ids) < 100
    assert end.token_ids == reply_of(BASE, prompt, len(end.token_ids))[0]


async def test_a_reply_that_nobody_can_begin_is_an_error(make_vllm, make_gateway) -> None:
    fake = make_vllm()
    engine = make_gateway(fake, failover_s=0.2)
    fake.completion_status = 500
    with pytest.raises(EngineUnavailable, match="serves version 1"):
        await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    assert engine.loaded_versions == {1: 0}


async def test_a_server_that_fails_replies_does_not_draw_all_of_them_to_itself(make_vllm, make_gateway) -> None:
    """It is always idle, so the least busy choice alone would send it everything first. It is left alone for twice as
    long after each failure, up to 5 s."""
    bad, good = make_vllm(), make_vllm()
    engine = make_gateway(bad, good)
    bad.completion_status = 500
    began = time.monotonic()
    for number in range(20):
        prompt = prompt_of(engine, f"question {number}")
        _, end = await read(engine.start(ReplyRequest(prompt, GREEDY)))
        assert end.token_ids == reply_of(BASE, prompt, GREEDY.max_tokens)[0]
    assert len(good.replies_to(BASE)) == 20
    assert len(bad.replies_to(BASE)) <= 7 + (time.monotonic() - began) / 5


async def test_a_full_server_is_passed_over_and_when_all_are_full_the_caller_hears_when_to_return(
    make_vllm, make_gateway
) -> None:
    one, other = make_vllm(), make_vllm()
    engine = make_gateway(one, other)
    one.completion_status = 429
    for _ in range(4):
        await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    assert len(other.replies_to(BASE)) == 4
    other.completion_status = 503
    with pytest.raises(QueueFull) as caught:
        await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    assert caught.value.retry_after_s == 7


async def test_a_silent_server_loses_its_replies_to_the_other(make_vllm, make_gateway) -> None:
    one, other = make_vllm(), make_vllm()
    engine = make_gateway(one, other, token_timeout_s=0.5)
    one.silent = True
    prompt = prompt_of(engine)
    ends = await asyncio.gather(*(read(engine.start(ReplyRequest(prompt, GREEDY))) for _ in range(4)))
    assert {end.token_ids for _, end in ends} == {reply_of(BASE, prompt, GREEDY.max_tokens)[0]}
    assert one.aborted > 0


async def test_replies_are_spread_over_two_servers_and_the_less_busy_one_is_chosen(make_vllm, make_gateway) -> None:
    one, other = make_vllm(step_s=0.01), make_vllm(step_s=0.01)
    engine = make_gateway(one, other)
    prompt = lasting_prompt(engine)
    streams = [engine.start(ReplyRequest(prompt, ENDLESS)) for _ in range(10)]
    await until_async(lambda: one.under_way + other.under_way == 10)
    assert (one.most_under_way, other.most_under_way) == (5, 5)
    assert {state.in_flight for state in engine.replicas()} == {5}
    gone = next(stream for stream in streams)
    gone.cancel()
    await read(gone)
    await until_async(lambda: one.under_way + other.under_way == 9)
    lighter = one if one.under_way == 4 else other
    streams.append(engine.start(ReplyRequest(prompt, ENDLESS)))
    await until_async(lambda: lighter.under_way == 5)
    for stream in streams:
        stream.cancel()


async def test_a_server_that_lags_holds_up_no_promote_and_gets_the_version_when_it_has_loaded_it(
    make_vllm, make_gateway, policy
) -> None:
    quick, slow = make_vllm(), make_vllm(loads_held=True)
    engine = make_gateway(quick, slow, lag_timeout_s=0.1)
    await asyncio.to_thread(engine.load, policy)
    engine.make_live(2)
    assert [state.serving for state in engine.replicas()] == [True, False]
    for _ in range(4):
        _, end = await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
        assert end.policy == policy
    assert len(quick.replies_to(name_of(policy))) == 4
    slow.loads_held = False
    await until_async(lambda: all(state.serving for state in engine.replicas()))
    for _ in range(2):
        await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    assert len(slow.replies_to(name_of(policy))) > 0


async def test_a_promote_waits_a_little_so_that_all_servers_have_the_version(make_vllm, make_gateway, policy) -> None:
    engine = make_gateway(make_vllm(), make_vllm(load_lag_s=0.4), lag_timeout_s=10)
    await asyncio.to_thread(engine.load, policy)
    engine.make_live(2)
    assert [state.serving for state in engine.replicas()] == [True, True]


async def test_a_server_that_says_it_is_unwell_gets_no_request(make_vllm, make_gateway) -> None:
    one, other = make_vllm(), make_vllm()
    engine = make_gateway(one, other)
    one.health_status = 503
    await until_async(lambda: not engine.replicas()[0].serving)
    for _ in range(3):
        await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    assert one.replies_to(BASE) == []
    one.health_status = 200
    await until_async(lambda: engine.replicas()[0].serving)


async def test_a_server_with_another_tokenizer_is_not_used(make_vllm, make_gateway, gateway_base) -> None:
    class Shifted:
        def encode(self, text: str, **options: object) -> list[int]:
            return [token + 1 for token in gateway_base.tokenizer.encode(text, **options)]

    fake = make_vllm(tokenizer=Shifted())
    engine = make_gateway(fake, ready=False)
    await until_async(lambda: "tokenizer" in (engine.replicas()[0].trouble or ""))
    with pytest.raises(EngineUnavailable):
        engine.start(ReplyRequest(prompt_of(engine), GREEDY))


async def test_a_server_whose_log_probabilities_are_not_the_models_own_is_not_used(make_vllm, make_gateway) -> None:
    engine = make_gateway(make_vllm(processed_logprobs=True), ready=False)
    await until_async(lambda: "raw_logprobs" in (engine.replicas()[0].trouble or ""))


async def test_a_server_that_serves_another_model_names_both(make_vllm, make_gateway) -> None:
    engine = make_gateway(make_vllm(), ready=False, served_model="other")
    await until_async(lambda: "no base model 'other'" in (engine.replicas()[0].trouble or ""))


async def test_the_api_key_is_sent_and_logged_nowhere(make_vllm, make_gateway, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    key = "key-of-the-replicas"
    fake = make_vllm(api_key=key)
    engine = make_gateway(fake, api_key=key)
    await read(engine.start(ReplyRequest(prompt_of(engine), GREEDY)))
    wrong = make_gateway(fake, api_key="another-key", ready=False)
    await until_async(lambda: "THUMBWISE_VLLM_API_KEY" in (wrong.replicas()[0].trouble or ""))
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("serving"))
    assert "replica there" in ours
    assert key not in caplog.text and "another-key" not in caplog.text
