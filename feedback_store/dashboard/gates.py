"""A gate's report as rows, and what to try when a round did not get through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feedback_store.dashboard import wording
from feedback_store.dashboard.charts import Whisker, whisker
from feedback_store.dashboard.visit import Visit
from feedback_store.pages.language import to_translate
from feedback_store.records import Round

MEASURES: Mapping[str, str] = {
    "held_out_preference": to_translate("Prefers what held-out raters preferred (AUC)"),
    "held_out_pairs": to_translate("Right on held-out choices"),
    "kl_live": to_translate("Divergence from the live version, nats a reply"),
    "kl_base": to_translate("Divergence from the base model, nats a reply"),
    "length": to_translate("Median length in words"),
    "short": to_translate("Rise of replies under three words"),
    "empty": to_translate("Empty replies"),
    "repeated": to_translate("Rise of replies that repeat themselves"),
    "distinct": to_translate("Variety of word pairs, against live"),
    "truncated": to_translate("Rise of replies cut off at their limit"),
    "opening": to_translate("Replies with the same opening"),
    "new_phrases": to_translate("New phrases that few raters asked for"),
    "retention_perplexity": to_translate("Rise of perplexity on ordinary text"),
    "retention_perplexity_warning": to_translate("The same, against the limit for a warning"),
    "replies": to_translate("Replies drawn"),
}
"""The gate's measures; one that is not named here is shown by its own name."""

ADVICE: Mapping[str, str] = {
    "held_out_preference": to_translate(
        "The candidate does not prefer what people who never taught it prefer. Gather more thumbs from more people, or "
        "look in the inbox whether raters disagree."
    ),
    "held_out_pairs": to_translate("Gather more choices between two replies: raise web.compare_share for a while."),
    "kl_live": to_translate("It moved too far at once: halve the learning rate, or raise the anchor."),
    "kl_base": to_translate("All rounds together moved too far: roll back to an earlier version and train from there."),
    "length": to_translate(
        "It became much shorter or longer than what people liked: raise the anchor, or train on votes of the "
        "last days only."
    ),
    "short": to_translate("It answers with a word or two: halve the learning rate, or raise beta."),
    "empty": to_translate("It answers with nothing: halve the learning rate."),
    "repeated": to_translate("It repeats itself: fewer passes (epochs), or half the learning rate."),
    "distinct": to_translate("It says the same to everybody: fewer passes (epochs), and feedback on more prompts."),
    "truncated": to_translate("It does not come to an end: thumb down replies that are cut off, and train again."),
    "opening": to_translate("It begins every reply alike: feedback on more prompts, or fewer passes (epochs)."),
    "new_phrases": to_translate(
        "A phrase was taught by few people: look for it in the inbox, and exclude what is false."
    ),
    "retention_perplexity": to_translate(
        "It forgets ordinary language: raise training.plain_text_weight, or halve the learning rate."
    ),
}
NOT_ENOUGH = to_translate(
    "Too little evidence to judge: gather more feedback, or raise gate.replies, and run it again."
)
DIED = to_translate("The training process died. With too little memory, lower the batch size or training.max_tokens.")
SCARCE = to_translate(
    "There was too little feedback. Widen the data window, gather more, or start by force to try it out."
)


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the gate's table."""

    name: str
    measure: str
    outcome: str
    warns_only: bool
    value: str
    interval: str
    threshold: str
    picture: Whisker | None
    reason: str


def checks_of(visit: Visit, report: Mapping[str, Any] | None) -> list[Check]:
    """The report's rows, those that failed first."""
    if not report:
        return []
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    found = sorted(report.get("checks", ()), key=lambda check: (order.get(check["outcome"], 3), not check["hard"]))
    return [_check(visit, check) for check in found]


def advice_on(visit: Visit, round_: Round) -> list[str]:
    """What to try next after a round that did not end well."""
    if round_.state == "failed":
        return [visit.say(DIED)] if "training process" in (round_.reason or "") else []
    if round_.state != "rejected":
        return []
    if not round_.gate_report:
        return [visit.say(SCARCE)]
    failed = [check for check in round_.gate_report.get("checks", ()) if check["hard"] and check["outcome"] != "pass"]
    found = [ADVICE[check["name"]] for check in failed if check["outcome"] == "fail" and check["name"] in ADVICE]
    if any(check["outcome"] == "inconclusive" for check in failed):
        found.append(NOT_ENOUGH)
    return [visit.say(text) for text in dict.fromkeys(found)]


def measure(visit: Visit, name: str) -> str:
    """A measure's name in words."""
    return visit.say(MEASURES[name]) if name in MEASURES else wording.sentence(name)


def _check(visit: Visit, check: Mapping[str, Any]) -> Check:
    threshold, interval = check.get("threshold"), check.get("interval")
    marks = [] if threshold is None else threshold if isinstance(threshold, list) else [threshold]
    return Check(
        name=check["name"],
        measure=measure(visit, check["name"]),
        outcome=check["outcome"],
        warns_only=not check["hard"],
        value=wording.number(check.get("value"), visit.language),
        interval=wording.span(interval, visit.language),
        threshold=wording.span(threshold, visit.language)
        if isinstance(threshold, list)
        else wording.number(threshold, visit.language),
        picture=_picture(check.get("value"), interval, marks),
        reason=check.get("reason", ""),
    )


def _picture(value: float | None, interval: Sequence[float] | None, marks: Sequence[float]) -> Whisker | None:
    known = [number for number in (value, *(interval or ()), *marks) if number is not None]
    if value is None or len(known) < 2:
        return None
    low, high = min(known), max(known)
    air = (high - low or abs(high) or 1.0) * 0.25
    return whisker(value, interval, (low - air, high + air), marks)
