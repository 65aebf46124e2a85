"""The process that trains one round: `python -m trainer.worker FOLDER`.

It reads the folder, trains, seals the adapter, runs the gate, and says so line by line on standard output (events.py).
It opens no database and no socket. It ends when its standard input closes, so that it cannot outlive its supervisor.
It goes on from what a former process left: a folder with `gate.json` was judged already, one with `sealed.json` was
trained already and only the gate is run. One process works in a folder at a time (round_folder.py).

Exit status: 0 when the round came to its end or was cancelled, 1 when it failed.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainer.events import Emit, EventWriter
from trainer.failpoints import reach
from trainer.failures import in_words
from trainer.job import (
    CANCEL_FILE,
    GATE_FILE,
    HELD_OUT_FILE,
    ROLLOUTS_FILE,
    SEALED_FILE,
    TRAIN_FILE,
    ExampleRow,
    Job,
    PairRow,
    Row,
    VoteRow,
    read_job,
    read_prompts,
    read_rows,
    write_whole,
)
from trainer.round_folder import held

if TYPE_CHECKING:
    from trainer.drawing import Draw
    from trainer.policies import Policies

_SIGN_OF_LIFE_S = 10.0
"""How often drawing many replies says that it goes on: a silent process is taken for a hung one."""


def main() -> int:
    """Run the round of the folder named on the command line."""
    if len(sys.argv) != 2:
        print("usage: python -m trainer.worker FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    emit = EventWriter(_own_stdout())
    threading.Thread(target=_end_with_supervisor, name="supervisor-watch", daemon=True).start()
    job = read_job(folder)
    yield_to_others(job.training.niceness)
    return run_round(folder, job, emit)


def yield_to_others(niceness: int) -> None:
    """Lower this process's priority; 19 yields to everything else.

    Linux may group processes by session and share the processor out between the groups first (autogroup): niceness then
    counts only within a group, and this process, in a session of its own, would take half of it from the server.
    """
    if hasattr(os, "nice"):
        os.nice(niceness)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(f"{niceness}\n", encoding="ascii")


def run_round(folder: Path, job: Job, emit: Emit) -> int:
    """Train, seal and gate; every failure becomes one `failed` event with its reason."""
    from trainer.methods.common import BelowBar, Cancelled

    try:
        with held(folder):
            _run(folder, job, _reaching(emit))
    except Cancelled:
        emit("cancelled")
        return 0
    except BelowBar as refusal:
        emit("refused", reason=str(refusal))
        return 0
    except Exception as error:
        traceback.print_exc()
        emit("failed", reason=in_words(error))
        return 1
    return 0


def _run(folder: Path, job: Job, emit: Emit) -> None:
    import torch

    from trainer.drawing import engine_draw
    from trainer.gate import run_gate
    from trainer.methods.common import Cancelled
    from trainer.policies import Policies

    if job.training.threads:
        torch.set_num_threads(job.training.threads)

    def stop_when_cancelled() -> None:
        if (folder / CANCEL_FILE).exists():
            raise Cancelled

    sealed_file, gate_file = folder / SEALED_FILE, folder / GATE_FILE
    train, held_out = read_rows(folder, TRAIN_FILE), read_rows(folder, HELD_OUT_FILE)
    if sealed_file.exists():
        sealed = json.loads(sealed_file.read_text(encoding="utf-8"))
        emit("state", state="gating", detail={"doing": "resuming"})
        policies = None if gate_file.exists() else Policies.open(job, candidate_sha256=sealed["adapter_sha256"])
    else:
        emit("state", state="training", detail={"rows": len(train), "method": job.method, "doing": "loading"})
        policies = Policies.open(job)
        draw = engine_draw(job, _each(stop_when_cancelled, _sign_of_life(emit, "training")))
        metrics = train_candidate(policies, train, held_out, job, folder, emit, draw)
        if job.method == "reward":  # it is judged already, and serves nobody
            emit("done", metrics=metrics)
            return
        sealed = {"adapter_sha256": seal(policies, job, folder), "metrics": metrics}
        write_whole(sealed_file, json.dumps(sealed))
    emit("sealed", adapter_sha256=sealed["adapter_sha256"], metrics=sealed["metrics"])
    reach("gate")
    stop_when_cancelled()
    if policies is None:
        report = json.loads(gate_file.read_text(encoding="utf-8"))
    else:
        report = run_gate(
            policies,
            job,
            sealed["adapter_sha256"],
            train=_judgements(train),
            held_out=_judgements(held_out),
            prompts=read_prompts(folder),
            draw=engine_draw(job, _each(stop_when_cancelled, _sign_of_life(emit, "gating"))),
            emit=emit,
            metrics=sealed["metrics"],
        )
        write_whole(gate_file, json.dumps(report))
    emit("gate", report=report)
    emit("done", metrics=sealed["metrics"])


def _reaching(emit: Emit) -> Emit:
    """`emit`, which reaches the failpoint "train" after every step's metrics."""

    def emit_and_reach(event: str, **values: Any) -> None:
        emit(event, **values)
        if event == "metric":
            reach("train")

    return emit_and_reach


def _sign_of_life(emit: Emit, state: str) -> Callable[[], None]:
    last = time.monotonic()

    def say_so() -> None:
        nonlocal last
        if time.monotonic() - last > _SIGN_OF_LIFE_S:
            last = time.monotonic()
            emit("state", state=state, detail={"doing": "drawing replies"})

    return say_so


def _each(*calls: Callable[[], None]) -> Callable[[], None]:
    def all_of_them() -> None:
        for call in calls:
            call()

    return all_of_them


def train_candidate(
    policies: "Policies",
    rows: list[Row],
    held_out: list[Row],
    job: Job,
    folder: Path,
    emit: Emit,
    draw: "Draw",
) -> dict[str, Any]:
    """Train by the job's method; return its counts and last metrics. Raises BelowBar for a reward model too weak to
    train a policy with."""
    pairs = [row for row in rows if isinstance(row, PairRow)]
    if job.method == "kto":
        from trainer.methods.kto import train_kto

        return train_kto(policies, [row for row in rows if isinstance(row, VoteRow)], job, folder, emit)
    if job.method == "sft":
        from trainer.methods.sft import train_sft

        return train_sft(policies, [row for row in rows if isinstance(row, ExampleRow)], job, folder, emit)
    if job.method == "dpo":
        from trainer.methods.dpo import train_dpo

        return train_dpo(policies, pairs, job, folder, emit)
    from trainer.methods.rewarded import train_reward_alone, train_rewarded

    judged = [row for row in held_out if isinstance(row, PairRow)]
    if job.method == "reward":
        return train_reward_alone(policies, pairs, judged, job, folder, emit)
    return train_rewarded(policies, pairs, judged, read_prompts(folder, ROLLOUTS_FILE), job, folder, emit, draw)


def _judgements(rows: list[Row]) -> list[VoteRow | PairRow]:
    """What the gate reads: votes and pairs. A liked reply that was learnt by heart is a vote for it."""
    return [
        VoteRow(row.feedback_id, row.rater, row.messages, row.reply, True) if isinstance(row, ExampleRow) else row
        for row in rows
    ]


def seal(policies: "Policies", job: Job, folder: Path) -> str:
    """Save the candidate's adapter and seal it; return its hash. Raises FloatingPointError for weights that are not
    finite numbers: a run may diverge in its very last step, after the last loss was looked at."""
    from serving.adapters import seal_adapter
    from serving.prompt_fingerprint import prompt_fingerprint

    if odd := policies.odd_weights():
        raise FloatingPointError(
            f"training diverged: {odd} holds numbers that are not finite; lower training.learning_rate and try again"
        )
    saved = policies.save_candidate(folder)
    reach("save")
    return seal_adapter(
        saved,
        Path(job.adapters_dir),
        base_model=job.base_model,
        parent=job.live_version,
        round_id=job.round_id,
        prompts=prompt_fingerprint(Path(job.base_model_dir)),
    )


def _own_stdout() -> TextIO:
    """Keep standard output for events alone: what libraries print goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _end_with_supervisor() -> None:
    """Standard input is the supervisor's end of a pipe that it never writes to: it closes when the supervisor dies."""
    while os.read(0, 1):  # not sys.stdin: a thread that holds its lock makes Python abort at its own exit
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
