"""Overview: what is live, what people say, what deserves a look, and what is missing until the next round."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from feedback_store import drift, health, versions
from feedback_store.connection import Connection
from feedback_store.dashboard import wording
from feedback_store.dashboard.charts import Chart, Point, line_chart
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.drift import Drift
from feedback_store.health import Alert, Bucket
from feedback_store.pages.language import to_translate
from feedback_store.records import Canary, PolicyVersion
from feedback_store.schema import now

routes = Routes()

ALERTS: Mapping[str, str] = {
    "thumbs_fell": to_translate("Fewer thumbs are up: %(now)s in the last day, %(before)s before."),
    "slower": to_translate("Replies are slow: 5 %% of the last day's took longer than %(now)s, before %(before)s."),
    "length_moved": to_translate("Replies have another length: %(now)s tokens in the last day, %(before)s before."),
    "refusals_rose": to_translate("More replies decline: %(now)s in the last day, %(before)s before."),
    "surer": to_translate(
        "The policy is surer of its words: %(now)s nats a token in the last day, %(before)s before. Is it repetitive?"
    ),
    "round_failed": to_translate("Round %(round)s failed."),
    "round_waits": to_translate("Round %(round)s waits: no trainer takes it up. Is `thumbwise train` running?"),
    "behind": to_translate("This server still serves version %(serving)s; version %(live)s is live. Its log says why."),
}
MORE = timedelta(days=7)
"""What the last day is held against."""


class Span(Form):
    """How many days are shown."""

    days: Literal["1", "7", "30", "90"] = "7"


@dataclass(frozen=True, slots=True)
class State:
    """What the store says about now."""

    live: PolicyVersion | None
    canary: Canary | None


@routes.topic("overview", "operator")
def pulse(connection: Connection, which: str) -> str:
    """Changes with everything that happens in the loop."""
    return health.state_pulse(connection)


@routes.on("GET /dashboard/overview")
async def overview(visit: Visit) -> Response:
    """Show the loop at a glance."""
    days = int(visit.query(Span).days)
    state, buckets, drifted, alerts, readiness, serving = await asyncio.gather(
        visit.read(read_state),
        visit.soon(("activity", days), lambda: visit.read(read_activity, days)),
        visit.soon(("drift", days), lambda: visit.read(read_drift, days)),
        visit.soon("alerts", lambda: visit.read(read_alerts)),
        visit.soon("readiness", lambda: run_in_threadpool(visit.parts.readiness)),
        run_in_threadpool(visit.parts.serving),
    )
    counting, alerts = buckets is None or drifted is None, alerts or []
    behind = state.live is not None and serving.get("version") not in (None, state.live.version)
    if behind and state.live is not None:
        alerts = [*alerts, Alert("behind", {"serving": serving["version"], "live": state.live.version})]
    return visit.render(
        "overview.html",
        days=days,
        state=state,
        counting=counting,
        figures=figures_of(buckets or ()),
        charts=[*charts_of(visit, buckets or ()), *drift_charts(visit, drifted or ())],
        alerts=[(alert, in_words(visit, alert)) for alert in alerts],
        readiness=readiness,
        serving=serving,
        pulse=await visit.read(health.state_pulse),
    )


def read_state(connection: Connection) -> State:
    """Which version is live, and which beside it."""
    return State(versions.live_or_none(connection), versions.canary(connection))


def read_activity(connection: Connection, days: int) -> list[Bucket]:
    """The last days in buckets of hours or days, the present one included."""
    until = now()
    return health.activity(connection, _back(until, days), until, "hour" if days == 1 else "day")


def read_drift(connection: Connection, days: int) -> list[Drift]:
    """The same span: refusals, how sure it is of its words, how far it went."""
    until = now()
    return drift.drift(connection, _back(until, days), until, "hour" if days == 1 else "day")


def read_alerts(connection: Connection) -> list[Alert]:
    """What deserves a look now."""
    until = now()
    yesterday = until - timedelta(days=1)
    recent = health.activity(connection, yesterday, until, "hour")
    before = health.activity(connection, yesterday - MORE, yesterday, "day")
    drifted = (
        drift.drift(connection, yesterday, until, "hour"),
        drift.drift(connection, yesterday - MORE, yesterday, "day"),
    )
    return [*health.alerts(connection, until, recent, before), *drift.alerts(*drifted)]


def _back(until: datetime, days: int) -> datetime:
    if days == 1:
        return until - timedelta(hours=23)
    return (until - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)


def figures_of(buckets: Sequence[Bucket]) -> dict[str, Any]:
    """The span as a whole."""
    together = Bucket(buckets[0].begins if buckets else now())
    for bucket in buckets:
        together.replies += bucket.replies
        together.up += bucket.up
        together.down += bucket.down
        together.latency_ms += bucket.latency_ms
    return {
        "replies": together.replies,
        "thumbs": together.thumbs,
        "up": together.up,
        "down": together.down,
        "rate": together.thumbs_rate,
        "interval": together.interval,
        "median_s": _seconds(together.latency(0.5)),
        "slow_s": _seconds(together.latency(0.95)),
    }


def charts_of(visit: Visit, buckets: Sequence[Bucket]) -> list[Chart]:
    """The span as curves; a chart without a point is left out."""

    def said(value: float) -> str:
        return wording.number(value, visit.language)

    def share(value: float) -> str:
        return wording.share(value, visit.language)

    def place(bucket: Bucket) -> tuple[float, str]:
        hours = len(buckets) > 1 and (buckets[1].begins - buckets[0].begins) < timedelta(days=1)
        return bucket.begins.timestamp(), bucket.begins.strftime("%H:%M" if hours else "%m-%d")

    def points(values: Sequence[tuple[Bucket, float | None]]) -> list[Point]:
        return [Point(place(bucket)[0], value, place(bucket)[1]) for bucket, value in values if value is not None]

    rates = [
        Point(*(place(bucket)[0], bucket.thumbs_rate, place(bucket)[1]), *(bucket.interval or (None, None)))
        for bucket in buckets
        if bucket.thumbs_rate is not None
    ]
    drawn = [
        line_chart(
            visit.say("Replies"), [("", points([(each, float(each.replies)) for each in buckets]))], said, floor=0
        ),
        line_chart(visit.say("Thumbs up, with 95 % interval"), [("", rates)], share, floor=0, ceiling=1),
        line_chart(
            visit.say("Response time in seconds"),
            [
                (visit.say("half are quicker"), points([(each, _seconds(each.latency(0.5))) for each in buckets])),
                (visit.say("1 in 20 is slower"), points([(each, _seconds(each.latency(0.95))) for each in buckets])),
            ],
            said,
            floor=0,
        ),
        line_chart(
            visit.say("Length in tokens"), [("", points([(each, each.mean_tokens) for each in buckets]))], said, floor=0
        ),
        line_chart(
            visit.say("Replies that came to their end"),
            [("", points([(each, each.finished) for each in buckets]))],
            share,
            floor=0,
            ceiling=1,
        ),
    ]
    return [chart for chart in drawn if chart is not None] if any(bucket.replies for bucket in buckets) else []


def drift_charts(visit: Visit, buckets: Sequence[Drift]) -> list[Chart]:
    """Drift as curves; a chart without a point is left out."""
    hours = len(buckets) > 1 and (buckets[1].begins - buckets[0].begins) < timedelta(days=1)

    def points(value_of: Callable[[Drift], float | None]) -> list[Point]:
        return [
            Point(each.begins.timestamp(), value, each.begins.strftime("%H:%M" if hours else "%m-%d"))
            for each in buckets
            if (value := value_of(each)) is not None
        ]

    def said(value: float) -> str:
        return wording.number(value, visit.language)

    def share(value: float) -> str:
        return wording.share(value, visit.language, 1)

    refusals = [
        replace(point, low=bounds[0], high=bounds[1])
        for point, bounds in zip(
            points(lambda each: each.refusal_rate),
            [each.refusal_interval for each in buckets if each.refusal_interval is not None],
            strict=True,
        )
    ]
    drawn = [
        line_chart(visit.say("Replies that decline, with 95 % interval"), [("", refusals)], share, floor=0),
        line_chart(
            visit.say("Surprise at its own words, nats a token"),
            [("", points(lambda each: each.surprise_nats))],
            said,
            floor=0,
        ),
        line_chart(
            visit.say("Divergence from the base model, nats a reply"),
            [("", points(lambda each: each.kl_base_nats))],
            said,
            floor=0,
        ),
    ]
    return [chart for chart in drawn if chart is not None]


def in_words(visit: Visit, alert: Alert) -> str:
    """An alert as a sentence."""
    values = dict(alert.values)
    if alert.name in ("thumbs_fell", "refusals_rose"):
        values = {name: wording.share(value, visit.language) for name, value in values.items()}
    elif alert.name == "slower":
        values = {
            name.removesuffix("_ms"): f"{wording.number(value / 1000, visit.language)} s"
            for name, value in values.items()
        }
    elif alert.name in ("length_moved", "surer"):
        values = {name: wording.number(value, visit.language) for name, value in values.items()}
    return visit.say(ALERTS[alert.name], **values)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 2)
