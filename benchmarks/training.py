"""Our methods beside stock trl and LLaMA-Factory, and our PPO beside one with four models: speed, memory, loss curves.

All train SmolLM2-135M-Instruct on the same rows in the same order, from the same first weights, with the same dtype,
LoRA matrices, layers and rank, batch, learning rate and schedule (benchmarks/_training_work.py). Each training is a
process of its own, one after the other, all of them once before any comes again; figures are medians over the repeats.
The first step is left out of the samples a second. What comes before it (loading excepted, which stock trl does itself)
stands in a row of its own, for there a reference may be computed ahead. At the end KTO and DPO take six steps in
float32 beside stock trl: whether the curves differ by more than bfloat16's rounding.

    make bench-training                                                    everything, at length
    make bench-training ARGS="--short"                                     kto and dpo beside trl, a few minutes
    make bench-training ARGS="--keep DIR"                                  an interrupted run goes on from DIR
    make bench-training ARGS="--methods dpo --peers trl,tuned --repeats 1 --threads 1"
    scripts/llamafactory.sh                                                puts LLaMA-Factory into .llamafactory/
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks._training_factory_files import factory_python, write_factory_files
from benchmarks._training_work import Work, child_environment, read_work, write_work
from benchmarks.report import Row, report
from serving.engine.base_model import choose_dtype, fingerprint
from serving.engine.bundled_model import ensure_bundled_model
from serving.settings import PolicySettings

ROOT = Path(__file__).parent.parent
LABELS = {"kto": "KTO", "kto-apo": "KTO without its KL term", "dpo": "DPO", "reward": "reward model", "ppo": "PPO"}
PEERS = {"trl": "stock trl", "tuned": "trl, tuned by hand", "factory": "LLaMA-Factory"}
OF_WORK = ("steps", "passes", "threads", "seed", "iterations")
"""Flags that decide what is trained on, and may not change when an interrupted run goes on."""
_LOOK_EVERY_S = 0.2


@dataclass(slots=True)
class Runs:
    """What the repeats of one training showed."""

    results: list[dict[str, Any]] = field(default_factory=list)
    peaks_mib: list[float] = field(default_factory=list)

    def middle(self, name: str) -> float:
        """Median over the repeats of `first_s`, or of the mean of `step_s`."""
        if name == "first_s":
            return float(statistics.median(result["first_s"] for result in self.results))
        return float(statistics.median(statistics.mean(result[name]) for result in self.results))

    @property
    def peak_mib(self) -> float:
        """Median of the peaks."""
        return statistics.median(self.peaks_mib)

    @property
    def losses(self) -> list[float]:
        """Of the first repeat: all begin alike."""
        found: list[float] = self.results[0]["losses"]
        return found


def main() -> None:
    arguments = parsed()
    with contextlib.ExitStack() as parts:
        scratch = arguments.keep or Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="bench-training-")))
        runs, work = trained(arguments, scratch)
        rows = [row for method in arguments.methods for row in rows_of(method, runs, work)]
        if work.dtype != "float32" and "trl" in arguments.peers and not arguments.short:
            rows += rows_without_rounding(arguments, scratch / "float32")
    report("training", rows, notes(arguments, work), seed=arguments.seed)


def trained(arguments: argparse.Namespace, scratch: Path) -> tuple[dict[tuple[str, str], Runs], Work]:
    """Run every training that was asked for, but those whose result lies in `scratch`; return what each showed."""
    scratch.mkdir(parents=True, exist_ok=True)
    folder = scratch / "work"
    if not folder.exists():
        making = scratch / "making"
        asked = [f"--{flag}={getattr(arguments, flag)}" for flag in (*OF_WORK, "dtype")]
        subprocess.run(
            [sys.executable, "-m", "benchmarks.training", "--make", str(making), *asked],
            env=child_environment(arguments.threads),
            check=True,
        )
        making.rename(folder)
    work = read_work(folder)
    for flag in OF_WORK:
        begun, wanted = getattr(work, flag), getattr(arguments, flag)
        if begun != wanted:
            raise SystemExit(f"{scratch} was begun with --{flag} {begun}, not {wanted}: repeat that, or name another")
    commands = commands_of(arguments, folder, work)
    runs = {name: Runs() for name in commands}
    for turn in range(arguments.repeats):
        for name, command in commands.items():
            kept = scratch / f"{name[0]}-{name[1]}-{turn}.json"
            if not kept.exists():
                found = measured(command, arguments.threads, scratch / "log.txt")
                kept.write_text(json.dumps(found), encoding="utf-8")
            result, peak = json.loads(kept.read_text(encoding="utf-8"))
            runs[name].results.append(result)
            runs[name].peaks_mib.append(peak)
            said = f"{statistics.mean(result['step_s']):.2f} s a step, {peak:,.0f} MiB"
            print(f"repeat {turn + 1}: {name[0]} by {name[1]}: {said}", flush=True)
    return runs, work


def rows_without_rounding(arguments: argparse.Namespace, scratch: Path) -> list[Row]:
    """Six steps of KTO and DPO by us and by stock trl in float32: whether the curves differ by more than rounding."""
    exact = argparse.Namespace(**vars(arguments))
    exact.methods = [method for method in ("kto", "dpo") if method in arguments.methods]
    exact.peers, exact.dtype, exact.steps, exact.repeats = ["trl"], "float32", 6, 1
    if not exact.methods:
        return []
    runs, _ = trained(exact, scratch)
    return [
        Row(
            f"{LABELS[method]} in float32, distance of the loss curves: stock trl",
            distance(runs[method, "ours"].losses, runs[method, "trl"].losses),
            unit="%",
        )
        for method in exact.methods
    ]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(LABELS))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--passes", type=int, default=1, help="over the rows, within those steps")
    parser.add_argument("--iterations", type=int, default=4, help="of PPO")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the frozen base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where the work and every repeat are kept, and found again")
    parser.add_argument("--short", action="store_true", help="kto and dpo beside stock trl, four steps, once")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.short:
        arguments.methods, arguments.peers, arguments.steps, arguments.repeats = "kto,dpo", "trl", 4, 1
    for name, known in (("methods", LABELS), ("peers", PEERS)):
        values = [value for value in getattr(arguments, name).split(",") if value]
        if odd := [value for value in values if value not in known]:
            parser.error(f"--{name} has {odd[0]!r}; known are {', '.join(known)}")
        setattr(arguments, name, values)
    if arguments.make:  # in a process of its own, so that the driver stays small
        make(arguments)
        sys.exit(0)
    return arguments


def make(arguments: argparse.Namespace) -> None:
    """Write the work's folder."""
    model = ensure_bundled_model(Path(os.environ.get("THUMBWISE_MODELS_DIR", ROOT / ".models")), progress=print)
    dtype = choose_dtype(PolicySettings(device="cpu", dtype=arguments.dtype), torch.device("cpu"))
    work = Work(
        model_dir=str(model.resolve()),
        base_model=fingerprint(model),
        dtype=str(dtype).removeprefix("torch."),
        steps=arguments.steps,
        passes=arguments.passes,
        threads=arguments.threads,
        seed=arguments.seed,
        iterations=arguments.iterations,
    )
    write_work(arguments.make, work)


def commands_of(arguments: argparse.Namespace, folder: Path, work: Work) -> dict[tuple[str, str], list[str]]:
    """(method, who) → the command of its process, in the order in which they run."""
    found: dict[tuple[str, str], list[str]] = {}
    other = factory_python() if "factory" in arguments.peers else None
    for method in arguments.methods:
        found[method, "ours"] = [sys.executable, "-m", "benchmarks._training_ours", method, str(folder)]
        if method == "ppo":
            found[method, "four"] = [sys.executable, "-m", "benchmarks._training_four_models", str(folder)]
            continue
        if method == "kto-apo":
            found["kto-shipped", "ours"] = [
                *(sys.executable, "-m", "benchmarks._training_ours", "kto-shipped", str(folder))
            ]
        for peer in ("trl", "tuned"):
            if peer in arguments.peers:
                command = [sys.executable, "-m", "benchmarks._training_trl", method, str(folder)]
                found[method, peer] = [*command, "tuned"] if peer == "tuned" else command
        if other is not None and method != "kto-apo":
            config = write_factory_files(folder, method, work)
            found[method, "factory"] = [str(other), str(ROOT / "benchmarks" / "_training_factory.py"), str(config)]
    return found


def measured(command: list[str], threads: int, log: Path) -> tuple[dict[str, Any], float]:
    """Run a training; return what it said last and its peak proportional set size in MiB. Raises SystemExit with the
    end of its log when it fails."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=child_environment(threads), cwd=ROOT, text=True
        )
        peak = [0.0]
        watch = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        watch.start()
        said, _ = process.communicate()
        watch.join()
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    return json.loads(lines[-1]), peak[0]


def _watch(process: "subprocess.Popen[str]", peak: list[float]) -> None:
    path = Path(f"/proc/{process.pid}/smaps_rollup")
    while process.poll() is None:
        try:
            pss = next(line for line in path.read_text().splitlines() if line.startswith("Pss:"))
            peak[0] = max(peak[0], int(pss.split()[1]) / 1024)
        except (OSError, StopIteration):
            pass  # it is gone, or only beginning
        time.sleep(_LOOK_EVERY_S)


def rows_of(method: str, runs: dict[tuple[str, str], Runs], work: Work) -> list[Row]:
    """The rows of one method: ours beside each peer that ran."""
    ours, label = runs[method, "ours"], LABELS[method]
    if method == "ppo":
        four = runs[method, "four"]
        replies = work.ppo_prompts * work.ppo_replies
        return [
            Row(
                f"{label}, {replies} replies: an iteration; four models",
                ours.middle("step_s"),
                four.middle("step_s"),
                unit="s",
            ),
            Row(f"{label}: peak memory (PSS); four models", ours.peak_mib, four.peak_mib, unit="MiB"),
        ]
    size = work.batch_size
    unit = "rows/s" if method.startswith("kto") else "pairs/s"
    found = []
    for peer, name in PEERS.items():
        if (method, peer) not in runs:
            continue
        theirs = runs[method, peer]
        found += [
            Row(f"{label}: {name}", size / ours.middle("step_s"), size / theirs.middle("step_s"), unit=unit),
            Row(
                f"{label}, until the first step is done: {name}",
                ours.middle("first_s"),
                theirs.middle("first_s"),
                unit="s",
            ),
            Row(f"{label}, peak memory (PSS): {name}", ours.peak_mib, theirs.peak_mib, unit="MiB"),
            Row(
                f"{label}, mean loss: {name}", statistics.mean(ours.losses), statistics.mean(theirs.losses), unit="loss"
            ),
        ]
        if peer != "factory":  # which begins with other first weights
            found.append(
                Row(f"{label}, distance of the loss curves: {name}", distance(ours.losses, theirs.losses), unit="%")
            )
    if ("kto-shipped", "ours") in runs and method == "kto-apo":
        shipped = runs["kto-shipped", "ours"]
        found.append(
            Row("KTO as a round runs it (anchor and plain text held)", size / shipped.middle("step_s"), unit=unit)
        )
    return found or [Row(f"{label}, alone", size / ours.middle("step_s"), unit=unit)]


def distance(ours: list[float], theirs: list[float]) -> float:
    """How far two curves lie apart: mean absolute difference of the steps' losses, in per cent of the peer's mean."""
    if len(ours) != len(theirs):
        raise SystemExit(f"ours took {len(ours)} steps, the peer {len(theirs)}: they had different work")
    gaps = [abs(mine - other) for mine, other in zip(ours, theirs, strict=True)]
    return 100 * statistics.mean(gaps) / statistics.mean(abs(value) for value in theirs)


def notes(arguments: argparse.Namespace, work: Work) -> str:
    """What stands below the table."""
    numbers = asdict(work)
    missing = "factory" in arguments.peers and factory_python() is None
    return (
        f"SmolLM2-135M-Instruct in {work.dtype}, float32 LoRA of rank {work.rank} on {', '.join(work.target_modules)} "
        f"of the upper half of the layers, {numbers['steps']} steps of {work.batch_size} rows in "
        f"{work.passes} pass{'es' if work.passes > 1 else ''}, replies of at most {work.reply_tokens} tokens, "
        f"{work.threads} thread{'s' if work.threads > 1 else ''}, median of {arguments.repeats}; the first step is "
        "left out of the rates. Ours takes the reference's log-probabilities as the server stored them. Stock trl: its "
        "defaults, so gradient checkpointing and bfloat16 autocast; tuned: neither, and the reference computed ahead. "
        f"PPO: {work.ppo_passes} passes over {work.ppo_prompts} × {work.ppo_replies} replies."
        + (" LLaMA-Factory was not installed (scripts/llamafactory.sh says why)." if missing else "")
    )


if __name__ == "__main__":
    main()
