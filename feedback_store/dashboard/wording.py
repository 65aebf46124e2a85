"""Numbers, times and names of ours as a person reads them, in each language. Unknown is shown as –, never as 0."""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from babel.dates import format_datetime, format_timedelta
from babel.numbers import format_decimal, format_percent

from feedback_store.pages.language import Language, to_translate, translated
from feedback_store.schema import now

UNKNOWN = "–"

STATES: Mapping[str, str] = {
    "live": to_translate("live"),
    "canary": to_translate("canary"),
    "candidate": to_translate("candidate"),
    "retired": to_translate("retired"),
    "rejected": to_translate("rejected"),
    "requested": to_translate("requested"),
    "selecting": to_translate("selecting"),
    "training": to_translate("training"),
    "gating": to_translate("gating"),
    "published": to_translate("published"),
    "failed": to_translate("failed"),
    "cancelled": to_translate("cancelled"),
    "pass": to_translate("pass"),
    "fail": to_translate("fail"),
    "inconclusive": to_translate("too little evidence"),
    "ready": to_translate("ready"),
    "not_ready": to_translate("not yet"),
    "up": to_translate("up"),
    "down": to_translate("down"),
    "user": to_translate("end user"),
    "annotator": to_translate("annotator"),
    "operator": to_translate("operator"),
    "admin": to_translate("admin"),
    "disabled": to_translate("disabled"),
    "invited": to_translate("invited"),
    "active": to_translate("active"),
    "revoked": to_translate("revoked"),
    "expired": to_translate("expired"),
    "quarantined": to_translate("quarantined"),
}
REQUIREMENTS: Mapping[str, str] = {
    "raters": to_translate("%(value)s of %(wanted)s raters"),
    "prompts": to_translate("%(value)s of %(wanted)s prompts"),
    "thumbs": to_translate("%(value)s of %(wanted)s thumbs"),
    "rarer thumbs": to_translate("%(value)s of %(wanted)s thumbs of the rarer kind"),
    "share of rarer thumbs": to_translate("%(value)s are of the rarer kind, %(wanted)s wanted"),
    "pairs": to_translate("%(value)s of %(wanted)s choices between replies"),
    "prompts of pairs": to_translate("%(value)s of %(wanted)s prompts with a choice"),
    "approved corrections": to_translate("%(value)s of %(wanted)s approved corrections"),
    "authors of corrections": to_translate("%(value)s of %(wanted)s authors of corrections"),
    "comparisons": to_translate("%(value)s of %(wanted)s comparisons"),
    "held-out comparisons": to_translate("%(value)s of %(wanted)s held-out comparisons"),
}
MISSING: Mapping[str, str] = {
    "raters": to_translate("%(more)s more raters"),
    "prompts": to_translate("%(more)s more prompts"),
    "thumbs": to_translate("%(more)s more thumbs"),
    "thumbs up": to_translate("%(more)s more thumbs, %(of_kind)s of them up"),
    "thumbs down": to_translate("%(more)s more thumbs, %(of_kind)s of them down"),
    "approved corrections": to_translate("%(more)s more approved corrections"),
    "authors of corrections": to_translate("%(more)s more authors of corrections"),
    "pairs": to_translate("%(more)s more choices between replies"),
    "prompts of pairs": to_translate("%(more)s more prompts with a choice"),
    "comparisons": to_translate("%(more)s more comparisons"),
    "held-out comparisons": to_translate("%(more)s more held-out comparisons"),
}
"""What a method lacks, where it is a number of something that people can give."""
DOUBTS: Mapping[str, tuple[str, str]] = {
    "people cannot agree": (
        to_translate("People cannot agree"),
        to_translate(
            "What is better is not settled between these people. Write down what a good reply is, talk about the cases "
            "they differ on, or align for one group."
        ),
    ),
    "the model does not know": (
        to_translate("The model does not know"),
        to_translate(
            "Choosing among replies that are all wrong teaches no facts. Give the model what it lacks (a larger base "
            "model, documents in the prompt), or write corrections and train on them."
        ),
    ),
}
GROUPS: Mapping[str, str] = {
    "common": to_translate("For every round"),
    "kto": to_translate("To learn from thumbs (KTO)"),
    "dpo": to_translate("To learn from choices (DPO)"),
    "sft": to_translate("To learn from better answers (SFT)"),
    "reward": to_translate("To train a reward model"),
    "ppo": to_translate("To train against the reward model (PPO)"),
    "grpo": to_translate("To train against the reward model (GRPO)"),
}
TONES: Mapping[str, str] = {
    "live": "good", "published": "good", "pass": "good", "up": "good", "ready": "good", "active": "good",
    "rejected": "bad", "failed": "bad", "fail": "bad", "down": "bad", "disabled": "bad", "revoked": "bad",
    "quarantined": "bad", "expired": "bad",
    "requested": "busy", "selecting": "busy", "training": "busy", "gating": "busy", "candidate": "busy",
    "canary": "busy", "invited": "busy", "inconclusive": "warn", "not_ready": "warn",
}  # fmt: skip
"""State → how a badge looks. The colour only repeats what the word says."""


def number(value: float | None, language: Language = "en") -> str:
    """Four significant digits, grouped: 12,345 · 0.7312 · 1.2e-05."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == int(value) and abs(value) < 1e15:
        return str(format_decimal(int(value), locale=_locale(language)))
    size = abs(value)
    if size < 1e-3 or size >= 1e6:
        return f"{value:.2e}"
    digits = max(0, 3 - math.floor(math.log10(size)))
    return str(format_decimal(round(value, digits), format="#,##0." + "#" * max(1, digits), locale=_locale(language)))


def share(value: float | None, language: Language = "en", digits: int = 0) -> str:
    """A share in [0, 1] as a percentage."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    pattern = "#,##0" + ("." + "0" * digits if digits else "") + " %"
    return str(format_percent(value, format=pattern, locale=_locale(language)))


def span(interval: Sequence[float] | None, language: Language = "en") -> str:
    """An interval of numbers: 0.604 to 0.812."""
    if interval is None:
        return ""
    low, high = interval
    return translated(language, "%(low)s to %(high)s", low=number(low, language), high=number(high, language))


def share_span(interval: Sequence[float] | None, language: Language = "en") -> str:
    """An interval of shares: 60 % to 81 %."""
    if interval is None:
        return ""
    low, high = interval
    return translated(language, "%(low)s to %(high)s", low=share(low, language), high=share(high, language))


def ago(moment: datetime | None, language: Language = "en") -> str:
    """How long ago (or until when) a moment is."""
    if moment is None:
        return UNKNOWN
    distance = moment - now()
    if abs(distance) < timedelta(seconds=5):
        return translated(language, "just now")
    return str(format_timedelta(distance, add_direction=True, threshold=1.2, locale=_locale(language)))


def moment(value: datetime | None, language: Language = "en") -> str:
    """A moment in full, in UTC."""
    if value is None:
        return UNKNOWN
    return str(format_datetime(value.astimezone(UTC), "yyyy-MM-dd HH:mm:ss 'UTC'", locale=_locale(language)))


def duration(seconds: float | None, language: Language = "en") -> str:
    """A length of time: 3 minutes."""
    if seconds is None:
        return UNKNOWN
    return str(format_timedelta(timedelta(seconds=round(seconds)), threshold=1.5, locale=_locale(language)))


def sentence(name: str) -> str:
    """A name of ours as a person writes it: kl_live → KL live, grad_norm → Grad norm."""
    words = str(name).replace("_", " ")
    for pattern, written in (
        (r"\bkl\b", "KL"),
        (r"\bauc\b", "AUC"),
        (r" nats$", " (nats)"),
        (r" per s$", " per second"),
    ):
        words = re.sub(pattern, written, words)
    return words[:1].upper() + words[1:]


def requirement(item: Mapping[str, Any], language: Language = "en") -> str:
    """A requirement of readiness: 12 of 200 thumbs. One that is not known here says its own name."""
    spoken = share if item["name"].startswith("share") else number
    values = {"value": spoken(item["value"], language), "wanted": spoken(item["wanted"], language)}
    if item["name"] in REQUIREMENTS:
        return translated(language, REQUIREMENTS[item["name"]], **values)
    return f"{values['value']} / {values['wanted']} {item['name']}"


def lacking(item: Mapping[str, Any], language: Language = "en") -> str:
    """What a method lacks: 47 more thumbs, 12 of them down. What is not known here says its own words."""
    name = f"thumbs {item['kind']}" if item["name"] == "thumbs" and item["kind"] else item["name"]
    if name not in MISSING:
        return str(item["words"])
    values = {"more": number(item["more"], language), "of_kind": number(item["of_kind"], language)}
    return translated(language, MISSING[name], **values)


def group(name: str, language: Language = "en") -> str:
    """What a group of requirements is for."""
    return translated(language, GROUPS[name]) if name in GROUPS else name.upper()


def filters(language: Language) -> dict[str, Callable[..., Any]]:
    """Return the filters of the templates, in one language."""
    named = (number, share, span, share_span, ago, moment, duration, requirement, lacking, group)
    found: dict[str, Callable[..., Any]] = {each.__name__: functools.partial(each, language=language) for each in named}
    found["sentence"] = lambda name: translated(language, sentence(name))
    found["state"] = lambda name: translated(language, STATES[name]) if name in STATES else sentence(name)
    found["tone"] = lambda name: TONES.get(name, "calm")
    found["short"] = lambda text, most=10: text if len(text) <= most else text[:most]
    return found


def words(language: Language) -> dict[str, Any]:
    """Return what every template may name."""
    return {"UNKNOWN": UNKNOWN, "DOUBTS": DOUBTS}


def _locale(language: Language) -> str:
    return language.replace("-", "_")
