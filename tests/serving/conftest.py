"""The real application over a real SQLite store, with the engine of words in place of a model."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from benchmarks._word_engine import WordEngine
from feedback_store.store import Store
from feedback_store.versions import add_candidate, bootstrap
from serving.api import ApiContext, create_app
from serving.api.server import listen, server_of
from serving.settings import ServingSettings

ADMIN_TOKEN = "correct-horse"
ADMIN_HEADERS = {"authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path / 'thumbwise.db'}") as store:
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
def serving_on_a_port(context: ApiContext) -> Iterator[str]:
    """Run the application under uvicorn on a free loopback port; gives its URL."""
    server = server_of(create_app(context), context.serving)
    listener = listen(context.serving.model_copy(update={"port": 0}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
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
