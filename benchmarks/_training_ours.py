"""One training by our own methods, in a process of its own: `python -m benchmarks._training_ours METHOD FOLDER`.

METHOD: kto, kto-apo (without KTO's KL term, our default), kto-shipped (that, with everything a round adds), dpo,
reward, ppo. The rows are read, the model is loaded, and then the clock starts.
"""

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks._training_work import (
    PAIRS_FILE,
    Clock,
    Work,
    pairs_of,
    read_lines,
    read_work,
    say,
    votes_of,
)
from trainer.drawing import engine_draw
from trainer.job import Job, PromptRow
from trainer.methods.dpo import train_dpo
from trainer.methods.kto import train_kto
from trainer.methods.online import train_online
from trainer.methods.ppo import Ppo
from trainer.methods.reward_model import RewardModel, train_reward_model
from trainer.policies import Policies
from trainer.settings import TrainingSettings

SHIPPED = TrainingSettings()


def main() -> None:
    method, folder = sys.argv[1], Path(sys.argv[2])
    work = read_work(folder)
    torch.set_num_threads(work.threads)
    job = job_of(work, folder, method)
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch:
        say(train(method, work, job, folder, Path(scratch)))


def job_of(work: Work, folder: Path, method: str) -> Job:
    """The job of a method: for "shipped", with what a round adds to the loss."""
    if not method.startswith("kto"):
        return work.job(folder, method)
    loss = {"kto_loss": "kto" if method == "kto" else "apo_zero_unpaired"}
    if method != "kto-shipped":
        return work.job(folder, "kto", **loss)
    return work.job(
        folder, "kto", anchor=SHIPPED.anchor, plain_text_weight=SHIPPED.plain_text_weight, beta=SHIPPED.beta
    )


def train(method: str, work: Work, job: Job, folder: Path, scratch: Path) -> dict[str, Any]:
    """Train; return the clock's result, and for PPO how long the replies were."""
    policies = Policies.open(job)
    votes, pairs = votes_of(folder), pairs_of(folder)
    tokens: list[float] = []
    clock = Clock()

    def emit(event: str, **said: Any) -> None:
        if event == "metric":
            values = said["values"]
            clock.step(float(values.get("loss", values.get("reward/loss", math.nan))))
            tokens.append(float(values.get("words", math.nan)))

    if method == "ppo":
        prompts = [PromptRow(tuple(line["messages"])) for line in read_lines(folder / PAIRS_FILE)]
        reward = RewardModel(policies, job)
        torch.nn.init.normal_(reward.head.weight, std=0.02, generator=torch.Generator().manual_seed(work.seed))
        train_online(policies, reward, Ppo(policies, job), prompts, [], job, scratch, emit, engine_draw(job))
        return clock.result(words=tokens)
    if method.startswith("kto"):
        train_kto(policies, votes, job, scratch, emit)
    elif method == "dpo":
        train_dpo(policies, pairs, job, scratch, emit)
    else:
        train_reward_model(policies, pairs, job, scratch, emit)
    return clock.result()


if __name__ == "__main__":
    main()
