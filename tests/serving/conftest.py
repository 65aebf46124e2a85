"""The real application over a real store, with the engine of words in place of a model."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from benchmarks._word_engine import WordEngine
from feedback_store.store import Store
from feedback_store.versions import add_candidate, bootstrap
from serving.api import ApiContext, create_app
from serving.api.connections import ConnectionLimits
from serving.api.server import LIMITS, listen, server_of
from serving.engine import PolicyRef
from serving.engine.vllm.base import GatewayBase
from serving.engine.vllm.engine import VllmEngine
from serving.settings import PolicySettings, ServingSettings, VllmSettings
from tests.databases import url_of
from tests.serving.vllm_fake import FakeVllm

ADMIN_TOKEN = "correct-horse"
BASE_POLICY = PolicyRef(1)
ADMIN_HEADERS = {"authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture
def store(tmp_path):
    with Store.open(url_of(tmp_path)) as store:
        store.write(bootstrap, "words")
        yield store


@pytest.fixture
def words():
    return WordEngine()


@pytest.fixture
def context(store, words, tmp_path):
    return ApiContext(
        store=store,
        engine=words,
        rater_key=b"k" * 32,
        admin_token=ADMIN_TOKEN,
        data_dir=tmp_path,
        serving=ServingSettings(drain_timeout_s=1, max_reply_tokens=64, default_reply_tokens=16),
    )


@pytest.fixture
def client(context):
    return TestClient(create_app(context), base_url="http://127.0.0.1:8080", raise_server_exceptions=False)


@pytest.fixture
def admin(client):
    """The same application, asked by the admin."""
    return TestClient(client.app, base_url="http://127.0.0.1:8080", headers=ADMIN_HEADERS)


@pytest.fixture
def candidate(store):
    """Version 2, ready to be promoted."""
    return store.write(
        add_candidate,
        base_model="words",
        adapter_sha256="a" * 64,
        parent=1,
        method="kto",
        round_id=None,
        gate_report=None,
        metrics={},
    )


@pytest.fixture
def chat(client) -> Callable:
    """Ask for a reply and return the completion."""

    def ask(text="hello", **fields):
        answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}], **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@contextmanager
def serving_on_a_port(
    context: ApiContext, app: FastAPI | None = None, limits: ConnectionLimits = LIMITS
) -> Iterator[str]:
    """Run the application under uvicorn on a free loopback port; gives its URL."""
    server = server_of(app or create_app(context), context.serving, limits)
    listener = listen(context.serving.model_copy(update={"port": 0}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)  # bound from the first, but refusing until then
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


@pytest.fixture
def base_url(context):
    """The application under uvicorn, for what only a real connection shows."""
    context.close_parts = False
    with serving_on_a_port(context) as url:
        yield url


@pytest.fixture(scope="session")
def gateway_base(tiny_model_dir) -> GatewayBase:
    """The tokenizer's half of the tiny model."""
    return GatewayBase(tiny_model_dir, PolicySettings())


@pytest.fixture
def make_vllm(gateway_base) -> Iterator[Callable[..., FakeVllm]]:
    """Start stand-ins for vLLM servers; attributes may be given."""
    made: list[FakeVllm] = []

    def make(**attributes) -> FakeVllm:
        fake = FakeVllm(gateway_base.tokenizer)
        for name, value in attributes.items():
            setattr(fake, name, value)
        fake.start()
        made.append(fake)
        return fake

    yield make
    for fake in made:
        fake.kill()


@pytest.fixture
def make_gateway(gateway_base) -> Iterator[Callable[..., VllmEngine]]:
    """Start engines over stand-ins, with waits short enough for a test; they are closed at its end."""
    made: list[VllmEngine] = []

    def make(*fakes: FakeVllm, first=BASE_POLICY, api_key=None, serving=None, ready=True, **settings) -> VllmEngine:
        quick = {"look_every_s": 0.05, "lag_timeout_s": 0.3, "failover_s": 30}
        vllm = VllmSettings(replicas=tuple(fake.url for fake in fakes), **{**quick, **settings})
        engine = VllmEngine(gateway_base, serving or ServingSettings(), vllm, first, api_key)
        made.append(engine)
        if ready:
            until(lambda: all(state.serving for state in engine.replicas()))
        return engine

    yield make
    for engine in made:
        engine.close(0)


def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Poll for a condition that another thread brings about."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
