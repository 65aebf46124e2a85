"""One of several processes that train the rounds of some folders together: `torchrun … -m tests.trainer.several_program
FOLDER …`. The lead leaves what was said in each folder as events.json."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from torch import distributed

from trainer import group
from trainer.job import read_job
from trainer.worker import train


def main() -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    group.forget_rendezvous()
    for folder in map(Path, sys.argv[1:]):
        store = f"file://{folder}/rendezvous"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
        events: list[dict[str, Any]] = []
        lead = group.is_lead()
        train(folder, read_job(folder), lambda event, **values: events.append({"event": event, **values}))  # noqa: B023
        if lead:
            (folder / "events.json").write_text(json.dumps(events), encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
