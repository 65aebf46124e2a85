"""Prometheus metrics of one server: its own registry, and labels that only take values from lists in this program."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.canary import CanaryShare
from serving.engine import Engine, Measured, PolicyRef
from serving.engine.figures import Distribution, EngineFigures

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
SWAP_BUCKETS_S = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROLES = ("live", "canary", "other")
"""Of a generation in memory. other: it was live or canary and has replies to finish, or waits to become one."""


class ApiMetrics:
    """The counters a server keeps. A route label is the route's template, never the path that was asked for."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("thumbwise_http_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.replies = Counter(
            "thumbwise_replies", "Replies that ended.", ["channel", "finish_reason"], registry=registry
        )
        self.reply_tokens = Counter("thumbwise_reply_tokens", "Tokens generated.", registry=registry)
        self.prompt_tokens = Counter("thumbwise_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.reply_seconds = Histogram(
            "thumbwise_reply_seconds", "From request to last token.", buckets=LATENCY_BUCKETS_S, registry=registry
        )
        self.first_token_seconds = Histogram(
            "thumbwise_first_token_seconds",
            "From request to a reply's first text.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.unstored_replies = Counter(
            "thumbwise_unstored_replies", "Replies sent although the store was away.", registry=registry
        )
        self.feedback = Counter("thumbwise_feedback", "Acknowledged acts of raters.", ["kind"], registry=registry)
        self.duplicate_feedback = Counter(
            "thumbwise_duplicate_feedback", "Acts whose Idempotency-Key was known.", registry=registry
        )
        self.refused_feedback = Counter(
            "thumbwise_refused_feedback", "Acts of raters who voted too fast.", registry=registry
        )
        self.cut_connections = Counter(
            "thumbwise_cut_connections", "Connections that were refused or cut off.", ["reason"], registry=registry
        )
        self.live_version = Gauge("thumbwise_live_policy_version", "Version of new replies.", registry=registry)
        self.loaded_versions = Gauge("thumbwise_loaded_policy_versions", "Generations in memory.", registry=registry)
        self.replicas_serving = Gauge(
            "thumbwise_replicas_serving", "Servers that draw replies of the live version.", registry=registry
        )
        self.replicas_away = Gauge(
            "thumbwise_replicas_away", "Servers that should draw replies of it and do not.", registry=registry
        )
        self.replies_in_flight = Gauge("thumbwise_replies_in_flight", "Replies under way.", registry=registry)
        self.replies_by_role = Gauge(
            "thumbwise_replies_in_flight_by_role", "Replies under way, by their version's role.", ["role"],
            registry=registry,
        )  # fmt: skip
        self.canary_version = Gauge(
            "thumbwise_canary_policy_version", "Version of the canary; 0 without one.", registry=registry
        )
        self.canary_share = Gauge(
            "thumbwise_canary_share", "The canary's share of the conversations.", registry=registry
        )
        self.swap_seconds = Histogram(
            "thumbwise_swap_seconds",
            "Of a swap: load builds the weights beside the others, switch points new requests to them.",
            ["stage"],
            buckets=SWAP_BUCKETS_S,
            registry=registry,
        )
        self._engine_figures = _EngineCollector()
        registry.register(self._engine_figures)

    def swap_took(self, stage: str, seconds: float) -> None:
        """Note how long a stage of a swap took: load or switch."""
        self.swap_seconds.labels(stage).observe(seconds)

    def look_at(self, engine: Engine, live: PolicyRef | None, canary: CanaryShare | None) -> None:
        """Set what is only looked up when somebody asks."""
        loaded = engine.loaded_versions
        self.live_version.set(live.version if live else 0)
        self.canary_version.set(canary.version if canary else 0)
        self.canary_share.set(canary.share if canary else 0)
        self.loaded_versions.set(len(loaded))
        self.replies_in_flight.set(sum(loaded.values()))
        roles = {live.version if live else None: "live", canary.version if canary else None: "canary"}
        for role in ROLES:
            under_way = sum(count for version, count in loaded.items() if roles.get(version, "other") == role)
            self.replies_by_role.labels(role).set(under_way)
        self._engine_figures.figures = engine.figures if isinstance(engine, Measured) else None

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    """Shows an engine's figures as metrics; nothing for an engine that has none."""

    figures: EngineFigures | None = None

    def collect(self) -> Iterator[Metric]:
        if self.figures is None:
            return
        yield CounterMetricFamily("thumbwise_engine_tokens", "Tokens drawn; its rate is tokens a second.",
                                  value=self.figures.tokens)  # fmt: skip
        yield _histogram(
            "thumbwise_token_seconds", "From one token of a reply to the next.", self.figures.token_seconds
        )
        yield _histogram("thumbwise_queue_seconds", "From admission to a place in a batch.", self.figures.queue_seconds)
        yield _histogram("thumbwise_batch_replies", "Replies that got a token in a step.", self.figures.batch_replies)


def _histogram(name: str, meaning: str, values: Distribution) -> HistogramMetricFamily:
    """Lay a distribution out as Prometheus wants it: each bucket holds all at or below its bound."""
    buckets: list[tuple[str, float]] = []
    seen = 0
    for bound, number in zip((*values.bounds, float("inf")), tuple(values.counts), strict=True):
        seen += number
        buckets.append(("+Inf" if bound == float("inf") else str(bound), seen))
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=values.total)
