"""Prometheus metrics of one server: its own registry, and labels that only take values from lists in this program."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


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
            "thumbwise_first_token_seconds", "From request to first text.", buckets=LATENCY_BUCKETS_S, registry=registry
        )
        self.unstored_replies = Counter(
            "thumbwise_unstored_replies", "Replies sent although the store was away.", registry=registry
        )
        self.feedback = Counter("thumbwise_feedback", "Acknowledged acts of raters.", ["kind"], registry=registry)
        self.duplicate_feedback = Counter(
            "thumbwise_duplicate_feedback", "Acts whose Idempotency-Key was known.", registry=registry
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

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
