"""Is there enough feedback for a round, and of which method? A pure rule over counts, with its reasons in words.

Some conditions are known only where people judged the same thing twice (their agreement), or once a reward model was
trained (how it stands to its bar, how far the labels are that it asked for): they are asked as soon as they are known.
Beside the thresholds stand what is missing in numbers (`missing`) and signs that no amount would help (`wrong_tool`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

from feedback_store.connection import Connection
from feedback_store.records import Method
from feedback_store.statistics import wilson
from trainer.asking import Asked
from trainer.asking import asked as labels_asked
from trainer.evidence import last_reward_report, read_evidence, usable_of
from trainer.judgements import Usable
from trainer.method_settings import RewardSettings
from trainer.missing import LABELS, Missing, missing_of
from trainer.pair_agreement import PairAgreement, measured_agreement
from trainer.selection import held_out
from trainer.settings import RoundSettings, TrainingSettings
from trainer.wrong_tool import Signals, signals_of

Wanted = Literal["auto", "sft", "kto", "dpo", "reward", "ppo", "grpo"]
METHODS: tuple[Method, ...] = ("sft", "kto", "dpo", "reward", "ppo", "grpo")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One threshold: `value` found, at least `wanted` asked (or at most, where `at_most` says so)."""

    name: str
    value: float
    wanted: float
    at_most: bool = False
    interval: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted

    @property
    def reached(self) -> float:
        """How near it is, from 0 to 1."""
        if self.met:
            return 1.0
        return min(self.wanted / self.value, 1.0) if self.at_most else min(self.value / self.wanted, 1.0)


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a round would do now. `method` is the one that it would use; None: nothing is ready."""

    method: Method | None
    reason: str
    requirements: dict[str, tuple[Requirement, ...]]
    """`common` and one entry per method."""
    counts: dict[str, int]
    ask: tuple[tuple[str, ...], ...] = ()
    """Pairs of reply ids whose judgement would teach a reward model most."""
    missing: dict[Method, tuple[Missing, ...]] = field(default_factory=dict)
    """What each method still lacks; nothing where it may run."""
    signals: Signals | None = None
    """How far raters agree, and what speaks against alignment; None where the acts were not looked at."""
    reward_model: dict[str, Any] | None = None
    """How the last reward model stands to its bar."""

    @property
    def ready(self) -> bool:
        """Whether a round may start."""
        return self.method is not None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON: ready, method, reason, requirements (name, value, wanted, at_most, interval, met),
        counts, ask, methods (may_run, and what is missing: name, words, more, kind, of_kind), agreement (alpha, low,
        high, units), wrong_tool (name, found, value, interval, n, advice) and reward_model."""
        return {
            "ready": self.ready,
            "method": self.method,
            "reason": self.reason,
            "requirements": {
                group: [asdict(requirement) | {"met": requirement.met} for requirement in requirements]
                for group, requirements in self.requirements.items()
            },
            "counts": self.counts,
            "ask": [list(pair) for pair in self.ask],
            "methods": {
                method: {"may_run": not missing, "missing": [asdict(one) for one in missing]}
                for method, missing in self.missing.items()
            },
            "agreement": None if self.signals is None else asdict(self.signals.alpha),
            "wrong_tool": [] if self.signals is None else [asdict(doubt) for doubt in self.signals.doubts],
            "reward_model": self.reward_model,
        }


def judge_readiness(
    kept: Usable,
    rounds: RoundSettings,
    wanted: Wanted = "auto",
    *,
    auto_order: Sequence[Method] = ("kto", "dpo", "sft"),
    reward: RewardSettings | None = None,
    reward_report: dict[str, Any] | None = None,
    asked: Asked | None = None,
    signals: Signals | None = None,
    seed: int = 0,
) -> Readiness:
    """Apply the thresholds to deduplicated, capped, non-quarantined feedback whose text is kept.

    auto takes the first of `auto_order` whose thresholds hold. KTO comes first by default, since it learns at least as
    much as DPO from equal data and verdicts feed it too. reward_report: how the last reward model stood to its bar;
    asked: how far the labels are that it asked for.
    """
    reward = reward or RewardSettings()
    agreement = agreement_of(kept, reward)
    requirements = _requirements(kept, rounds, reward, agreement, reward_report, asked, seed)
    methods: tuple[Method, ...] = tuple(auto_order) if wanted == "auto" else (wanted,)
    missing = {
        method: [item for item in (*requirements["common"], *requirements[method]) if not item.met]
        for method in methods
    }
    ask = tuple(tuple(pair) for pair in (reward_report or {}).get("ask", ()))
    counts = kept.counts | _counts(kept)
    purpose = "" if asked is None else asked.purpose
    lacking = {
        method: missing_of(
            (*requirements["common"], *requirements[method]), up=counts["up"], down=counts["down"], purpose=purpose
        )
        for method in METHODS
    }
    told = partial(Readiness, missing=lacking, signals=signals, reward_model=_reward_model(reward_report))
    for method in methods:
        if not missing[method]:
            return told(method, f"ready for {method.upper()}", requirements, counts, ask)
    nearest = min(methods, key=lambda method: _shortfall((*requirements["common"], *requirements[method])))
    reason = f"not ready for {nearest.upper()}: " + ", ".join(_in_words(item) for item in missing[nearest])
    return told(None, reason, requirements, counts, ask)


def agreement_of(kept: Usable, reward: RewardSettings) -> PairAgreement:
    """How far raters agree on comparisons; assumed where too few were judged twice."""
    return measured_agreement(
        ((pair.rater_id, pair.chosen, pair.rejected) for pair in kept.pairs),
        at_least=reward.min_agreement_pairs,
        assumed=reward.assumed_agreement,
    )


def _requirements(
    kept: Usable,
    rounds: RoundSettings,
    reward: RewardSettings,
    agreement: PairAgreement,
    report: dict[str, Any] | None,
    asked: Asked | None,
    seed: int,
) -> dict[str, tuple[Requirement, ...]]:
    thumbs = Counter(vote.up for vote in kept.votes)
    minority = min(thumbs[True], thumbs[False])
    pair_prompts = {kept.prompt_keys[pair.chosen] for pair in kept.pairs}
    agree: list[Requirement] = []
    clear: list[Requirement] = []
    if not agreement.assumed and agreement.interval is not None:
        low = agreement.interval[0]
        agree = [
            Requirement("agreement's lower bound", low, rounds.min_agreement_bound, interval=agreement.interval),
        ]
        clear = [
            Requirement("raters' agreement", agreement.value, rounds.min_pair_agreement, interval=agreement.interval)
        ]
    acts = len({(pair.rater_id, pair.feedback_id) for pair in kept.pairs})
    compared = (
        Requirement("comparisons", acts, rounds.min_reward_pairs),
        Requirement("held-out comparisons", _held_out_pairs(kept, rounds, seed), reward.min_held_out),
    )
    known = tuple(
        Requirement(
            f"reward model's {item['name']}",
            item["value"],
            item["wanted"],
            item["at_most"],
            None if item["interval"] is None else (item["interval"][0], item["interval"][1]),
        )
        for item in (report or {}).get("conditions", ())
        if item["name"] != "held-out comparisons"
    )
    if asked is not None:
        known = (*known, Requirement(LABELS, asked.done, asked.wanted))
    return {
        "common": (
            Requirement("raters", len(kept.raters), rounds.min_raters),
            Requirement("prompts", len(set(kept.prompt_keys.values())), rounds.min_prompts),
            *agree,
        ),
        "sft": (
            Requirement("approved corrections", len(kept.corrections), rounds.min_corrections),
            Requirement(
                "authors of corrections", len({item.rater_id for item in kept.corrections}), rounds.min_authors
            ),
        ),
        "kto": (
            Requirement("thumbs", len(kept.votes), rounds.min_thumbs),
            Requirement("rarer thumbs", minority, rounds.min_minority),
            Requirement(
                "share of rarer thumbs",
                minority / len(kept.votes) if kept.votes else 0.0,
                rounds.min_minority_share,
                interval=wilson(minority, len(kept.votes)) if kept.votes else None,
            ),
        ),
        "dpo": (
            Requirement("pairs", len(kept.pairs), rounds.min_pairs),
            Requirement("prompts of pairs", len(pair_prompts), rounds.min_pair_prompts),
            *clear,
        ),
        "reward": (compared[1], *clear),
        "ppo": (*compared, *clear, *known),
        "grpo": (*compared, *clear, *known),
    }


def _held_out_pairs(kept: Usable, rounds: RoundSettings, seed: int) -> int:
    """How many comparisons a round would hold out, by rater or by prompt (see `selection.select`)."""
    raters = held_out(kept.raters, rounds.held_out_raters, seed, "rater")
    prompts = held_out(kept.prompt_keys.values(), rounds.held_out_prompts, seed, "prompt")
    return len(
        {
            (pair.rater_id, pair.feedback_id)
            for pair in kept.pairs
            if pair.rater_id in raters or kept.prompt_keys[pair.chosen] in prompts
        }
    )


def _counts(kept: Usable) -> dict[str, int]:
    up = sum(vote.up for vote in kept.votes)
    return {
        "thumbs": len(kept.votes),
        "up": up,
        "down": len(kept.votes) - up,
        "pairs": len(kept.pairs),
        "corrections": len(kept.corrections),
        "raters": len(kept.raters),
        "prompts": len(set(kept.prompt_keys.values())),
    }


def _reward_model(report: dict[str, Any] | None) -> dict[str, Any] | None:
    """What people want to know of the last reward model, beside its conditions."""
    if report is None:
        return None
    found = {item["name"]: item for item in report["conditions"]}
    accuracy, calibration = found.get("accuracy"), found.get("calibration error")
    return {
        "sha256": report.get("sha256"),
        "passed": report["passed"],
        "pairs": report["pairs"],
        "accuracy": None if accuracy is None else accuracy["value"],
        "interval": None if accuracy is None else accuracy["interval"],
        "ceiling": report["ceiling"],
        "calibration_error": None if calibration is None else calibration["value"],
    }


def _in_words(item: Requirement) -> str:
    if item.at_most:
        return f"{item.name} {item.value:.3g}, wanted at most {item.wanted:g}"
    return f"{item.name} {round(item.value, 4):g} of {round(item.wanted, 4):g}"


def _shortfall(requirements: Sequence[Requirement]) -> float:
    """How far from ready, from 0 to 1: the mean part that lacks. Equal for all methods of an empty store."""
    return sum(1 - item.reached for item in requirements) / len(requirements)


def readiness(
    connection: Connection, rounds: RoundSettings, training: TrainingSettings, reward: RewardSettings | None = None
) -> Readiness:
    """Judge the store as it is now. `connection` is the store's (`store.read(readiness, …)`)."""
    evidence = read_evidence(
        connection,
        fresh_only=rounds.fresh_only,
        verdicts_as_thumbs=training.use_verdicts_as_thumbs,
        held_back=rounds.held_back_channels,
    )
    kept = usable_of(evidence, rounds, training.seed)
    report = last_reward_report(connection)
    pairs = [(pair.rater_id, pair.chosen, pair.rejected) for pair in kept.pairs]
    judged = judge_readiness(
        kept,
        rounds,
        training.method,
        auto_order=training.auto_order,
        reward=reward,
        reward_report=report,
        asked=labels_asked(connection, report),
        signals=signals_of(
            evidence.heard, evidence.found.votes, pairs, agreement_of(kept, reward or RewardSettings()), rounds
        ),
        seed=training.seed,
    )
    counts = judged.counts | {"acts": evidence.acts, "acts_of_quarantined_raters": evidence.quarantined}
    return replace(judged, counts=counts)
