"""What a scrape shows: each figure moves when what it counts happens, and the page explains every one."""

import re
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks._adapters_made import sealed_policy
from feedback_store.versions import start_canary
from serving.api.metrics import ApiMetrics
from serving.engine import PolicyRef
from serving.engine.figures import Distribution, EngineFigures, TurnMeter
from serving.engine.torch_engine import TorchEngine
from serving.engine.weights import BaseWeights
from serving.policies import PolicyFollower
from serving.settings import PolicySettings, ServingSettings
from tests.serving.conftest import serving_on_a_port

USER = [{"role": "user", "content": "hello"}]
PAGE = Path(__file__).parents[2] / "docs" / "observability.md"


def samples(text):
    """Every sample as name with labels → value."""
    return {
        name + "".join(f'{{{key}="{value}"}}' for key, value in sorted(labels.items())): value
        for family in text_string_to_metric_families(text)
        for name, labels, value, *_ in family.samples
    }


@pytest.fixture
def torch_client(context, tiny_model_dir):
    base = BaseWeights(tiny_model_dir, PolicySettings(dtype="float32", device="cpu"))
    context.engine = TorchEngine(base, ServingSettings(threads=1), PolicyRef(1))
    context.close_parts = False
    try:
        with (
            serving_on_a_port(context) as url,
            httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
        ):
            yield client
    finally:
        context.engine.close(0)


def test_a_distribution_counts_a_value_at_its_bound_within_it():
    seconds = Distribution((0.1, 1.0))
    for value, times in ((0.1, 1), (0.100001, 2), (5.0, 1), (0.05, 0)):
        seconds.add(value, times)
    assert seconds.counts == [1, 2, 1]
    assert seconds.total == pytest.approx(0.1 + 2 * 0.100001 + 5.0)


def test_a_turn_counts_each_replys_own_gap(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("serving.engine.figures.time.monotonic", lambda: clock[0])
    older, joining, reading = (SimpleNamespace(token_ids=[1] * count) for count in (5, 0, 0))
    figures = EngineFigures()
    meter = TurnMeter([older, joining, reading])
    clock[0] = 100.3
    meter.step_begins()
    older.token_ids.append(1)
    joining.token_ids += [1, 2]  # its first token before the step, its second in it
    clock[0] = 100.4
    assert meter.end(figures, turn_before_ended_at=99.9) == 100.4
    assert figures.tokens == 3
    assert sum(figures.batch_replies.counts) == 1 and figures.batch_replies.total == 2
    assert sum(figures.token_seconds.counts) == 2
    assert figures.token_seconds.total == pytest.approx(0.5 + 0.1)


def test_a_turn_without_a_token_counts_nothing_but_a_first_token_counts():
    row = SimpleNamespace(token_ids=[])
    figures = EngineFigures()
    TurnMeter([row]).end(figures, 0)
    assert figures == EngineFigures()
    meter = TurnMeter([row])
    row.token_ids.append(1)
    meter.end(figures, 0)
    assert figures.tokens == 1 and sum(figures.token_seconds.counts) == 0


def test_the_engines_figures_add_up_over_requests(torch_client):
    before = samples(torch_client.get("/metrics").text)
    assert before["thumbwise_engine_tokens_total"] == 0 == before["thumbwise_queue_seconds_count"]
    body = {"messages": USER, "max_tokens": 12, "n": 2, "temperature": 1, "seed": 3}
    drawn = torch_client.post("/v1/chat/completions", json=body).json()["usage"]["completion_tokens"]
    after = samples(torch_client.get("/metrics").text)
    assert after["thumbwise_engine_tokens_total"] == drawn == after["thumbwise_reply_tokens_total"]
    assert after["thumbwise_token_seconds_count"] == drawn - 2  # every token of two replies but their first
    assert after["thumbwise_queue_seconds_count"] == 2 == after["thumbwise_first_token_seconds_count"]
    assert drawn - 2 <= after["thumbwise_batch_replies_sum"] <= drawn
    assert after['thumbwise_batch_replies_bucket{le="+Inf"}'] == after["thumbwise_batch_replies_count"]
    assert 0 < after["thumbwise_token_seconds_sum"] < 30


def test_live_canary_and_what_finishes_are_told_apart(client, context, words):
    for version in (2, 3):
        words.load(PolicyRef(version, str(version) * 64))
    words.in_flight.update({1: 4, 2: 2, 3: 1})
    from serving.canary import CanaryShare

    context.canary = lambda: CanaryShare(2, 0.25)
    found = samples(client.get("/metrics").text)
    assert found["thumbwise_live_policy_version"] == 1 and found["thumbwise_canary_policy_version"] == 2
    assert found["thumbwise_canary_share"] == 0.25
    by_role = [found[f'thumbwise_replies_in_flight_by_role{{role="{role}"}}'] for role in ("live", "canary", "other")]
    assert by_role == [4, 2, 1] and found["thumbwise_replies_in_flight"] == 7
    assert "thumbwise_engine_tokens_total" not in found  # an engine of words takes no steps of its own
    context.canary = lambda: None
    assert samples(client.get("/metrics").text)["thumbwise_canary_policy_version"] == 0


def test_a_swap_is_timed_where_it_happens(store, candidate, words, tmp_path):
    metrics = ApiMetrics()
    follower = PolicyFollower(store, words, tmp_path / "adapters", swap_took=metrics.swap_took)
    follower.follow()
    follower.prepare(2)
    store.write(start_canary, 2, 0.5, actor="a", reason="r")
    follower.follow()
    follower.follow()  # nothing has moved
    found = samples(metrics.render().decode())
    assert found['thumbwise_swap_seconds_count{stage="load"}'] == 1
    assert found['thumbwise_swap_seconds_count{stage="switch"}'] == 2


def test_first_text_is_timed_of_whole_answers_too(client, chat):
    chat(n=2)
    assert samples(client.get("/metrics").text)["thumbwise_first_token_seconds_count"] == 2


def test_every_metric_is_explained_on_the_page_and_nothing_else_is(torch_client, tmp_path, context, tiny_model_dir):
    torch_client.post("/v1/chat/completions", json={"messages": USER, "max_tokens": 4})
    context.engine.load(sealed_policy(tmp_path, tiny_model_dir, version=2, seed=1))
    families = text_string_to_metric_families(torch_client.get("/metrics").text)
    served = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in families
        if not family.name.endswith("_created")
    }
    explained = set(re.findall(r"^\| `(thumbwise_\w+)` \|", PAGE.read_text(), flags=re.MULTILINE))
    assert served == explained
