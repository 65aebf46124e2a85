"""A round's folder: the whole input of the training process, and where it leaves what it writes.

    rounds/7/
      job.json        what to train from what, with every setting that counts
      train.jsonl     the rows trained on, of the round's method
      held_out.jsonl  votes and pairs never trained on, for the gate
      prompts.jsonl   prompts for the gate's replies, none of them trained on
      rollouts.jsonl  prompts to which PPO and GRPO draw the replies that they learn from
      unjudged.jsonl  pairs of replies that nobody compared yet: a weak reward model asks about some of them
      reward.json     the reward model's hash, metrics and report, of a round that trains one
      cancel          made by whoever wants the process to stop after its present step
      sealed.json     the sealed adapter's hash, the training's metrics, and which longer steps the gate refused: from
                      here on only the gate is left
      gate.json       the gate's report: from here on nothing is left but to publish
      run.lock        held by the training process (round_folder.py)
      checkpoints/    resumable states of the training (checkpoints.py)
      adapter/        what peft saved, before it is sealed
      log.txt         the process's standard error

The training process never opens the database. Rows carry raters as small numbers of this folder, never as identifiers;
texts are removed when the round has ended (`remove_texts`): the store stays the only place that keeps them.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from feedback_store.records import FinishReason, Message, Method
from trainer.method_settings import OnlineSettings, RewardSettings
from trainer.settings import GateSettings, LoraSettings, TrainingSettings

JOB_FILE = "job.json"
TRAIN_FILE = "train.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
PROMPTS_FILE = "prompts.jsonl"
ROLLOUTS_FILE = "rollouts.jsonl"
UNJUDGED_FILE = "unjudged.jsonl"
CANCEL_FILE = "cancel"
SEALED_FILE = "sealed.json"
REWARD_FILE = "reward.json"
GATE_FILE = "gate.json"
CHECKPOINTS_DIR = "checkpoints"
LOG_FILE = "log.txt"
_TEXT_FILES = (TRAIN_FILE, HELD_OUT_FILE, PROMPTS_FILE, ROLLOUTS_FILE, UNJUDGED_FILE, GATE_FILE)
_SECTIONS: dict[str, type[BaseModel]] = {
    "training": TrainingSettings,
    "lora": LoraSettings,
    "gate": GateSettings,
    "reward": RewardSettings,
    "online": OnlineSettings,
}


@dataclass(frozen=True, slots=True)
class ReplyText:
    """What training needs of a stored reply."""

    reply_id: str
    text: str
    finish_reason: FinishReason
    policy_version: int
    prompt_tokens: int
    completion_tokens: int
    logprob_nats: float | None = None
    ended_by_stop_text: bool = False
    """True: a stop string of the request may have ended it, so whether the policy chose to end is unknown."""


@dataclass(frozen=True, slots=True)
class VoteRow:
    """A reply and how one rater found it: `up` True is KTO's desirable."""

    feedback_id: int
    rater: int
    messages: tuple[Message, ...]
    reply: ReplyText
    up: bool
    kind: Literal["vote"] = "vote"


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two replies to one prompt, of which one rater liked `chosen` better."""

    feedback_id: int
    rater: int
    messages: tuple[Message, ...]
    chosen: ReplyText
    rejected: ReplyText
    reason: str | None = None
    """What the rater gave as the reason; its first word may name a dimension of the reward."""
    kind: Literal["pair"] = "pair"


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """A reply to learn by heart: a rater's approved correction (`reply.text` is the rewrite), or a well-rated reply."""

    feedback_id: int
    rater: int
    messages: tuple[Message, ...]
    reply: ReplyText
    source: Literal["correction", "replay"]
    kind: Literal["example"] = "example"


Row = VoteRow | PairRow | ExampleRow
_ROWS: dict[str, type[Row]] = {"vote": VoteRow, "pair": PairRow, "example": ExampleRow}


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt for the gate or for rollouts. `reply_id` names the reply it was asked for, so that people can look the
    prompt up while the store still keeps it; the gate's report holds no text of users."""

    messages: tuple[Message, ...]
    reply_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What a training process is to do. Directories are absolute."""

    round_id: int
    method: Method
    seed: int
    base_model_dir: str
    base_model: str
    """Fingerprint: the sealed adapter is bound to it."""
    adapters_dir: str
    live_version: int
    live_adapter_sha256: str | None = None
    system_prompt: str = ""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    fence: int = 0
    """Of the claim that selected the rows; the round's row names the same, or the folder is another claim's."""
    erasure: int = 0
    """The newest erasure of which the rows know: whoever was erased later may still stand in them."""
    packs_dir: str = ""
    """Folder of fetched evaluation packs; empty: ours alone."""
    reward_alone_before: bool = False
    """The round before raised its reward while held-out people did not agree: a second time fails the gate."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    online: OnlineSettings = field(default_factory=OnlineSettings)

    @property
    def live_adapter_dir(self) -> Path | None:
        """Folder of the live version's sealed adapter; None when the base model is live."""
        return Path(self.adapters_dir) / self.live_adapter_sha256 if self.live_adapter_sha256 else None


def write_job(
    folder: Path,
    job: Job,
    train: Iterable[Row],
    held_out: Iterable[Row],
    prompts: Iterable[PromptRow],
    rollouts: Iterable[PromptRow] = (),
    unjudged: Iterable[PairRow] = (),
) -> None:
    """Write a round's folder, readable by its owner alone. job.json comes last: a folder without one is unfinished."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / CANCEL_FILE).unlink(missing_ok=True)
    _write_lines(folder / TRAIN_FILE, train)
    _write_lines(folder / HELD_OUT_FILE, held_out)
    _write_lines(folder / PROMPTS_FILE, prompts)
    _write_lines(folder / ROLLOUTS_FILE, rollouts)
    _write_lines(folder / UNJUDGED_FILE, unjudged)
    values = asdict(job)
    for section in _SECTIONS:
        values[section] = values[section].model_dump(mode="json")
    write_whole(folder / JOB_FILE, json.dumps(values, indent=1))


def read_job(folder: Path) -> Job:
    """Read job.json. Raises FileNotFoundError, or ValueError for a key or value that a job does not have."""
    values: dict[str, Any] = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    known = set(Job.__dataclass_fields__)
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{folder / JOB_FILE}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    for section, model in _SECTIONS.items():
        values[section] = model.model_validate(values.get(section, {}))
    return Job(**values)


def read_rows(folder: Path, name: str) -> list[Row]:
    """Read train.jsonl, held_out.jsonl or unjudged.jsonl."""
    rows: list[Row] = []
    for values in _read_lines(folder / name):
        values["messages"] = tuple(values["messages"])
        for part in ("reply", "chosen", "rejected"):
            if part in values:
                values[part] = ReplyText(**values[part])
        rows.append(_ROWS[values["kind"]](**values))
    return rows


def read_prompts(folder: Path, name: str = PROMPTS_FILE) -> list[PromptRow]:
    """Read prompts.jsonl, or rollouts.jsonl."""
    return [PromptRow(tuple(values["messages"]), values["reply_id"]) for values in _read_lines(folder / name)]


def remove_texts(folder: Path) -> None:
    """Remove every file with texts of users, for when the round has ended. Which rows they were stays in the store."""
    for name in _TEXT_FILES:
        (folder / name).unlink(missing_ok=True)


def _write_lines(path: Path, rows: Iterable[Row | PromptRow]) -> None:
    write_whole(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half-written, for its owner alone."""
    scratch = path.with_suffix(path.suffix + ".part")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # a rename that outlives its file's content would be a half-written file after all
    scratch.replace(path)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
