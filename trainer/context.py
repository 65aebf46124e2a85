"""What a supervisor works with, handed in by whoever composes a process (`thumbwise up`, `thumbwise train`, a test)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from feedback_store.settings import RetentionSettings, TrustSettings
from feedback_store.store import Store
from serving.settings import PolicySettings
from trainer.method_settings import OnlineSettings, RewardSettings
from trainer.settings import CanarySettings, GateSettings, LoraSettings, RoundSettings, TrainingSettings


@dataclass(slots=True)
class TrainerContext:
    """A trainer's parts and settings."""

    store: Store
    data_dir: Path
    base_model_dir: Path
    base_model: str
    """Fingerprint of the base model."""
    policy: PolicySettings = field(default_factory=PolicySettings)
    rounds: RoundSettings = field(default_factory=RoundSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    online: OnlineSettings = field(default_factory=OnlineSettings)
    canary: CanarySettings = field(default_factory=CanarySettings)
    trust: TrustSettings = field(default_factory=TrustSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    prepare_version: Callable[[int], None] = lambda version: None
    """Called before a promotion: loads the version beside the live one, or raises AdapterRefused."""
    on_pointer_moved: Callable[[], None] = lambda: None
    """Called after a promotion was committed."""
    on_training: Callable[[bool], None] = lambda running: None
    """Told when a training process starts (True) and ends (False), so that a server beside it can give it room."""

    @property
    def adapters_dir(self) -> Path:
        """Where sealed adapters are."""
        return self.data_dir / "adapters"

    def round_folder(self, round_id: int) -> Path:
        """A round's folder."""
        return self.data_dir / "rounds" / str(round_id)
