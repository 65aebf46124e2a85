"""The process that trains one round: `python -m trainer.worker FOLDER`.

It reads the folder, trains, seals the adapter, runs the gate, and says so line by line on standard output (events.py).
It opens no database and no socket. It ends when its standard input closes, so that it cannot outlive its supervisor.
A folder that holds `sealed.json` was trained already (its process died in the gate): only the gate is run.

Exit status: 0 when the round came to its end or was cancelled, 1 when it failed.
"""

import contextlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainer.events import Emit, EventWriter
from trainer.job import (
    CANCEL_FILE,
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
)

if TYPE_CHECKING:
    from trainer.drawing import Draw
    from trainer.policies import Policies


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
        _run(folder, job, emit)
    except Cancelled:
        emit("cancelled")
        return 0
    except BelowBar as refusal:
        emit("refused", reason=str(refusal))
        return 0
    except MemoryError:
        traceback.print_exc()
        emit("failed", reason="out of memory: lower training.batch_size or training.max_tokens")
        return 1
    except Exception as error:
        traceback.print_exc()
        emit("failed", reason=_in_words(error))
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

    sealed_file = folder / SEALED_FILE
    train, held_out = read_rows(folder, TRAIN_FILE), read_rows(folder, HELD_OUT_FILE)
    held_pairs = [row for row in held_out if isinstance(row, PairRow)]
    draw = engine_draw(job, stop_when_cancelled)
    if job.method == "reward":
        from trainer.methods.rewarded import make_reward_model

        emit("state", state="training", detail={"rows": len(train), "method": job.method, "doing": "loading"})
        pairs = [row for row in train if isinstance(row, PairRow)]
        _, made = make_reward_model(Policies.open(job), pairs, held_pairs, job, folder, emit)
        emit("done", metrics=made["metrics"])
        return
    if sealed_file.exists():
        sealed = json.loads(sealed_file.read_text(encoding="utf-8"))
        emit("state", state="gating", detail={"doing": "resuming"})
        policies = Policies.open(job, candidate_sha256=sealed["adapter_sha256"])
    else:
        emit("state", state="training", detail={"rows": len(train), "method": job.method, "doing": "loading"})
        policies = Policies.open(job)
        metrics = train_candidate(policies, train, job, folder, emit, held_pairs, draw)
        sealed = {"adapter_sha256": seal(policies, job, folder), "metrics": metrics}
        _write_whole(sealed_file, json.dumps(sealed))
    emit("sealed", adapter_sha256=sealed["adapter_sha256"], metrics=sealed["metrics"])
    stop_when_cancelled()
    report = run_gate(
        policies,
        job,
        sealed["adapter_sha256"],
        train=train,
        held_out=held_out,
        prompts=read_prompts(folder),
        draw=draw,
        emit=emit,
    )
    emit("gate", report=report)
    emit("done", metrics=sealed["metrics"])


def train_candidate(
    policies: "Policies",
    rows: list[Row],
    job: Job,
    folder: Path,
    emit: Emit,
    held_out: list[PairRow],
    draw: "Draw",
) -> dict[str, Any]:
    """Train by the job's method; return its counts and last metrics. Raises BelowBar for a reward model too weak to
    train a policy with."""
    if job.method == "kto":
        from trainer.methods.kto import train_kto

        return train_kto(policies, [row for row in rows if isinstance(row, VoteRow)], job, folder, emit)
    if job.method == "sft":
        from trainer.methods.sft import train_sft

        return train_sft(policies, [row for row in rows if isinstance(row, ExampleRow)], job, folder, emit)
    pairs = [row for row in rows if isinstance(row, PairRow)]
    if job.method == "dpo":
        from trainer.methods.dpo import train_dpo

        return train_dpo(policies, pairs, job, folder, emit)
    from trainer.methods.rewarded import train_rewarded

    return train_rewarded(policies, pairs, held_out, read_prompts(folder, ROLLOUTS_FILE), job, folder, emit, draw)


def seal(policies: "Policies", job: Job, folder: Path) -> str:
    """Save the candidate's adapter and seal it; return its hash."""
    from serving.adapters import seal_adapter
    from serving.prompt_fingerprint import prompt_fingerprint

    return seal_adapter(
        policies.save_candidate(folder),
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


def _in_words(error: Exception) -> str:
    """The error's own words where it is ours or a plain one; its kind in front where it is not."""
    text = str(error) or "no message"
    known = isinstance(error, ArithmeticError | ValueError | FileNotFoundError)
    return text if known else f"{type(error).__name__}: {text}"


def _write_whole(path: Path, text: str) -> None:
    scratch = path.with_suffix(".part")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main())
