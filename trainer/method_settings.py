"""Settings of the methods that learn through a reward model: sections [reward] and [online] of thumbwise.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class RewardSettings(BaseModel):
    """[reward]: the reward model, and the bar that it must pass before a policy may be trained with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimensions: tuple[str, ...] = ("overall=1",)
    """What is scored, each with its weight in the reward, like "helpful=1", "harmless=2" or "concise=0.5". A verdict
    teaches those that its reasons speak of: helpful, harmless and concise know the reasons that people can tap, and the
    name of a dimension is a reason for it. Every other verdict teaches the first."""
    reasons: tuple[str, ...] = ()
    """Which dimension a reason speaks of, like "good_tone=polite", beside the usual ones."""
    rankings: Literal["plackett_luce", "pairs"] = "plackett_luce"
    """How a ranking of three or more replies is learnt: as a whole, or as the mean of all its pairs."""
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    """Peak learning rate of AdamW for the reward model's adapter."""
    head_learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    """The same for the scalar head."""
    epochs: float = Field(default=2.0, gt=0)
    """Passes over the comparisons."""
    batch_size: int = Field(default=32, ge=1)
    """Comparisons of one optimiser step, of about equal length. Those of one prompt are learnt together, so a step of
    few comparisons is a step of one or two prompts."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's, against learning comparisons by heart."""
    centre: float = Field(default=0.01, ge=0)
    """Weight of the squared sum of a comparison's rewards, which keeps them around zero."""
    min_held_out: int = Field(default=200, ge=1)
    """Held-out comparisons that judge a reward model; fewer leave it below its bar."""
    min_share_of_ceiling: float = Field(default=0.9, ge=0, le=1)
    """Its accuracy on held-out comparisons must be this part of the most that raters' agreement allows, where too few
    comparisons have three raters."""
    min_accuracy_bound: float = Field(default=0.6, ge=0, le=1)
    """That accuracy's lower bound (Wilson, 95 %) must lie above this in any case."""
    min_consensus_accuracy: float = Field(default=0.85, ge=0, le=1)
    """Its accuracy where raters are of one mind: at least 3 votes, at least 80 % of them one way."""
    min_consensus_pairs: int = Field(default=20, ge=1)
    """From this many such held-out comparisons on, that accuracy is asked instead of the part of the ceiling."""
    max_calibration_error: float = Field(default=0.08, ge=0, le=1)
    """Most by which its confidence may differ from its accuracy (expected calibration error, ten bins)."""
    assumed_agreement: float = Field(default=0.70, gt=0.5, le=1)
    """How often two raters agree, where fewer than `min_agreement_pairs` comparisons were judged twice."""
    min_agreement_pairs: int = Field(default=30, ge=2)
    """Comparisons judged by two raters from which their agreement is measured rather than assumed."""
    label_requests: int = Field(default=30, ge=0, le=200)
    """How many comparisons a reward model below its bar asks people to judge: those that it is least sure of."""

    @field_validator("dimensions")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        weights_of(value)
        return value

    @field_validator("reasons")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            reason, sign, name = text.partition("=")
            if not sign or not reason.strip() or not name.strip():
                raise ValueError(f'reward.reasons holds {text!r}; wanted: reason=dimension, like "good_tone=polite"')
        pairs = (text.lower().replace("-", "_").partition("=") for text in value)
        return tuple(f"{reason.strip()}={name.strip()}" for reason, _, name in pairs)

    @property
    def weights(self) -> dict[str, float]:
        """Dimension → weight, in the order given."""
        return weights_of(self.dimensions)


def weights_of(dimensions: tuple[str, ...]) -> dict[str, float]:
    """Read "name=weight" texts. Raises ValueError for an unreadable or doubled one, or none."""
    found: dict[str, float] = {}
    for text in dimensions:
        name, _, weight = text.partition("=")
        name = name.strip().lower()
        try:
            number = float(weight or 1)
        except ValueError:
            number = float("nan")
        if not name or number != number or name in found:
            raise ValueError(
                f'reward.dimensions holds {text!r}; wanted: a name once, with a weight, like "concise=0.5"'
            )
        found[name] = number
    if not found:
        raise ValueError("reward.dimensions is empty; wanted: at least one name")
    return found


class OnlineSettings(BaseModel):
    """[online]: PPO and GRPO, which learn from replies that they draw themselves, scored by the reward model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(default=10, ge=1)
    """Most times that replies are drawn and learnt from."""
    prompts: int = Field(default=12, ge=1)
    """Prompts of one iteration, out of real conversations."""
    replies: int = Field(default=4, ge=2)
    """Replies drawn to each."""
    reply_tokens: int = Field(default=96, ge=4)
    """Most tokens of each."""
    passes: int = Field(default=2, ge=1)
    """How often an iteration's replies are learnt from."""
    minibatch: int = Field(default=8, ge=1)
    """Replies of one optimiser step."""
    learning_rate: float = Field(default=2e-3, gt=0, lt=1)
    """Of AdamW for the policy's adapter, after a warm-up over the first iteration."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """How far the ratio of new to old probability may leave 1 in either direction and still be rewarded."""
    swinging_clip: float = Field(default=0.15, gt=0, lt=1)
    """The same after an iteration in which the style swung: the median length changed by more than a quarter."""
    missing_end_penalty: float = Field(default=0.0, ge=0)
    """Taken from the reward of a reply that did not end by itself (a reward is in log-odds of a rater's preference: 1
    is 73 to 27). By default what raters say decides about it too."""
    min_words: int = Field(default=3, ge=0)
    """A reply of fewer words gets the lowest reward of its iteration: people saw too few of them for the reward model
    to know better than that brevity is liked. 0: it gets what the model says."""
    kl_weight: float = Field(default=0.1, ge=0)
    """Weight of the divergence from the reference in the reward, at first and at least …"""
    kl_target_nats: float = Field(default=2.0, gt=0)
    """… and the divergence of a whole reply above which it rises."""
    kl_gain: float = Field(default=0.2, ge=0, le=1)
    """How fast it rises and comes down again; 0 keeps it."""
    max_step_kl_nats: float = Field(default=1.0, gt=0)
    """An iteration's learning ends when its replies have moved this far (a reply, in nats) from where it began."""
    max_kl_nats: float = Field(default=4.0, gt=0)
    """The training ends, and goes back to the iteration before, when drawn replies diverge this far from the
    reference."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """PPO: λ of the advantage estimate; 1 trusts rewards alone, 0 the value model alone."""
    value_clip: float = Field(default=0.2, gt=0)
    """PPO: how far a value may move in one iteration and still be corrected."""
    value_learning_rate: float = Field(default=2e-3, gt=0, lt=1)
    """PPO: of AdamW for the value model."""
    value_width: int = Field(default=64, ge=1)
    """PPO: width of the value model, two layers over the reference's own hidden states."""
    ratio: Literal["token", "sequence"] = "token"
    """GRPO: whether each token's ratio is clipped, or the whole reply's (GSPO)."""
    sequence_clip: float = Field(default=0.02, gt=0, lt=1)
    """GSPO: the clip of a whole reply's ratio, which is a mean over its tokens and so stays far nearer to 1."""
    scale_by_group: bool = False
    """GRPO: divide advantages by their group's standard deviation, as its paper does. Prompts on which the reward model
    hardly tells replies apart then weigh as much as those on which it does."""
    watch_share: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the training comparisons that neither reward model nor policy learns from, to watch whether people's
    preference rises with the reward."""
    watch_pairs: int = Field(default=64, ge=0)
    """At most so many of them are looked at, after every iteration."""
    stop_when_hacked: bool = True
    """End the training, and go back, when the reward rises by empty, repeated or vanishing replies, or rises while
    held-out preference falls. False: go on, for experiments."""
    max_short_share: float = Field(default=0.05, ge=0, le=1)
    """Replies under 3 words, more of them than in the first iteration by this share: the reward is being hacked."""
    max_repeat_share: float = Field(default=0.05, ge=0, le=1)
    """The same for the share of four-word sequences that a reply repeats."""
    max_length_fall: float = Field(default=0.65, gt=0, le=1)
    """The same for a median length that has fallen by this share of the first iteration's, or grown to its reciprocal:
    a little before `gate.max_length_factor` would refuse the candidate."""
