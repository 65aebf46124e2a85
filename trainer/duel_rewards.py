"""The newest reward model above its bar, at hand while people chat: how it likes the candidates of a duel.

It is opened in a thread of its own when the first duel after its round asks for it, and until then (and where none
passed its bar, or its files are gone) the answer is None, so that nobody waits for a model to load. It costs the memory
of a second copy of the base model; `duels.show = "different"` does without.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from feedback_store.store import Store
from serving.settings import PolicySettings
from trainer.evidence import last_reward_report

logger = logging.getLogger(__name__)

TokenIds = tuple[int, ...]
Score = Callable[[TokenIds, Sequence[TokenIds]], list[float]]
LOOK_EVERY_S = 30.0
"""How often the store is asked for a newer one."""


class DuelRewards:
    """Call it with a prompt and completions (token ids). `open_model` opens a sealed reward model by its hash."""

    def __init__(
        self, store: Store, open_model: Callable[[str], Score], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._open, self._clock = store, open_model, clock
        self._lock = threading.Lock()
        self._opening: threading.Thread | None = None
        self._trusted: str | None = None
        self._opened: tuple[str, Score] | None = None
        self._looked_at: float | None = None

    def __call__(self, prompt_ids: TokenIds, completions: Sequence[TokenIds]) -> list[float] | None:
        """Return the weighed reward of each completion, or None while there is no model to trust."""
        with self._lock:  # one thread at a time owns a model
            self._look()
            if self._opened is None or self._opened[0] != self._trusted:
                return None
            return self._opened[1](prompt_ids, completions)

    def wait(self) -> None:
        """Wait until what is being opened is open."""
        if (opening := self._opening) is not None:
            opening.join()

    def _look(self) -> None:
        now = self._clock()
        if self._looked_at is not None and now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        report = self._store.read(last_reward_report)
        trusted = report["sha256"] if report is not None and report["passed"] else None
        if trusted == self._trusted:
            return
        self._trusted, self._opened = trusted, None
        if trusted is not None:
            self._opening = threading.Thread(target=self._open_it, args=(trusted,), name="duel-rewards", daemon=True)
            self._opening.start()

    def _open_it(self, sha256: str) -> None:
        try:
            score = self._open(sha256)
        except Exception:  # a damaged file, no memory: duels go on by distance
            logger.exception("reward model not opened sha256=%s", sha256[:12])
            return
        with self._lock:
            if self._trusted == sha256:
                self._opened = sha256, score
        logger.info("reward model chooses duels sha256=%s", sha256[:12])


def open_reward(data_dir: Path, base_model_dir: Path, base_model: str, policy: PolicySettings, sha256: str) -> Score:
    """Open a sealed reward model for scoring. Raises RewardRefused."""
    from trainer.encoding import Encoded
    from trainer.job import Job
    from trainer.methods.reward_model import RewardModel, rewards_dir
    from trainer.policies import Policies
    from trainer.sealed_reward import reward_shape

    job = Job(
        round_id=0,
        method="reward",
        seed=0,
        base_model_dir=str(base_model_dir),
        base_model=base_model,
        adapters_dir=str(data_dir / "adapters"),
        live_version=1,
        device=policy.device,
    )
    lora, reward = reward_shape(rewards_dir(job) / sha256, sha256, base_model)
    training = job.training.model_copy(update={"dtype": "auto" if policy.dtype == "float16" else policy.dtype})
    job = replace(job, lora=lora, reward=reward, training=training)
    model = RewardModel(Policies.open(job), job)
    model.load(job, sha256)

    def score(prompt_ids: TokenIds, completions: Sequence[TokenIds]) -> list[float]:
        return [float(value) for value in model.rewards([Encoded(prompt_ids, ids) for ids in completions])]

    return score
