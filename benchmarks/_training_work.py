"""What every trainer of `make bench-training` is given: the same rows, in the same order, from the same weights.

Replies are drawn from the bundled model to the demo's prompts, two to each. The shorter of two is preferred, and short
replies are liked: easy to learn, so that a loss curve has somewhere to go. Every reply ends with the end token (stock
trl appends one to each), and its log-probability stands with it, as a server stores it.

A folder holds `work.json` (the numbers below), `votes.jsonl` and `pairs.jsonl` (a round's rows, each with its rendered
`prompt` for the peers), `orders.json` (in which order ours takes them: the peers get them in it) and the adapters'
first weights, one file each for the policy and the reward model.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from feedback_store.records import Message, Sampling
from serving.engine import PolicyRef
from thumbwise.demo.prompts import train_prompts
from trainer.drawing import engine_draw
from trainer.job import Job, PairRow, ReplyText, VoteRow
from trainer.method_settings import OnlineSettings, RewardSettings
from trainer.methods.common import stratified_order
from trainer.methods.reward_model import RewardModel
from trainer.methods.steps import bucketed_batches
from trainer.policies import Policies, upper_layers
from trainer.scoring import summed_logprobs
from trainer.settings import LoraSettings, TrainingSettings

WORK_FILE, ORDERS_FILE = "work.json", "orders.json"
VOTES_FILE, PAIRS_FILE = "votes.jsonl", "pairs.jsonl"
POLICY_INIT, REWARD_INIT = "policy.safetensors", "reward.safetensors"


@dataclass(frozen=True, slots=True)
class Work:
    """What is the same for every trainer. Learning rate and β are ones at which trl's own losses move."""

    model_dir: str
    base_model: str
    """Its fingerprint."""
    dtype: str
    steps: int
    threads: int
    passes: int = 1
    batch_size: int = 4
    learning_rate: float = 1e-3
    warmup_share: float = 0.1
    beta: float = 0.1
    rank: int = 8
    alpha: float = 16.0
    target_modules: tuple[str, ...] = ("q_proj", "v_proj", "o_proj", "down_proj")
    upper_layers: float = 0.5
    max_gradient_norm: float = 1.0
    reply_tokens: int = 64
    seed: int = 0
    iterations: int = 3
    """Of PPO: `ppo_prompts` × `ppo_replies` replies each."""
    ppo_prompts: int = 6
    ppo_replies: int = 4
    minibatch: int = 8
    ppo_passes: int = 2

    @property
    def rows(self) -> int:
        """Rows of one pass."""
        return self.steps * self.batch_size // self.passes

    def layers(self, of_all: int) -> list[int]:
        """The layers that carry an adapter."""
        return upper_layers(of_all, self.upper_layers)

    def job(self, folder: Path, method: str, **training: Any) -> Job:
        """Ours, with this work's settings and nothing that the peers do not do: no anchor, no plain text."""
        settings: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "epochs": self.passes,
            "batch_size": self.batch_size,
            "beta": self.beta,
            "anchor": 0.0,
            "plain_text_weight": 0.0,
            "label_smoothing": 0.0,
            "warmup_share": self.warmup_share,
            "max_gradient_norm": self.max_gradient_norm,
            "max_class_weight": 1.0,
            "dtype": self.dtype,
            "threads": self.threads,
        }
        return Job(
            round_id=1,
            method=method,  # type: ignore[arg-type]
            seed=self.seed,
            base_model_dir=self.model_dir,
            base_model=self.base_model,
            adapters_dir=str(folder / "adapters"),
            live_version=1,
            device="cpu",
            training=TrainingSettings(**(settings | training)),
            lora=LoraSettings(
                rank=self.rank,
                alpha=self.alpha,
                upper_layers=self.upper_layers,
                target_modules=self.target_modules,
            ),
            reward=RewardSettings(
                learning_rate=self.learning_rate,
                head_learning_rate=self.learning_rate,
                batch_size=self.batch_size,
                epochs=self.passes,
                weight_decay=0.0,
                centre=0.0,
            ),
            online=OnlineSettings(
                iterations=self.iterations,
                prompts=self.ppo_prompts,
                replies=self.ppo_replies,
                reply_tokens=self.reply_tokens,
                passes=self.ppo_passes,
                minibatch=self.minibatch,
                learning_rate=self.learning_rate,
                stop_when_hacked=False,
                max_kl_nats=1e9,
                max_step_kl_nats=1e9,
                watch_pairs=0,
            ),
        )


class Clock:
    """When the set-up began and each step ended, for every trainer alike. `result` is what its process prints last."""

    def __init__(self) -> None:
        self._began_at = time.perf_counter()
        self.ends: list[float] = []
        self.losses: list[float] = []

    def step(self, loss: float) -> None:
        """A step has ended."""
        self.ends.append(time.perf_counter())
        self.losses.append(loss)

    def result(self, **more: Any) -> dict[str, Any]:
        """Seconds from the loaded model to the end of the first step, of every step after it, and the losses."""
        steps = [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]
        return {"first_s": self.ends[0] - self._began_at, "step_s": steps, "losses": self.losses, **more}


def say(result: dict[str, Any]) -> None:
    """Print a process's result as its last line; libraries print before it."""
    print(json.dumps(result), flush=True)


def write_work(folder: Path, work: Work) -> None:
    """Make the rows and first weights in `folder`."""
    torch.set_num_threads(work.threads)
    folder.mkdir(parents=True, exist_ok=True)
    job = work.job(folder, "kto")
    policies = Policies.open(job)
    own = {name: found.detach().clone() for name, found in policies.model.named_parameters() if ".default." in name}
    save_file(own, folder / POLICY_INIT)
    reward = RewardModel(policies, job)
    first = {name.replace(".reward.", ".default."): found.detach().clone() for name, found in reward.parameters.items()}
    save_file(first, folder / REWARD_INIT)
    both = _replies(policies, job, work)
    votes = [VoteRow(place, place % 30, messages, two[place % 2], up=place % 2 == 0) for place, (messages, two) in both]
    pairs = [PairRow(place, place % 30, messages, *two) for place, (messages, two) in both]
    for name, rows in ((VOTES_FILE, votes), (PAIRS_FILE, pairs)):
        lines = [
            asdict(row) | {"prompt": policies.tokenizer.decode(policies.encoder.prompt_ids(row.messages))}
            for row in rows
        ]
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    encoded = [[policies.encoder.encode(row.messages, reply) for reply in (row.chosen, row.rejected)] for row in pairs]
    batches = bucketed_batches(
        [max(sequence.tokens for sequence in row) for row in encoded],
        [row[0].prompt_ids for row in encoded],
        work.passes,
        work.batch_size,
        work.seed,
    )
    orders = {
        "kto": stratified_order([row.up for row in votes], work.passes, work.seed),
        "dpo": stratified_order([True] * len(pairs), work.passes, work.seed),
        "reward": [place for batch in batches for place in batch],
    }
    (folder / ORDERS_FILE).write_text(json.dumps(orders), encoding="utf-8")
    (folder / WORK_FILE).write_text(json.dumps(asdict(work)), encoding="utf-8")


def _replies(
    policies: Policies, job: Job, work: Work
) -> list[tuple[int, tuple[tuple[Message, ...], tuple[ReplyText, ReplyText]]]]:
    """Two replies to each of as many prompts as there are rows, the shorter first, with their log-probabilities.

    Left out are replies whose text does not come back to the same tokens: peers tokenise prompt and reply in one.
    """
    asked: list[tuple[Message, ...]] = [({"role": "user", "content": text},) for text in train_prompts()]
    asked = asked[: work.rows + work.rows // 2 + 4]
    prompts = [policies.encoder.prompt_ids(messages) for messages in asked]
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=work.reply_tokens - 1, seed=work.seed)
    drawn = engine_draw(job)(PolicyRef(1), prompts, 2, sampling)
    found: list[tuple[tuple[Message, ...], tuple[ReplyText, ReplyText]]] = []
    for place, messages in enumerate(asked):
        texts = sorted((reply.text for reply in drawn[2 * place : 2 * place + 2]), key=len)
        replies = [_reply(f"{place}-{turn}", text) for turn, text in enumerate(texts)]
        rows = [policies.encoder.encode(messages, reply) for reply in replies]
        whole = [
            policies.tokenizer.encode(policies.tokenizer.decode(row.prompt_ids) + text)
            for row, text in zip(rows, texts, strict=True)
        ]
        same = all(tuple(ids) == row.prompt_ids + row.completion_ids[:-1] for ids, row in zip(whole, rows, strict=True))
        if same and texts[0] and len(found) < work.rows:
            with policies.use("base") as model:
                values = summed_logprobs(model, rows)
            short, long = (
                replace(
                    reply,
                    prompt_tokens=len(row.prompt_ids),
                    completion_tokens=len(row.completion_ids),
                    logprob_nats=value,
                )
                for reply, row, value in zip(replies, rows, values, strict=True)
            )
            found.append((messages, (short, long)))
    if len(found) < work.rows:
        raise SystemExit(f"only {len(found)} of {work.rows} rows could be made; ask for fewer steps")
    return list(enumerate(found))


def _reply(name: str, text: str) -> ReplyText:
    return ReplyText(name, text, "stop", 1, 0, 0)


def read_work(folder: Path) -> Work:
    """Read work.json."""
    values = json.loads((folder / WORK_FILE).read_text(encoding="utf-8"))
    return Work(**(values | {"target_modules": tuple(values["target_modules"])}))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def votes_of(folder: Path) -> list[VoteRow]:
    """Read the votes as a round would have them."""
    return [
        VoteRow(line["feedback_id"], line["rater"], tuple(line["messages"]), ReplyText(**line["reply"]), line["up"])
        for line in read_lines(folder / VOTES_FILE)
    ]


def pairs_of(folder: Path) -> list[PairRow]:
    """Read the pairs as a round would have them."""
    return [
        PairRow(
            line["feedback_id"],
            line["rater"],
            tuple(line["messages"]),
            ReplyText(**line["chosen"]),
            ReplyText(**line["rejected"]),
        )
        for line in read_lines(folder / PAIRS_FILE)
    ]


def in_order(folder: Path, method: str, rows: list[Any]) -> list[Any]:
    """Rows of a method's file in the order in which ours takes them."""
    orders = json.loads((folder / ORDERS_FILE).read_text(encoding="utf-8"))
    return [rows[place] for place in orders[method]]


def child_environment(threads: int) -> dict[str, str]:
    """What a user would set for a trainer on so many cores, and no hub."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
