"""One of several processes that train the rounds of some folders together: `torchrun … -m tests.trainer.several_program
FOLDER …`. The lead leaves what was said in each folder as events.json. A folder's name may end in `-at-STEP`: its round
is cancelled at that step, by the lead, and each process leaves the steps that it took as cancelled-RANK."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from torch import distributed

from trainer import group
from trainer.job import CANCEL_FILE, read_job
from trainer.methods.common import Cancelled
from trainer.worker import train


def main() -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    group.forget_rendezvous()
    for folder in map(Path, sys.argv[1:]):
        store = f"file://{folder}/rendezvous"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
        train_one(folder, rank)


def train_one(folder: Path, rank: int) -> None:
    events: list[dict[str, Any]] = []
    stop_at = int(folder.name.rpartition("-at-")[2]) if "-at-" in folder.name else None

    def emit(event: str, **values: Any) -> None:
        events.append({"event": event, **values})
        if rank == 0 and stop_at is not None and values.get("step") == stop_at:
            (folder / CANCEL_FILE).touch()

    try:
        train(folder, read_job(folder), emit)
    except Cancelled:
        steps = sum(event["event"] == "metric" for event in events)
        (folder / f"cancelled-{rank}").write_text(str(steps), encoding="ascii")
        group.leave()
    if rank == 0:
        (folder / "events.json").write_text(json.dumps(events), encoding="utf-8")


def train_share_and_another(config: dict[str, Any]) -> None:
    """What a worker of Ray runs: its share of the round of `config`, as ever, then of the folder "dpo" beside it."""
    from trainer.ray_train import train_share

    rank, size = distributed.get_rank(), distributed.get_world_size()
    train_share(config)
    beside = Path(config["folder"]).with_name("dpo")
    distributed.init_process_group("gloo", init_method=f"file://{beside}/rendezvous", rank=rank, world_size=size)
    train_one(beside, rank)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
