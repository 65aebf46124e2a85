"""Is there enough feedback for a round, and of which method? A pure rule over counts, with its reasons in words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from feedback_store.connection import Connection
from feedback_store.records import Method
from trainer.evidence import read_evidence
from trainer.selection import Usable, usable
from trainer.settings import RoundSettings, TrainingSettings


@dataclass(frozen=True, slots=True)
class Requirement:
    """One threshold: `value` found, at least `wanted` asked."""

    name: str
    value: float
    wanted: float

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.value >= self.wanted


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a round would do now. `method` is the one that it would use; None: nothing is ready."""

    method: Method | None
    reason: str
    requirements: dict[str, tuple[Requirement, ...]]
    """`common` and one entry per method."""
    counts: dict[str, int]

    @property
    def ready(self) -> bool:
        """Whether a round may start."""
        return self.method is not None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON: ready, method, reason, requirements (name, value, wanted, met) and counts."""
        return {
            "ready": self.ready,
            "method": self.method,
            "reason": self.reason,
            "requirements": {
                group: [asdict(requirement) | {"met": requirement.met} for requirement in requirements]
                for group, requirements in self.requirements.items()
            },
            "counts": self.counts,
        }


def judge_readiness(kept: Usable, rounds: RoundSettings, wanted: Literal["auto", "kto", "dpo"] = "auto") -> Readiness:
    """Apply the thresholds to deduplicated, capped, non-quarantined feedback whose text is kept.

    auto takes KTO when its thresholds hold, since it learns at least as much as DPO from equal data and verdicts feed
    it too; else DPO when its own hold.
    """
    thumbs = Counter(vote.up for vote in kept.votes)
    minority = min(thumbs[True], thumbs[False])
    raters = kept.raters
    prompts = set(kept.prompt_keys.values())
    pair_prompts = {kept.prompt_keys[pair.chosen] for pair in kept.pairs}
    requirements = {
        "common": (
            Requirement("raters", len(raters), rounds.min_raters),
            Requirement("prompts", len(prompts), rounds.min_prompts),
        ),
        "kto": (
            Requirement("thumbs", len(kept.votes), rounds.min_thumbs),
            Requirement("rarer thumbs", minority, rounds.min_minority),
            Requirement(
                "share of rarer thumbs", minority / len(kept.votes) if kept.votes else 0.0, rounds.min_minority_share
            ),
        ),
        "dpo": (
            Requirement("pairs", len(kept.pairs), rounds.min_pairs),
            Requirement("prompts of pairs", len(pair_prompts), rounds.min_pair_prompts),
        ),
    }
    methods: tuple[Method, ...] = ("kto", "dpo") if wanted == "auto" else (wanted,)
    missing = {
        method: [item for item in (*requirements["common"], *requirements[method]) if not item.met]
        for method in methods
    }
    counts = kept.counts | {
        "thumbs": len(kept.votes),
        "up": thumbs[True],
        "down": thumbs[False],
        "pairs": len(kept.pairs),
        "raters": len(raters),
        "prompts": len(prompts),
    }
    for method in methods:
        if not missing[method]:
            return Readiness(method, f"ready for {method.upper()}", requirements, counts)
    nearest = min(methods, key=lambda method: _shortfall((*requirements["common"], *requirements[method])))
    reason = f"not ready for {nearest.upper()}: " + ", ".join(
        f"{item.name} {item.value:g} of {item.wanted:g}" for item in missing[nearest]
    )
    return Readiness(None, reason, requirements, counts)


def _shortfall(requirements: Sequence[Requirement]) -> float:
    """How far from ready, from 0 to 1: the mean part that lacks. Equal for all methods of an empty store."""
    return sum(1 - min(item.value / item.wanted, 1.0) if item.wanted else 0.0 for item in requirements) / len(
        requirements
    )


def readiness(connection: Connection, rounds: RoundSettings, training: TrainingSettings) -> Readiness:
    """Judge the store as it is now. `connection` is the store's (`store.read(readiness, …)`)."""
    evidence = read_evidence(
        connection, fresh_only=rounds.fresh_only, verdicts_as_thumbs=training.use_verdicts_as_thumbs
    )
    kept = usable(evidence.found, evidence.replies, max_votes_per_rater=rounds.max_votes_per_rater, seed=training.seed)
    judged = judge_readiness(kept, rounds, training.method)
    counts = judged.counts | {"acts": evidence.acts, "acts_of_quarantined_raters": evidence.quarantined}
    return Readiness(judged.method, judged.reason, judged.requirements, counts)
