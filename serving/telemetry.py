"""Traces of chat requests, by OpenTelemetry's conventions for generative AI: one span a request. Optional.

Nothing happens unless an endpoint is set in OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) and `thumbwise[telemetry]` is installed. A span holds counts, settings, times, our
own ids and versions. It never holds what people or the policy wrote: no message, no stop text, no name, no metadata of
the caller, no conversation id, and no text of an error.

The conventions are at the stage "development"; the names here are those of semantic conventions 1.41.
"""

import logging
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from serving.api.drawing import Draw

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SERVICE = "thumbwise"
OPERATION = "chat"


class ChatSpan:
    """The span of one chat request; without a tracer it does nothing. `end` may be called more than once."""

    def __init__(self, span: "Span | None" = None) -> None:
        self._span = span

    def failed(self, kind: str) -> None:
        """Say that the request was refused or broke off. `kind` is a code or a type's name, never a message."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR))

    def end(self, draw: "Draw | None" = None, *, streamed: bool = False) -> None:
        """Close the span with what came of the draw."""
        span, self._span = self._span, None
        if span is None:
            return
        if draw is not None:
            span.set_attributes(_attributes(draw, streamed))
        span.end()


class Telemetry:
    """Begins spans. Without a tracer, the usual case, each is one that does nothing."""

    def __init__(self, tracer: "Tracer | None" = None, close: Callable[[], None] = lambda: None) -> None:
        self._tracer = tracer
        self._close = close

    def chat(self, model: str, headers: Mapping[str, str]) -> ChatSpan:
        """Begin the span of a chat request, below the caller's own if the headers name one (W3C traceparent)."""
        if self._tracer is None:
            return ChatSpan()
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        span = self._tracer.start_span(
            f"{OPERATION} {model}",
            context=TraceContextTextMapPropagator().extract(headers),
            kind=SpanKind.INTERNAL,  # the model runs here, as the conventions have it for that
            attributes={
                "gen_ai.operation.name": OPERATION,
                "gen_ai.provider.name": SERVICE,
                "gen_ai.request.model": model,
                "gen_ai.output.type": "text",
            },
            start_time=time.time_ns(),
        )
        return ChatSpan(span)

    def close(self) -> None:
        """Send what is left."""
        self._close()


def telemetry_from(environ: Mapping[str, str]) -> Telemetry:
    """Return what the environment asks for: traces to an OTLP endpoint over HTTP, or nothing.

    A missing package is a warning in the log and no traces: a server must not fail for want of being watched.
    """
    switched_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if switched_off or environ.get("OTEL_TRACES_EXPORTER") == "none" or not any(map(environ.get, ENDPOINTS)):
        return Telemetry()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("an OTLP endpoint is set, but there are no traces: install thumbwise[telemetry]")
        return Telemetry()
    named = "OTEL_SERVICE_NAME" in environ or "service.name" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": SERVICE})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Telemetry(provider.get_tracer(SERVICE, _version()), provider.shutdown)


def _attributes(draw: "Draw", streamed: bool) -> dict[str, Any]:
    """What a span says of a draw: the conventions' names, and ours under `thumbwise.`."""
    sampling = draw.candidates[0].sampling
    found: dict[str, Any] = {
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.stream": streamed,
        "gen_ai.response.id": draw.completion_id,
        "gen_ai.response.finish_reasons": [one.end.finish_reason for one in draw.candidates if one.end],
        "gen_ai.usage.input_tokens": draw.prompt_tokens,
        "gen_ai.usage.output_tokens": draw.completion_tokens,
        "thumbwise.channel": draw.channel,
        "thumbwise.compared": draw.compared,
        "thumbwise.stored": draw.stored,
        "thumbwise.policy.versions": list(draw.policy_versions),
    }
    if len(draw.candidates) > 1:
        found["gen_ai.request.choice.count"] = len(draw.candidates)
    if sampling.seed is not None:
        found["gen_ai.request.seed"] = sampling.seed
    first_texts_s = [one.first_text_s for one in draw.candidates if one.first_text_s is not None]
    if streamed and first_texts_s:
        found["gen_ai.response.time_to_first_chunk"] = min(first_texts_s)
    return found


def _version() -> str:
    try:
        return version("thumbwise")
    except PackageNotFoundError:
        return "0"
