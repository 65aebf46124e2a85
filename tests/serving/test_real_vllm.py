"""The engine against a real vLLM server on this machine's processor: chat, stream, cancel, swap under load, restart.

Needs a Python that has vLLM: THUMBWISE_TEST_VLLM_PYTHON names it, or it stands in .vllm/ of this checkout. vLLM has an
environment of its own because it pins other versions of transformers and fastapi than ours; `make vllm` makes
one. The model is the bundled one: the tiny model's heads are narrower than vLLM's kernels take.
"""

import asyncio
import functools
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from benchmarks._adapters_made import sealed_policy
from benchmarks._vllm_server import PYTHON_VARIABLE, START_LIMIT_S, VllmServer, free_port, python_with_vllm, view_of
from feedback_store.records import Sampling
from serving.engine import PolicyRef, ReplyEnd, ReplyRequest, VersionNotServed
from serving.engine.base_model import load_model
from serving.engine.bundled_model import ensure_bundled_model
from serving.engine.vllm.base import GatewayBase
from serving.engine.vllm.blank import blank_policy
from serving.engine.vllm.engine import VllmEngine
from serving.settings import PolicySettings, ServingSettings, VllmSettings
from tests.waiting import until, until_async

GREEDY = Sampling(temperature=0, max_tokens=32)
QUESTIONS = ("Name three birds.", "Why is the sky blue?", "Write one line about rain.")


PYTHON = python_with_vllm()
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.bundled_model,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        PYTHON is None,
        reason=f"no Python with vLLM: neither {PYTHON_VARIABLE} nor .vllm/ names one (`make vllm` makes it)",
    ),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = os.environ.get("THUMBWISE_MODELS_DIR")
    return ensure_bundled_model(Path(models) if models else tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def replica(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    assert PYTHON is not None
    view = view_of(model_dir, tmp_path_factory.mktemp("view"))
    replica = VllmServer(PYTHON, view, tmp_path_factory.mktemp("vllm") / "log.txt", free_port())
    replica.start()
    yield replica
    replica.kill()


@pytest.fixture(scope="module")
def policies(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PolicyRef, PolicyRef]:
    """Two adapters large enough that their greedy replies differ."""
    work = tmp_path_factory.mktemp("sealed")
    return (sealed_policy(work, model_dir, version=2, seed=2), sealed_policy(work, model_dir, version=3, seed=3))


@pytest.fixture
def engine(replica: VllmServer, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    base = GatewayBase(model_dir, PolicySettings())
    blank = blank_policy(base, tmp_path_factory.mktemp("blank"))
    settings = VllmSettings(replicas=(replica.url,), failover_s=START_LIMIT_S, look_every_s=0.5)
    engine = VllmEngine(base, ServingSettings(), settings, PolicyRef(1), blank=blank)
    try:
        until(lambda: engine.replicas()[0].serving)
        yield engine
    finally:
        engine.close(10)


async def last_of(engine: VllmEngine, request: ReplyRequest) -> ReplyEnd:
    last = [item async for item in engine.start(request)][-1]
    assert isinstance(last, ReplyEnd)
    return last


def prompt_of(engine: VllmEngine, question: str) -> tuple[int, ...]:
    return engine.render(({"role": "user", "content": question},))[1]


async def read(engine: VllmEngine, prompt: tuple[int, ...], sampling: Sampling = GREEDY) -> tuple[str, ReplyEnd]:
    text = ""
    async for item in engine.start(ReplyRequest(prompt, sampling)):
        if isinstance(item, ReplyEnd):
            return text, item
        text += item.text
    raise AssertionError("a stream ended without its end")


@functools.cache
def by_transformers(model_dir: Path, adapter_dir: Path | None) -> Any:
    model = load_model(model_dir, torch.float32)
    if adapter_dir is None:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter_dir)


def logprob_by_transformers(model_dir: Path, policy: PolicyRef, prompt: tuple[int, ...], end: ReplyEnd) -> float:
    model = by_transformers(model_dir, policy.adapter_dir)
    ids = torch.tensor([[*prompt, *end.token_ids]])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1].float(), -1)
    return float(logprobs.gather(1, ids[0, len(prompt) :, None]).sum())


def assert_whole(model_dir: Path, prompt: tuple[int, ...], end: ReplyEnd, others: Iterable[PolicyRef]) -> None:
    """Every token of the reply was drawn by the policy it is stamped with: its log-probability is that policy's, and no
    other's. Tokens alone would not do: in a batch of another size a near tie may turn, even in float32."""
    rounding = 0.02 * len(end.token_ids)
    assert end.logprob_nats == pytest.approx(logprob_by_transformers(model_dir, end.policy, prompt, end), abs=rounding)
    for other in others:
        if other != end.policy:
            assert logprob_by_transformers(model_dir, other, prompt, end) < end.logprob_nats - 5 * rounding


async def test_a_replys_log_probability_is_the_policys_at_temperature_1(
    engine: VllmEngine, model_dir: Path, policies: tuple[PolicyRef, PolicyRef]
) -> None:
    """Drawn at another temperature and from a nucleus, for the base model and for an adapter."""
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=24, seed=7)
    for policy in (PolicyRef(1), policies[0]):
        await asyncio.to_thread(engine.load, policy)
        engine.make_live(policy.version)
        prompt = prompt_of(engine, QUESTIONS[0])
        _, end = await read(engine, prompt, sampling)
        wanted = logprob_by_transformers(model_dir, policy, prompt, end)
        assert end.logprob_nats == pytest.approx(wanted, abs=0.02 * len(end.token_ids))


async def test_no_reply_is_of_two_policies_when_versions_are_swapped_under_load(
    engine: VllmEngine, model_dir: Path, policies: tuple[PolicyRef, PolicyRef]
) -> None:
    order = [*policies, PolicyRef(1)]
    swapping = True
    ends: list[tuple[str, ReplyEnd]] = []

    async def chat(place: int) -> None:
        turn = place
        while swapping:
            question = QUESTIONS[turn % len(QUESTIONS)]
            ends.append((question, (await read(engine, prompt_of(engine, question)))[1]))
            turn += 1

    async def swap() -> None:
        nonlocal swapping
        for policy in order * 2:
            await asyncio.to_thread(engine.load, policy)
            engine.make_live(policy.version)
            before = len(ends)
            await until_async(lambda: policy in {end.policy for _, end in ends[before:]})  # noqa: B023 - awaited here
        swapping = False

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(swap())
        for place in range(4):
            tasks.create_task(chat(place))
    assert {end.policy.version for _, end in ends} == {1, 2, 3}
    for question, end in set(ends):
        assert_whole(model_dir, prompt_of(engine, question), end, order)


async def test_a_canary_answers_beside_the_live_version_each_by_its_own_weights(
    engine: VllmEngine, replica: VllmServer, model_dir: Path, policies: tuple[PolicyRef, PolicyRef]
) -> None:
    prompt = prompt_of(engine, QUESTIONS[1])
    for policy in policies:
        await asyncio.to_thread(engine.load, policy)
    engine.make_live(2, canary=3)
    ends = await asyncio.gather(
        *(last_of(engine, ReplyRequest(prompt, GREEDY, version=version)) for version in (None, 3) * 4)
    )
    assert [end.policy.version for end in ends] == [2, 3] * 4
    for end in set(ends):
        assert_whole(model_dir, prompt, end, policies)
    await asyncio.to_thread(engine.load, PolicyRef(1))
    engine.make_live(1)
    with pytest.raises(VersionNotServed):
        engine.start(ReplyRequest(prompt, GREEDY, version=3))
    await until_async(lambda: not any(policy.adapter_sha256 in "".join(served_by(replica)) for policy in policies))  # type: ignore[operator]


async def test_a_retired_adapter_leaves_the_server(
    engine: VllmEngine, replica: VllmServer, policies: tuple[PolicyRef, PolicyRef]
) -> None:
    await asyncio.to_thread(engine.load, policies[0])
    engine.make_live(2)
    assert any(policies[0].adapter_sha256 in name for name in served_by(replica))  # type: ignore[operator]
    await asyncio.to_thread(engine.load, PolicyRef(1))
    engine.make_live(1)
    await until_async(lambda: not any(policy.adapter_sha256 in "".join(served_by(replica)) for policy in policies))  # type: ignore[operator]


async def test_a_stop_string_and_a_cancel_end_a_reply(engine: VllmEngine, replica: VllmServer) -> None:
    prompt = prompt_of(engine, QUESTIONS[1])
    text, _ = await read(engine, prompt)
    stop = text[12:16]
    cut, end = await read(engine, prompt, Sampling(temperature=0, max_tokens=32, stop=(stop,)))
    assert cut == text[: text.index(stop)] and end.finish_reason == "stop"
    stream = engine.start(ReplyRequest(prompt, Sampling(temperature=1, max_tokens=400, seed=1)))
    await anext(aiter(stream))
    stream.cancel()
    last = [item async for item in stream][-1]
    assert isinstance(last, ReplyEnd) and last.finish_reason == "cancelled"
    await until_async(lambda: "vllm:num_requests_running" in (page := metrics_of(replica)) and _running(page) == 0)


async def test_a_reply_goes_on_when_the_server_is_killed_and_started_again(
    engine: VllmEngine, replica: VllmServer, policies: tuple[PolicyRef, PolicyRef]
) -> None:
    await asyncio.to_thread(engine.load, policies[0])
    engine.make_live(2)
    prompt = prompt_of(engine, QUESTIONS[2])
    _, whole = await read(engine, prompt, Sampling(temperature=0, max_tokens=200))
    stream = engine.start(ReplyRequest(prompt, Sampling(temperature=0, max_tokens=200)))
    await anext(aiter(stream))
    replica.kill()
    restarting = threading.Thread(target=replica.start)
    restarting.start()
    last = [item async for item in stream][-1]
    await asyncio.to_thread(restarting.join)
    assert isinstance(last, ReplyEnd) and last.policy == policies[0]
    assert last.finish_reason in {"stop", "length"}
    assert last.token_ids[:4] == whole.token_ids[:4]


def served_by(replica: VllmServer) -> list[str]:
    answer = httpx.get(f"{replica.url}/v1/models", trust_env=False, timeout=10).json()
    return [card["id"] for card in answer["data"]]


def metrics_of(replica: VllmServer) -> str:
    return httpx.get(f"{replica.url}/metrics", trust_env=False, timeout=10).text


def _running(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
