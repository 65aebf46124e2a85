"""One training by LLaMA-Factory, in a Python of its own: `PYTHON benchmarks/_training_factory.py CONFIG`.

Run by path and not as a module: that Python has none of our packages. CONFIG holds its own arguments as JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """When each step ended, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """After every step (logging_steps is 1)."""
        if logs and "loss" in logs:
            self.ends.append(time.perf_counter())
            self.losses.append(float(logs["loss"]))


def main() -> None:
    from llamafactory.train.tuner import run_exp

    watch, began_at = Stopwatch(), time.perf_counter()
    run_exp(args=json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), callbacks=[watch])
    steps = [after - before for before, after in zip(watch.ends, watch.ends[1:], strict=False)]
    print(json.dumps({"first_s": watch.ends[0] - began_at, "step_s": steps, "losses": watch.losses}), flush=True)


if __name__ == "__main__":
    main()
