"""The settings of one round: the trainer's, changed by what the round's wish asks for, and recorded in its row."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from trainer.context import TrainerContext
from trainer.job import Job
from trainer.judgements import Usable
from trainer.method_settings import OnlineSettings, RewardSettings
from trainer.readiness import agreement_of
from trainer.settings import GateSettings, LoraSettings, TrainingSettings


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Every section that shapes a training."""

    training: TrainingSettings
    lora: LoraSettings
    gate: GateSettings
    reward: RewardSettings
    online: OnlineSettings


_NAMES = tuple(section.name for section in fields(JobSettings))


def settings_of(context: TrainerContext, wish: Mapping[str, Any]) -> JobSettings:
    """Return the context's settings, each section overlaid with the wish's of the same name. Raises ValueError for what
    could not be served."""
    found: dict[str, Any] = {}
    for name in _NAMES:
        section = getattr(context, name)
        found[name] = type(section).model_validate(section.model_dump() | dict(wish.get(name) or {}))
    if found["lora"].kind == "dora" and context.policy.engine == "vllm":
        raise ValueError(
            "lora.kind is 'dora', which vLLM does not serve, and policy.engine is 'vllm'; wanted: lora or rslora"
        )
    return JobSettings(**found)


def label_smoothing(kept: Usable, training: TrainingSettings, reward: RewardSettings) -> float:
    """Return the share of verdicts that DPO takes to be wrong: the setting's, or what raters' agreement says where it
    was measured, else 0. Just below one half at most, where the loss would end."""
    if training.label_smoothing != "auto":
        return training.label_smoothing
    agreement = agreement_of(kept, reward)
    return 0.0 if agreement.assumed else min(agreement.label_noise, 0.45)


def recorded(job: Job) -> dict[str, Any]:
    """The settings that made this round, for its row."""
    return {name: getattr(job, name).model_dump(mode="json") for name in _NAMES}
