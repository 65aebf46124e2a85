"""What a demo does, in one value: everything that can be tuned, and nothing that is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from thumbwise.demo.crowd import CrowdPlan


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The numbers of a demo. Equal plans and seeds ask the same prompts, by the same raters, with the same tempers."""

    seed: int = 0
    rounds: int = 2
    crowd: CrowdPlan = field(default_factory=CrowdPlan)
    replies_a_round: int = 480
    """Replies that the crowd draws and rates before each round."""
    votes: Literal["thumbs", "duels"] = "thumbs"
    """duels: a reply counts for `replies_a_round` when it is one of the two that a rater chooses between."""
    method: str = "kto"
    concurrency: int = 48
    """Chats held at the same time: near the server's batch, so that steps are full."""
    temperature: float = 1.0
    top_p: float = 0.95
    max_tokens: int = 96
    fresh_prompts: int = 104
    fresh_replies: int = 2
    """Replies to each fresh prompt, of every version that is measured."""
    force_promotion: bool = False
    """Promote a candidate that its gate did not pass, through the admin's route: for the controls, where the trained
    policy itself is to be measured, whatever the gate found."""
    threads: int | None = None
    """Torch threads of the server; None: as it decides by itself."""
    round_timeout_s: float = 3600.0
    settings: Mapping[str, str | int | float | bool] = field(
        default_factory=lambda: {
            "rounds.held_out_raters": 0.18,
            "rounds.held_out_prompts": 0.18,
            "serving.max_batch": 48,
        }
    )
    """Settings of the server ("section.key" to value) that differ from their defaults: its thumbwise.toml."""

    def __post_init__(self) -> None:
        for name in ("rounds", "replies_a_round", "concurrency", "max_tokens", "fresh_prompts", "fresh_replies"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}; wanted at least 1")
