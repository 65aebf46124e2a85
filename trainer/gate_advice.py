"""What to do next when a gate did not pass (the troubleshooting table, as data), and what a gate cannot prove."""

from collections.abc import Mapping, Sequence

from trainer.gate_checks import Check
from trainer.settings import GateSettings

PROMOTION_PAIRS = 200
"""Judged pairs from which a win rate says something: 194 show a true 60 % with 80 % power."""
_FLAT_MARGIN = 0.1

_MORE = "gather more feedback of people and on prompts that were not trained on, or raise gate.replies"
_DRIFT = "train more gently: lower training.learning_rate or training.epochs, or raise training.anchor or training.beta"
_PLAIN = "raise training.plain_text_weight, and lower training.learning_rate or lora.upper_layers"
_SAFETY = (
    "look at the examples, then at what was up-voted on such prompts; quarantine raters who reward it, and lower "
    "training.learning_rate"
)
_ADVICE: Mapping[str, str] = {
    "held_out_preference": "new prompts and raters are judged wrongly: widen the prompts that people rate, and take "
    "more raters rather than more votes of the same",
    "held_out_pairs": "widen the prompts that people compare; show them replies that differ more",
    "win_rate": "the judge prefers the live version: compare the examples yourself, widen the prompts, or train on "
    "pairs that people chose clearly",
    "reward_without_preference": "the reward is being gamed: train a fresh reward model on new labels, or go back to "
    "DPO or KTO until it agrees with held-out people",
    "kl_live": _DRIFT,
    "kl_live_warning": _DRIFT,
    "kl_base": "all rounds together went far from the base model: roll back to an earlier version, or start a round "
    "from the base on all feedback (rounds.fresh_only = false)",
    "length": "length moves with what people like; if that is not wanted, lower training.beta's freedom (raise "
    "training.beta) or ask people to judge content",
    "length_far": "replies changed their length too much: declare it as a goal (gate.length_goal = any) if it is "
    "wanted; else raise training.anchor, or lower the clip and train more, smaller epochs",
    "truncated": "replies are cut off: raise gate.reply_tokens if people see longer ones, or see to it that long "
    "replies are not up-voted for their length",
    "truncated_far": "replies run into their limit: look for what up-votes long ones; raise training.anchor, or "
    "declare length as a goal (gate.length_goal = any) if it is wanted",
    "short": "the policy collapses to very short replies: raise training.beta or training.anchor, and see who up-voted "
    "replies of one or two words",
    "empty": "the policy ends at once: raise training.anchor; check that empty replies are not up-voted",
    "repeated": _DRIFT,
    "distinct": _DRIFT,
    "opening": "one opening takes over: a style returns; lower the clip, use more and smaller epochs, and look for "
    "raters who up-vote it",
    "new_phrases": "a phrase was planted or picked up: look at who up-voted it (thumbwise raters), quarantine them, "
    "then ask for a round again",
    "retention_perplexity": _PLAIN,
    "retention_perplexity_warning": _PLAIN,
    "choice": _PLAIN,
    "over_refusal": _SAFETY,
    "over_refusal_drawn": _SAFETY,
    "harmful_compliance": _SAFETY,
    "harmful_compliance_drawn": _SAFETY,
    "sycophancy": "thumbs teach pleasing: mix in comparisons, lower training.learning_rate, and see who rewards praise",
    "sycophancy_drawn": "thumbs teach pleasing: mix in comparisons, and see who rewards praise",
    "praise": "thumbs teach pleasing: mix in comparisons, and see who rewards praise",
    "language": "feedback in other languages is too rare: gather some, or leave those prompts out of training",
    "language_flip": "the policy answers in another language: look at who up-votes such replies",
    "insults": _SAFETY,
    "replies": "let people chat more: the gate needs prompts that were not trained on",
}


def advise(checks: Sequence[Check], margin: float | None) -> list[str]:
    """Say what to do about every check that did not pass, hard ones first; each sentence once.

    margin: the training's last reward margin, liked over disliked, if it has one.
    """
    found: list[str] = []
    open_checks = sorted((check for check in checks if check.outcome != "pass"), key=lambda check: not check.hard)
    if open_checks and margin is not None and abs(margin) < _FLAT_MARGIN:
        found.append("the reward stayed flat: replies to a prompt are too alike to learn from; show people more "
                     "different ones (a higher temperature), or raise training.learning_rate")  # fmt: skip
    for check in open_checks:
        advice = _ADVICE.get(check.name, "look at the examples and the figures of this check")
        if check.outcome == "inconclusive" and check.hard and "only" in check.reason:
            advice = _MORE
        sentence = f"{check.name}: {advice}"
        if sentence not in found:
            found.append(sentence)
    return found


def not_proven(checks: Sequence[Check], settings: GateSettings, *, judged: int, drawn: bool) -> list[str]:
    """Say what this gate leaves open although it may have passed."""
    found = []
    for check in checks:
        if check.hard and check.outcome == "pass" and check.interval and isinstance(check.threshold, float | int):
            low, high = check.interval
            beyond = low if check.name == "distinct" else high
            outside = beyond < check.threshold if check.name == "distinct" else beyond > check.threshold
            if outside and check.name not in _CLAIMS:
                found.append(f"{check.name}: {beyond:.3g} cannot be excluded (limit {check.threshold:.3g})")
    if not drawn:
        found.append(
            "how replies to harmful and tricky prompts go on: the quick profile only measures how they begin "
            "(gate.profile = full draws them)"
        )
    if judged < PROMOTION_PAIRS:
        found.append(
            f"a win rate: {judged} judged pairs of {PROMOTION_PAIRS}; what speaks for the candidate is the held-out "
            "raters' votes" + ("" if settings.judge_url else " (no judge: gate.judge_url is empty)")
        )
    return found


_CLAIMS = frozenset({"held_out_preference", "held_out_pairs", "win_rate"})
"""Checks whose threshold is a lower bound that the interval has to clear."""
