"""Traces: nothing without an endpoint or the package; with both a span a request, in which no one's words stand."""

import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.api.chat_body import MODEL_NAME
from serving.engine import QueueFull, ReplyDelta
from serving.telemetry import ENDPOINTS, Telemetry, telemetry_from

SECRETS = ("zanzibar", "quokka", "xylophone", "marmalade", "c-secret-place")
ASKED = {
    "messages": [{"role": "system", "content": "zanzibar"}, {"role": "user", "content": "quokka"}],
    "stop": ["xylophone"],
    "user": "marmalade",
    "metadata": {"conversation_id": "c-secret-place", "mood": "zanzibar"},
    "temperature": 0.5,
    "max_tokens": 6,
}
NEEDS_SDK = "opentelemetry's SDK is not installed: pip install 'thumbwise[telemetry]'"


@pytest.fixture
def spans(context):
    """Every finished span, as the SDK tells it."""
    pytest.importorskip("opentelemetry.sdk.trace", reason=NEEDS_SDK)
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    context.telemetry = Telemetry(provider.get_tracer("tests"), provider.shutdown)
    yield exporter.get_finished_spans
    context.telemetry.close()


def ask(client, **fields):
    headers = fields.pop("headers", {})
    return client.post("/v1/chat/completions", json={**ASKED, **fields}, headers=headers)


def test_without_an_endpoint_nothing_is_recorded_and_nothing_is_imported(client, chat, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)  # an import of it would fail
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    for environ in (
        {},
        {ENDPOINTS[0]: ""},
        {ENDPOINTS[1]: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINTS[1]: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ):
        telemetry = telemetry_from(environ)
        span = telemetry.chat(MODEL_NAME, {"traceparent": "x"})
        span.failed("queue_full")
        span.end()
        telemetry.close()
    assert chat()["choices"]


def test_an_endpoint_without_the_package_is_a_warning_and_no_failure(caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.WARNING):
        telemetry = telemetry_from({ENDPOINTS[0]: "http://127.0.0.1:9"})
    assert "install thumbwise[telemetry]" in caplog.text
    telemetry.chat(MODEL_NAME, {}).end()


def test_a_request_is_one_span_by_the_conventions(client, spans):
    completion = ask(client, seed=9).json()
    (span,) = spans()
    assert (span.name, span.kind.name, span.status.status_code.name) == ("chat thumbwise", "INTERNAL", "UNSET")
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "thumbwise",
        "gen_ai.request.model": "thumbwise",
        "gen_ai.output.type": "text",
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 9,
        "gen_ai.request.stream": False,
        "gen_ai.response.id": completion["id"],
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": completion["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": 6,
        "thumbwise.channel": "api",
        "thumbwise.compared": False,
        "thumbwise.stored": True,
        "thumbwise.policy.versions": (1,),
    }
    assert span.end_time > span.start_time


def test_a_streamed_comparison_says_how_many_choices_and_when_the_first_text_came(client, spans):
    ask(client, n=2, stream=True, metadata={"compare": True})
    (span,) = spans()
    assert span.attributes["gen_ai.request.choice.count"] == 2 == len(span.attributes["thumbwise.policy.versions"])
    assert span.attributes["gen_ai.request.stream"] is True and span.attributes["thumbwise.compared"] is True
    seconds = (span.end_time - span.start_time) / 1e9
    assert 0 < span.attributes["gen_ai.response.time_to_first_chunk"] <= seconds


def test_no_words_of_anybody_are_in_a_span(client, spans, words):
    text = ask(client).json()["choices"][0]["message"]["content"]
    ask(client, stream=True)
    ask(client, model="zanzibar")
    ask(client, temperature="quokka")
    ask(client, messages=[{"role": "marmalade", "content": "quokka"}])

    def broken(request):
        raise ValueError("quokka")

    words.start = broken
    assert ask(client).status_code == 500
    assert len(spans()) == 6
    told = "".join(span.to_json() for span in spans())
    assert text and not [word for word in (*SECRETS, *text.split()) if word in told]
    assert all(not span.events for span in spans())


def test_a_refusal_and_a_break_say_their_kind(client, spans, words):
    start = words.start

    def full(request):
        raise QueueFull(2)

    words.start = full
    assert ask(client).status_code == 429
    ask(client, n=9)

    class Broken:
        policy = words.live

        async def __aiter__(self):
            yield ReplyDelta("well")
            raise ZeroDivisionError("quokka")

        def cancel(self):
            pass

    words.start = lambda request: Broken()
    ask(client, stream=True)
    words.start = start
    kinds = [(span.attributes["error.type"], span.status.status_code.name, span.status.description) for span in spans()]
    assert kinds == [("QueueFull", "ERROR", None), ("too_large", "ERROR", None), ("ZeroDivisionError", "ERROR", None)]


def test_the_callers_trace_goes_on(client, spans):
    ask(client, headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    ask(client, headers={"traceparent": "nonsense"})
    first, second = spans()
    assert f"{first.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{first.parent.span_id:016x}" == "b7ad6b7169203331"
    assert second.parent is None


def test_spans_reach_an_otlp_endpoint_over_http(client, context, monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter", reason=NEEDS_SDK)
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
            context.telemetry = telemetry_from({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
            ask(client)
            context.telemetry.close()
        finally:
            server.shutdown()
            thread.join()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"chat thumbwise" in body and b"service.name" in body
    assert not [word for word in SECRETS if word.encode() in body]
