"""`thumbwise up` over vLLM servers: composed from its settings, ready when they are, and examined by `doctor`."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.engine.base_model import load_tokenizer
from tests.command.conftest import Running, start_server, stop_server
from tests.command.test_command import thumbwise
from tests.serving.vllm_fake import FakeVllm, reply_of


@pytest.fixture
def fake(tiny_model_dir: Path) -> Iterator[FakeVllm]:
    fake = FakeVllm(load_tokenizer(tiny_model_dir))
    fake.start()
    yield fake
    fake.kill()


@pytest.fixture
def served(fake: FakeVllm, tmp_path: Path, tiny_model_dir: Path) -> Iterator[Running]:
    data = tmp_path / "data"
    data.mkdir()
    (data / "thumbwise.toml").write_text(f'[policy]\nengine = "vllm"\n[vllm]\nreplicas = ["{fake.url}"]\n')
    server = start_server(data, tiny_model_dir)
    yield server
    assert stop_server(server) == 0


def test_up_serves_what_the_vllm_servers_draw(served: Running, fake: FakeVllm) -> None:
    assert httpx.get(f"{served.url}/readyz", trust_env=False).json()["replicas_serving"] == 1
    body = {"messages": [{"role": "user", "content": "sing"}], "temperature": 0, "max_tokens": 20}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, trust_env=False, timeout=30).json()
    (blank,) = fake.adapters  # as which the base model is drawn
    (sent,) = fake.replies_to(blank)
    assert answer["policy_version"] == 1
    assert answer["usage"]["completion_tokens"] == len(reply_of(blank, sent["prompt"], 20)[0])
    findings = json.loads(thumbwise("doctor", "--json", "--data", str(served.data_dir)).stdout)
    (found,) = [finding for finding in findings if finding["what"] == "vLLM server"]
    assert found["state"] == "ok" and fake.url in found["found"]


def test_doctor_says_that_a_vllm_server_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "thumbwise.toml").write_text('[policy]\nengine = "vllm"\n[vllm]\nreplicas = ["http://127.0.0.1:9"]\n')
    findings = json.loads(thumbwise("doctor", "--json", "--data", str(tmp_path)).stdout)
    (found,) = [finding for finding in findings if finding["what"] == "vLLM server"]
    assert found["state"] == "bad" and "does not answer" in found["found"]
