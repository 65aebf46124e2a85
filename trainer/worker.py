"""The process that trains one round: `python -m trainer.worker FOLDER`.

It reads the folder, trains, seals the adapter, runs the gate, and says so line by line on standard output (events.py).
It opens no database. It ends when its standard input closes, so that it cannot outlive its supervisor.
It goes on from what a former process left: a folder with `gate.json` was judged already, one with `sealed.json` was
trained already and only the gate is run. One process works in a folder at a time (round_folder.py).

Where `training.launcher` is torchrun, as many of these processes as the settings say train together (group.py). One of
them, the lead, is the one described here; the others compute their share of the training and end before the gate. On
another host they are started as `torchrun … -m trainer.worker join` and learn from the lead which folder it is. Where
it is ray, this process asks a cluster to train (ray_train.py) and does the rest.

Exit status: 0 when the round came to its end or was cancelled, 1 when it failed, 75 when another process of the
training is gone: then nothing is said, and the round may be taken up again.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainer.events import Emit, EventWriter
from trainer.failpoints import reach
from trainer.failures import in_words
from trainer.job import (
    GATE_FILE,
    HELD_OUT_FILE,
    JOB_FILE,
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

JOIN = "join"
"""In place of the folder, on hosts that help: the lead says which folder it is."""
PEER_LOST = os.EX_TEMPFAIL
_SIGN_OF_LIFE_S = 10.0
"""How often drawing many replies says that it goes on: a silent process is taken for a hung one."""


def main() -> int:
    """Run the round of the folder named on the command line."""
    if len(sys.argv) != 2:
        print("usage: python -m trainer.worker FOLDER", file=sys.stderr)
        return 2
    emit = EventWriter(_own_stdout())
    if sys.argv[1] != JOIN:
        threading.Thread(target=_end_with_supervisor, name="supervisor-watch", daemon=True).start()
    if not os.environ.get("TORCHELASTIC_RUN_ID"):
        folder = Path(sys.argv[1])
        job = read_job(folder)
        yield_to_others(job.training.niceness)
        return run_round(folder, job, emit)
    return _run_as_one_of_several(sys.argv[1], emit)


def _run_as_one_of_several(argument: str, emit: Emit) -> int:
    """Join the others that torchrun has started, and do what the lead does, or the share of one that is not."""
    from trainer import group

    try:
        group.take_own_gpu()
        group.join()
        folder = Path(group.lead_says(argument))
        job = read_job(folder)
        yield_to_others(job.training.niceness)
        return run_round(folder, job, emit) if group.is_lead() else help_round(folder, job)
    except group.PeerLost as lost:
        print(lost, file=sys.stderr)
        return PEER_LOST
    finally:
        with contextlib.suppress(RuntimeError):
            group.leave()


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
    from trainer.group import PeerLost
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
    except PeerLost as lost:
        print(lost, file=sys.stderr)
        return PEER_LOST
    except Exception as error:
        traceback.print_exc()
        emit("failed", reason=in_words(error))
        return 1
    return 0


def help_round(folder: Path, job: Job) -> int:
    """Do this process's share of a training; what is to be said of it, the lead says."""
    from trainer.group import PeerLost
    from trainer.methods.common import BelowBar, Cancelled

    try:
        train(folder, job, lambda event, **values: None)
    except (Cancelled, BelowBar):
        return 0
    except PeerLost as lost:
        print(lost, file=sys.stderr)
        return PEER_LOST
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def train(folder: Path, job: Job, emit: Emit) -> "Policies | None":
    """Train as the one process, or as one of a group: the lead, which seals what came out, or another. Return the
    policies; None for a round that was trained before, or that comes to no policy. Raises what the methods raise."""
    import torch

    from serving.engine.base_model import fingerprint
    from trainer import group
    from trainer.drawing import engine_draw
    from trainer.methods.steps import stop_when_cancelled
    from trainer.policies import Policies

    if group.lead_says((folder / SEALED_FILE).exists()):
        return None
    if job.training.threads:
        torch.set_num_threads(max(1, job.training.threads // job.training.processes_here))
    group.require_alike("the round's rows and settings", (folder / JOB_FILE).read_bytes())
    rows, held_out = read_rows(folder, TRAIN_FILE), read_rows(folder, HELD_OUT_FILE)
    emit("state", state="training", detail={"rows": len(rows), "method": job.method, "doing": "loading"})
    policies = Policies.open(job)
    group.connect(policies.model.device.type)
    group.require_alike("the base models", fingerprint(Path(job.base_model_dir)).encode())

    def look() -> None:
        if group.count() == 1:  # in a group all stop at a step: one that stopped here would leave the others waiting
            stop_when_cancelled(folder)

    draw = engine_draw(job, _each(look, _sign_of_life(emit, "training")))
    metrics = train_candidate(policies, rows, held_out, job, folder, emit, draw)
    if job.method == "reward":  # it is judged already, and serves nobody
        emit("done", metrics=metrics)
        return None
    if group.is_lead():
        sealed = {"adapter_sha256": seal(policies, job, folder), "metrics": metrics}
        write_whole(folder / SEALED_FILE, json.dumps(sealed))
    group.leave()  # what comes now, the lead does alone
    return policies


def _run(folder: Path, job: Job, emit: Emit) -> None:
    from serving.engine.allocator import give_back_freed_memory
    from trainer.methods.steps import stop_when_cancelled
    from trainer.policies import Policies

    sealed_file, gate_file = folder / SEALED_FILE, folder / GATE_FILE
    resumed = sealed_file.exists()
    if job.training.launcher == "ray" and not resumed:
        from trainer.ray_train import train_on_ray

        train_on_ray(folder, job, emit)
        policies = None
    else:
        policies = train(folder, job, emit)
    if job.method == "reward":
        return
    sealed = json.loads(sealed_file.read_text(encoding="utf-8"))
    if resumed:
        emit("state", state="gating", detail={"doing": "resuming"})
    if policies is None and not gate_file.exists():
        policies = Policies.open(job, candidate_sha256=sealed["adapter_sha256"])
    emit("sealed", adapter_sha256=sealed["adapter_sha256"], metrics=sealed["metrics"])
    give_back_freed_memory()
    reach("gate")
    stop_when_cancelled(folder)
    if gate_file.exists() or policies is None:
        report = json.loads(gate_file.read_text(encoding="utf-8"))
    else:
        report = _judged(policies, job, folder, sealed, emit)
        write_whole(gate_file, json.dumps(report))
    emit("gate", report=report)
    emit("done", metrics=sealed["metrics"])


def _judged(policies: "Policies", job: Job, folder: Path, sealed: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Put what is sealed to the gate, and shorter steps of it if it went too far. A shorter step is noted in the folder
    before it is judged, so that a process that takes the round up again judges that one."""
    from trainer.drawing import engine_draw
    from trainer.gate import run_gate
    from trainer.methods.steps import stop_when_cancelled
    from trainer.step_back import judge_in_steps, live_drawn_once, step_back

    look = _each(partial(stop_when_cancelled, folder), _sign_of_life(emit, "gating"))
    draw = live_drawn_once(engine_draw(job, look, keep=2), job)
    rows = {"train": read_rows(folder, TRAIN_FILE), "held_out": read_rows(folder, HELD_OUT_FILE)}
    steps: list[dict[str, Any]] = sealed.get("steps", [])

    def judge(sha256: str) -> dict[str, Any]:
        return run_gate(
            policies,
            job,
            sha256,
            train=_judgements(rows["train"]),
            held_out=_judgements(rows["held_out"]),
            prompts=read_prompts(folder),
            draw=draw,
            emit=emit,
            metrics=sealed["metrics"],
        )

    def shorten() -> str | None:
        stop_when_cancelled(folder)
        if not step_back(policies):
            return None
        sha256 = seal(policies, job, folder)
        write_whole(folder / SEALED_FILE, json.dumps(sealed | {"adapter_sha256": sha256, "steps": steps}))
        emit("sealed", adapter_sha256=sha256, metrics=sealed["metrics"])
        emit("state", state="gating", detail={"doing": "half the step"})
        return sha256

    return judge_in_steps(judge, shorten, sealed["adapter_sha256"], steps, job.gate.steps_back)


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
