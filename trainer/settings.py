"""Settings of rounds: sections [rounds], [training], [lora] and [gate] of thumbwise.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RoundSettings(BaseModel):
    """[rounds]: when a round runs and on which feedback."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schedule: str = ""
    """Cron expression (minute hour day month weekday) at which the clock asks for a round. Empty: only by hand."""
    quiet_hours: str = ""
    """Like "08:00-22:00" (local time): the clock asks for no round inside. Empty: none."""
    min_thumbs: int = Field(default=200, ge=2)
    min_minority: int = Field(default=50, ge=1)
    """Thumbs of the rarer kind that KTO needs."""
    min_minority_share: float = Field(default=0.10, ge=0, le=0.5)
    min_pairs: int = Field(default=200, ge=2)
    """Decided comparisons that DPO needs."""
    min_pair_prompts: int = Field(default=100, ge=1)
    min_raters: int = Field(default=20, ge=1)
    min_prompts: int = Field(default=50, ge=1)
    max_votes_per_rater: int = Field(default=10, ge=1)
    """A rater's votes beyond this many, or beyond 5 % of the selection, whichever is more, are left out."""
    held_out_raters: float = Field(default=0.15, gt=0, lt=0.5)
    held_out_prompts: float = Field(default=0.15, gt=0, lt=0.5)
    """Shares held out by rater and by prompt: feedback of either is never trained on."""
    fresh_only: bool = True
    """Train only on feedback given since the live version was published (on-policy); False: on all."""
    auto_promote: bool = True
    """A round that passes its gate goes live by itself. False: it waits as a candidate for an admin."""
    lease_s: float = Field(default=60.0, gt=1)


class LoraSettings(BaseModel):
    """[lora]: the adapter's shape."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=8, ge=1, le=512)
    alpha: float = Field(default=16.0, gt=0)
    upper_layers: float = Field(default=0.5, gt=0, le=1)
    """Share of the layers, counted from the top, that are adapted: half halves the backward pass."""
    target_modules: tuple[str, ...] = ("q_proj", "v_proj", "o_proj", "down_proj")


class TrainingSettings(BaseModel):
    """[training]: the optimiser and the losses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["auto", "kto", "dpo"] = "auto"
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=8, ge=2)
    beta: float = Field(default=0.1, gt=0)
    max_tokens: int = Field(default=512, ge=16)
    """Longest prompt plus completion trained on; longer rows are dropped, counted and reported."""
    threads: int = Field(default=0, ge=0)
    """Torch threads of the training process. 0: cores − 1, at least 1."""
    niceness: int = Field(default=15, ge=0, le=19)
    seed: int = 0


class GateSettings(BaseModel):
    """[gate]: what a candidate must show. Shares are fractions (0.05 is 5 percentage points)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    replies: int = Field(default=128, ge=8)
    """On-policy replies drawn from candidate and live alike, on prompts that were not trained on."""
    reply_tokens: int = Field(default=96, ge=8)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    held_out_auc: float = Field(default=0.5, ge=0, le=1)
    """Lower bound of the held-out preference (AUC of the implicit reward against thumbs) must lie above."""
    max_kl_live_nats: float = Field(default=8.0, gt=0)
    max_kl_base_nats: float = Field(default=15.0, gt=0)
    max_length_change: float = Field(default=0.25, gt=0)
    """Median length may leave the range of what raters liked by at most this share."""
    max_short_rise: float = Field(default=0.01, ge=0)
    max_empty: float = Field(default=0.005, ge=0)
    max_repeat_rise: float = Field(default=0.02, ge=0)
    min_distinct_ratio: float = Field(default=0.9, ge=0, le=1)
    max_phrase_share: float = Field(default=0.02, ge=0, le=1)
    max_phrase_ratio: float = Field(default=3.0, ge=1)
    max_perplexity_rise: float = Field(default=0.05, ge=0)
    warn_perplexity_rise: float = Field(default=0.03, ge=0)
