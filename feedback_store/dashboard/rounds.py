"""Rounds: what is missing for one, planning one with a dry run, watching it train, its gate, comparing two."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from feedback_store import replies, rounds, side_by_sides
from feedback_store.connection import Connection
from feedback_store.dashboard import gates, wording
from feedback_store.dashboard.charts import Chart, Point, line_chart
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.side_by_sides import Comparing, comparing
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import Conflict, Refused
from feedback_store.pages.language import to_translate
from feedback_store.records import ROUND_ENDED, Reply, Round, RoundMetric
from feedback_store.review import recent_acts
from feedback_store.schema import now

routes = Routes()
STARTED = routes.notice("round-started", to_translate("The round is asked for. A trainer takes it up within a second."))
CANCELLED = routes.notice(
    "round-cancelled", to_translate("The round is cancelled. The feedback stays for another one.")
)

STEPS = ("requested", "selecting", "training", "gating", "published")
CURVES: Mapping[str, str] = {
    "loss": to_translate("Loss"),
    "reward_margin": to_translate("Reward: liked above disliked"),
    "accuracy": to_translate("Accuracy on what it trains on"),
    "reward": to_translate("Reward"),
    "kl_nats": to_translate("Divergence from the reference, nats"),
    "length_tokens": to_translate("Length of replies, tokens"),
    "reward_up": to_translate("Reward of liked replies"),
    "reward_down": to_translate("Reward of disliked replies"),
    "entropy_nats": to_translate("Entropy, nats"),
    "grad_norm": to_translate("Norm of the gradient"),
    "learning_rate": to_translate("Learning rate"),
    "tokens_per_s": to_translate("Tokens per second"),
}
"""The curves that tell most come first; one that is not named here comes last."""
SETTINGS: Mapping[str, tuple[str, str]] = {
    "learning_rate": (to_translate("Learning rate"), to_translate("Higher learns more at once, and drifts more.")),
    "epochs": (to_translate("Passes over the feedback"), to_translate("More than one learns it by heart.")),
    "batch_size": (to_translate("Rows of one step"), to_translate("Fewer need less memory.")),
    "beta": (to_translate("Beta"), to_translate("Higher holds it closer to what it was.")),
    "anchor": (to_translate("Anchor"), to_translate("Pull back to the reference, for every row alike.")),
}
"""Of [training]: those that a person may set otherwise for one round. The defaults were measured (docs/log.md)."""


class Plan(Form):
    """A wish for a round, as its form and its address carry it."""

    method: str = "auto"
    data: str = "fresh"
    days: int | None = Field(default=None, ge=1, le=3650)
    learning_rate: float | None = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    epochs: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)
    batch_size: int | None = Field(default=None, ge=2, le=512)
    beta: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)
    anchor: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    force: bool = False

    def wish(self, methods: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The wish as the trainer reads it: only what differs from the defaults. Raises Refused."""
        if self.method not in ("auto", *methods):
            raise Refused("method", f"method is {self.method[:40]!r}; wanted: auto, {', '.join(methods)}")
        if self.data not in ("fresh", "all"):
            raise Refused("data", f"data is {self.data[:40]!r}; wanted: fresh or all")
        training = {
            name: value
            for name in SETTINGS
            if (value := getattr(self, name)) is not None and value != defaults.get("training", {}).get(name)
        }
        data: dict[str, Any] = {"fresh_only": self.data == "fresh"}
        if self.days is not None:
            data["since"] = (now() - timedelta(days=self.days)).isoformat()
        wish: dict[str, Any] = {"data": data}
        if training:
            wish["training"] = training
        if self.force:
            wish["force"] = True
        return wish


class Compared(Form):
    """Which rounds stand side by side."""

    round: tuple[int, ...] = ()


@routes.topic("rounds", "operator")
def rounds_pulse(connection: Connection, which: str) -> str:
    """Changes with every round and its state."""
    return " ".join(f"{one.round_id}:{one.state}" for one in rounds.list_rounds(connection, 3))


@routes.topic("round", "operator")
def round_pulse(connection: Connection, which: str) -> str:
    """Changes with a round's state and with every point of its curves."""
    round_id = int(which) if which.isascii() and which.isdigit() and len(which) < 19 else 0
    return f"{rounds.get_round(connection, round_id).state} {rounds.newest_metric(connection, round_id)}"


@routes.on("GET /dashboard/rounds")
async def list_rounds(visit: Visit) -> Response:
    """List rounds, and say what the next one needs."""
    readiness = await visit.soon("readiness", lambda: run_in_threadpool(visit.parts.readiness))
    return visit.render(
        "rounds.html",
        rounds=await visit.read(rounds.list_rounds, 100),
        readiness=readiness,
        ended=ROUND_ENDED,
        pulse=await visit.read(rounds_pulse, ""),
    )


@routes.on("GET /dashboard/rounds/new")
async def plan_round(visit: Visit) -> Response:
    """Show the form, and what a round of it would train: a dry run, which writes nothing."""
    plan = visit.query(Plan) if visit.request.query_params else Plan(data=_usual_data(visit))
    return await _plan_page(visit, plan)


@routes.on("POST /dashboard/rounds")
async def start_round(visit: Visit) -> Response:
    """Ask for the round. Too little feedback or an open round shows the form again, with the reason."""
    plan = await visit.form(Plan)
    wish = plan.wish(visit.parts.methods, visit.parts.defaults)
    preview = await run_in_threadpool(visit.parts.preview, {"method": plan.method, **wish})
    if not preview.get("possible") and not (plan.force and preview.get("by_force")):
        return await _plan_page(visit, plan, status=409, preview=preview)
    act = visit.act("round.start", details={"method": plan.method, **wish})
    method: Any = None if plan.method == "auto" else plan.method
    try:
        asked = await visit.write(act, rounds.request_round, method=method, requested_by=visit.user.name, settings=wish)
    except Conflict as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back="/dashboard/rounds")
    return visit.go(f"/dashboard/rounds/{asked.round_id}", done=STARTED)


@routes.on("GET /dashboard/rounds/compare")
async def compare_rounds(visit: Visit) -> Response:
    """Put two to four rounds side by side: curves, gate, settings."""
    chosen = visit.query(Compared).round[:4]
    found = [await visit.read(rounds.get_round, round_id) for round_id in dict.fromkeys(chosen)]
    series = {one.round_id: await visit.read(rounds.metrics, one.round_id) for one in found}
    return visit.render(
        "rounds_compare.html",
        rounds=found,
        all_rounds=await visit.read(rounds.list_rounds, 50),
        charts=_charts(visit, {visit.say("round %(n)s", n=key): points for key, points in series.items()}),
        gate=_gate_side_by_side(visit, found),
        settings=_settings_side_by_side(found),
    )


@routes.on("GET /dashboard/rounds/{round_id}")
async def show_round(visit: Visit) -> Response:
    """Show one round: where it stands, its curves, the gate's verdict, replies before and after."""
    round_id = visit.number("round_id")
    one = await visit.read(rounds.get_round, round_id)
    points = await visit.read(rounds.metrics, round_id)
    report = one.gate_report or {}
    examples = [*report.get("examples", ()), *report.get("seen_examples", ())]
    asked = await visit.read(_prompts, [example.get("prompt_reply_id") for example in examples])
    return visit.render(
        "round.html",
        round=one,
        open=one.state not in ROUND_ENDED,
        steps=STEPS,
        charts=_charts(visit, {"": points}),
        progress=max((point.value for point in points if point.name == "progress"), default=None),
        checks=gates.checks_of(visit, one.gate_report),
        advice=gates.advice_on(visit, one),
        examples=[
            (example.get("prompt") or asked.get(example.get("prompt_reply_id")), example) for example in examples
        ],
        unseen=len(report.get("examples", ())),
        compared=await _compared(visit, one),
        least=side_by_sides.FEWEST_VOTES,
        counts=_counts(one),
        log=await run_in_threadpool(visit.parts.round_log, round_id),
        pulse=await visit.read(round_pulse, str(round_id)),
    )


@routes.on("POST /dashboard/rounds/{round_id}/cancel")
async def cancel_round(visit: Visit) -> Response:
    """End an open round; its trainer stops at its next step."""
    round_id = visit.number("round_id")
    form = await visit.form(ReasonForm)
    act = visit.act("round.cancel", f"round {round_id}", form.reason)
    try:
        await visit.write(act, rounds.cancel_round, round_id, visit.user.name)
    except Conflict as conflict:
        back = f"/dashboard/rounds/{round_id}"
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back=back)
    return visit.go(f"/dashboard/rounds/{round_id}", done=CANCELLED)


class ReasonForm(Form):
    """Why."""

    reason: str = Field(min_length=1, max_length=1000)


async def _plan_page(
    visit: Visit, plan: Plan, *, status: int = 200, preview: Mapping[str, Any] | None = None
) -> Response:
    wish = plan.wish(visit.parts.methods, visit.parts.defaults)
    if preview is None:
        # Over a large store a dry run takes seconds: the form is there at once, and what people did since counts.
        key = ("preview", plan.model_dump_json(), await visit.read(_done_by_people))
        asked = {"method": plan.method, **wish}
        preview = await visit.soon(key, lambda: run_in_threadpool(visit.parts.preview, asked))
    return visit.render(
        "round_new.html",
        status,
        plan=plan,
        preview=preview,
        methods=("auto", *visit.parts.methods),
        settings=SETTINGS,
        defaults=visit.parts.defaults.get("training", {}),
        refused=status == 409,
        open_round=next((one for one in await visit.read(rounds.list_rounds, 1) if one.state not in ROUND_ENDED), None),
    )


def _done_by_people(connection: Connection) -> str:
    """Changes with every round and every act of review."""
    newest = recent_acts(connection, 1)
    return f"{rounds_pulse(connection, '')} {newest[0].act_id if newest else 0}"


def _usual_data(visit: Visit) -> str:
    return "fresh" if visit.parts.defaults.get("rounds", {}).get("fresh_only", True) else "all"


def _charts(visit: Visit, series: Mapping[str, Sequence[RoundMetric]]) -> list[Chart]:
    """One chart a metric; with several rounds one line each."""
    names = {point.name for points in series.values() for point in points} - {"progress"}
    order = [*CURVES, *sorted(names - set(CURVES))]
    found = []
    for name in sorted(names, key=order.index):
        lines = [
            (
                label,
                [
                    Point(float(one.step), one.value, visit.say("step %(n)s", n=one.step))
                    for one in points
                    if one.name == name
                ],
            )
            for label, points in series.items()
        ]
        title = visit.say(CURVES[name]) if name in CURVES else wording.sentence(name)
        chart = line_chart(title, lines, lambda value: wording.number(value, visit.language))
        found += [chart] if chart is not None else []
    return found


async def _compared(visit: Visit, one: Round) -> Comparing | None:
    """What people said of the candidate's replies; None where there is no candidate, or nothing to compare."""
    if one.candidate_version is None:
        return None
    found = await visit.read(comparing, one.candidate_version, visit.actor)
    return found if found.pairs else None


def _prompts(connection: Connection, reply_ids: Sequence[str | None]) -> dict[str, str]:
    """The last thing that was asked before each reply, where its text is kept."""
    found: dict[str, Reply] = replies.replies_by_id(connection, [each for each in reply_ids if each])
    return {
        reply_id: message["content"] for reply_id, reply in found.items() for message in (reply.messages or ())[-1:]
    }


def _counts(one: Round) -> list[tuple[str, int | float | str]]:
    return [
        (name, value) for name, value in one.selection.items() if isinstance(value, int | float | str) and name != "by"
    ]


def _gate_side_by_side(visit: Visit, found: Sequence[Round]) -> list[tuple[str, list[dict[str, Any] | None]]]:
    """One row a measure, one cell a round."""
    by_round = [{check["name"]: check for check in (one.gate_report or {}).get("checks", ())} for one in found]
    names = list(dict.fromkeys(name for checks in by_round for name in checks))
    return [(gates.measure(visit, name), [checks.get(name) for checks in by_round]) for name in names]


def _settings_side_by_side(found: Sequence[Round]) -> list[tuple[str, list[str], bool]]:
    """One row a setting; the last value says whether the rounds differ in it."""
    flat = [
        {
            f"{section}.{key}": str(value)
            for section, values in one.settings.items()
            if isinstance(values, Mapping)
            for key, value in values.items()
        }
        for one in found
    ]
    names = sorted({name for settings in flat for name in settings})
    rows = [(name, [settings.get(name, wording.UNKNOWN) for settings in flat]) for name in names]
    return [(name, values, len(set(values)) > 1) for name, values in rows]
