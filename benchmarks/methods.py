"""Does each method of training teach what the crowd likes? All of them on one model and one crowd, with their controls.

One case is one method, one kind of labels and one seed: replies of the bundled model are judged by the demo's crowd
(_method_data.py), the round's own training process (`python -m trainer.worker`) learns from the judgements and runs its
gate, and the sealed adapter answers prompts that nobody judged. The figure is the win rate of its hidden score against
the base model's, with a bootstrap interval over prompts.

    votes      as the raters feel
    shuffled   the same judgements dealt at random: the interval should hold 50 %
    inverted   a crowd that likes long, unfinished replies: the sign should turn
    unstopped  PPO without its brakes, to be stopped by the gate

The reward model's bar is asked of the votes as in a round. The controls train past it, since a reward model that learnt
noise would never be let near a policy: what is asked of them is what would happen if it were.

    make bench-methods                                          all of it: many hours on two cores
    make bench-methods ARGS="--jobs 2 --keep DIR"               two at a time, a core each; an interrupted run goes on
    make bench-methods ARGS="--methods ppo --labels votes --seeds 0 --keep DIR"
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks._method_data import REPLIES, Judged, MethodData
from benchmarks.report import Row, report
from feedback_store.records import Sampling
from serving.engine import PolicyRef
from serving.engine.base_model import fingerprint, load_tokenizer, resolve_base_model
from serving.engine.bundled_model import BUNDLED_MODEL
from thumbwise.demo.measures import FreshReply, looks_of
from thumbwise.demo.prompts import fresh_prompts, train_prompts
from trainer.drawing import Drawn, engine_draw
from trainer.encoding import Encoder
from trainer.job import GATE_FILE, REWARD_FILE, Job, write_job
from trainer.method_settings import OnlineSettings, RewardSettings
from trainer.settings import GateSettings, LoraSettings, TrainingSettings

NAMES = {"kto": "KTO", "dpo": "DPO", "sft": "SFT", "ppo": "reward model + PPO", "grpo": "reward model + GRPO"}
METHODS = tuple(NAMES)
LABELS = ("votes", "shuffled", "inverted", "unstopped")
VOTES, CORRECTIONS = 480, 100
REPLY_TOKENS = 96
FRESH_PROMPTS, FRESH_REPLIES = 110, 2
FRESH_SEED = 777_000
PAST_THE_BAR = {"min_share_of_ceiling": 0.0, "min_accuracy_bound": 0.0, "min_consensus_accuracy": 0.0}
WITHOUT_BRAKES = {"stop_when_hacked": False, "max_kl_nats": 1e6, "kl_weight": 0.0, "kl_gain": 0.0}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "dpo": {"training": {"learning_rate": 1e-3, "chosen_likelihood_weight": 0.2, "beta": 0.1}},
    "ppo": {"online": {"iterations": 9}},
    "grpo": {"online": {"iterations": 9}},
}
"""Where a method's settings differ from the defaults."""


@dataclass(frozen=True, slots=True)
class Case:
    """One training."""

    method: str
    labels: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.labels}-{self.seed}"


EVERY = [
    Case(method, labels, seed)
    for labels in LABELS
    for method in METHODS
    for seed in range(10)
    if labels != "unstopped" or method == "ppo"
]


class Bench:
    """The model, and everything drawn or trained, kept in a folder and found there again."""

    def __init__(self, folder: Path, overrides: dict[str, dict[str, Any]], *, gate: bool) -> None:
        self.folder, self.overrides, self.gate = folder, overrides, gate
        self.model_dir = resolve_base_model(BUNDLED_MODEL, Path(os.environ.get("THUMBWISE_MODELS_DIR", ".models")))
        self.fingerprint = fingerprint(self.model_dir)
        self.encoder = Encoder(load_tokenizer(self.model_dir))

    def run(self, case: Case, core: int | None) -> dict[str, Any]:
        """Train, gate and measure one case; return its figures. Those that are kept are read instead."""
        place = self.folder / case.name
        result = place / "result.json"
        gated = self.gate and case.labels not in ("shuffled", "inverted")
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
            if gated and found["gate"] is None and found["adapter"] is not None:  # its process goes on at the gate
                found["gate"] = _worker(place, core, gated=True)["gate"]
                result.write_text(json.dumps(found, indent=1), encoding="utf-8")
            return found
        place.mkdir(parents=True, exist_ok=True)
        job = self._job(case, place)
        data = self._data(case)
        write_job(place, job, data.train, data.held_out, data.gate_prompts, data.rollout_prompts)
        if case.method == "grpo":
            self._take_reward_model(replace(case, method="ppo"), place)
        had_reward_model = (place / REWARD_FILE).exists()
        training = _worker(place, core, gated=gated)
        figures = {
            "case": case.name,
            "had_reward_model": had_reward_model,
            "rows": len(data.train),
            "held_out": len(data.held_out),
            **training,
        }
        if (sha256 := training["adapter"]) is not None:
            fresh = self._fresh(case.name, job, PolicyRef(2, sha256, Path(job.adapters_dir) / sha256), case.seed, core)
            base = self._fresh("base", job, PolicyRef(1), case.seed, core)
            looks = looks_of(_as_fresh(fresh, 2), _as_fresh(base, 1), "", case.seed)
            figures |= looks.as_dict() | {
                "base_words": looks_of(_as_fresh(base, 1), _as_fresh(base, 1), "", 0).mean_words
            }
        result.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        print(f"{case.name}: {_in_words(figures)}", flush=True)
        return figures

    def prepare(self, seeds: Sequence[int]) -> None:
        """Draw every seed's replies of the base model."""
        for seed in seeds:
            self._base_replies(seed)

    def _job(self, case: Case, place: Path) -> Job:
        changed = {section: dict(values) for section, values in SETTINGS.get(case.method, {}).items()}
        for section, values in self.overrides.items():
            changed.setdefault(section, {}).update(values)
        if case.labels != "votes":
            changed["reward"] = changed.get("reward", {}) | PAST_THE_BAR
        if case.labels == "unstopped":
            changed["online"] = changed.get("online", {}) | WITHOUT_BRAKES
        return Job(
            round_id=1,
            method=case.method,  # type: ignore[arg-type]
            seed=case.seed,
            base_model_dir=str(self.model_dir.resolve()),
            base_model=self.fingerprint,
            adapters_dir=str((place / "adapters").resolve()),
            live_version=1,
            training=TrainingSettings(
                **{"seed": case.seed, "threads": 1, "niceness": 0, **changed.get("training", {})}
            ),
            lora=LoraSettings(**changed.get("lora", {})),
            gate=GateSettings(**changed.get("gate", {})),
            reward=RewardSettings(**changed.get("reward", {})),
            online=OnlineSettings(**changed.get("online", {})),
        )

    def _data(self, case: Case) -> MethodData:
        labels = "votes" if case.labels == "unstopped" else case.labels
        tokens = [len(self._prompt_ids(prompt)) for prompt in train_prompts()]
        judged = Judged(self._base_replies(case.seed), tokens, labels, case.seed)  # type: ignore[arg-type]
        if case.method == "kto":
            return judged.votes(VOTES)
        if case.method == "sft":
            return judged.corrections(CORRECTIONS)
        if case.method == "dpo":
            return judged.pairs(looks=1, widest_only=True)
        return judged.pairs()

    def _take_reward_model(self, other: Case, place: Path) -> None:
        """GRPO learns from the reward model that PPO learnt from: the same one would be trained again."""
        made = self.folder / other.name
        if (made / REWARD_FILE).exists():
            (place / REWARD_FILE).write_bytes((made / REWARD_FILE).read_bytes())
            (place / "rewards").symlink_to((made / "rewards").resolve())

    def _base_replies(self, seed: int) -> list[Drawn]:
        job = self._job(Case("kto", "votes", seed), self.folder)
        return self._drawn(f"base-{seed}", job, PolicyRef(1), train_prompts(), REPLIES, 5_000_000 * (seed + 1), None)

    def _fresh(self, name: str, job: Job, policy: PolicyRef, seed: int, core: int | None) -> list[Drawn]:
        """The base draws with other seeds than the candidates: equal ones would begin alike."""
        first = FRESH_SEED + 1_000_000 * seed + (500_000 if policy.version > 1 else 0)
        asked = fresh_prompts()[:FRESH_PROMPTS]
        return self._drawn(f"fresh-{name}-{seed}", job, policy, asked, FRESH_REPLIES, first, core)

    def _drawn(
        self, name: str, job: Job, policy: PolicyRef, prompts: Sequence[str], n: int, seed: int, core: int | None
    ) -> list[Drawn]:
        path = self.folder / f"{name}.json"
        if not path.exists():
            if core is not None:
                os.sched_setaffinity(0, {core})
            ids = [self._prompt_ids(prompt) for prompt in prompts]
            sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=REPLY_TOKENS, seed=seed)
            drawn = engine_draw(job)(policy, ids, n, sampling)
            path.write_text(json.dumps([[one.text, one.token_ids, one.logprob_nats, one.finish_reason]
                                        for one in drawn]), encoding="utf-8")  # fmt: skip
        values = json.loads(path.read_text(encoding="utf-8"))
        return [Drawn(text, tuple(ids), logprob, reason) for text, ids, logprob, reason in values]

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        return self.encoder.prompt_ids(({"role": "user", "content": prompt},))


def _as_fresh(drawn: Sequence[Drawn], version: int) -> list[FreshReply]:
    prompts = fresh_prompts()
    return [
        FreshReply(
            prompts[place // FRESH_REPLIES], one.text, "stop" if one.finish_reason == "stop" else "length", version
        )
        for place, one in enumerate(drawn)
    ]


def _worker(place: Path, core: int | None, *, gated: bool) -> dict[str, Any]:
    """Run a round's training process in its folder; return what it said. Its curves are kept beside. Not `gated`: it is
    ended where its gate would begin, since the trained policy itself is to be measured."""
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    found: dict[str, Any] = {"adapter": None, "ended": "", "metrics": {}, "gate": None, "train_s": None, "peak_mb": 0.0}
    with (place / "log.txt").open("a") as log, (place / "curve.jsonl").open("a") as curve:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer.worker", str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            kind = event.pop("event")
            found["peak_mb"] = max(found["peak_mb"], _proportional_mb(process.pid))
            if kind == "metric":
                curve.write(json.dumps(event | {"at_s": time.monotonic() - began}) + "\n")
                curve.flush()
            elif kind == "sealed":
                found |= {"adapter": event["adapter_sha256"], "metrics": event["metrics"]}
                found["train_s"] = time.monotonic() - began
                if not gated:
                    found["ended"] = "done"
                    process.kill()
            elif kind in ("done", "failed", "refused", "cancelled"):
                found["ended"] = kind
                found["reason"] = event.get("reason", "")
        process.wait()
    if (place / GATE_FILE).exists():
        gate = json.loads((place / GATE_FILE).read_text(encoding="utf-8"))
        blocked = [check["name"] for check in gate["checks"] if check["hard"] and check["outcome"] != "pass"]
        kept = {check["name"]: check.get("value") for check in gate["checks"]}
        found["gate"] = {"outcome": gate["outcome"], "blocked_by": blocked, "values": kept}
    if (place / REWARD_FILE).exists():
        found["reward_report"] = json.loads((place / REWARD_FILE).read_text(encoding="utf-8"))["report"]
    found["whole_s"] = time.monotonic() - began
    return found


def _proportional_mb(pid: int) -> float:
    """A process's share of memory (PSS): what it shares with others counts in part."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _in_words(figures: dict[str, Any]) -> str:
    gate = figures["gate"] or {"outcome": "not asked", "blocked_by": []}
    by = f" by {', '.join(gate['blocked_by'])}" if gate["blocked_by"] else ""
    if (win := figures.get("win_rate")) is None:
        return f"{figures['ended']}: {figures.get('reason', '')}"
    taken = " with a reward model that was there" if figures["had_reward_model"] else ""
    return (
        f"{win['value']:.1%} [{win['low']:.1%}, {win['high']:.1%}], {figures['mean_words']:.0f} words, finished "
        f"{figures['finished']:.0%}, under 3 words {figures['under_three_words']:.1%}, gate {gate['outcome']}{by}, "
        f"{figures['train_s'] / 60:.1f} min{taken}, "
        f"{figures['peak_mb']:.0f} MB"
    )


def rows_of(case: Case, figures: dict[str, Any]) -> list[Row]:
    """The figures of one case; the peer is the base model."""
    said = _in_words(figures).split(", ", 2)
    name = f"{NAMES[case.method]}, {case.labels}, seed {case.seed}"
    if (win := figures.get("win_rate")) is None:
        return [Row(f"{name}: {said[0][:160]}", 50.0, 50.0, unit="%")]
    return [
        Row(f"{name}: win rate [{win['low']:.1%}, {win['high']:.1%}] ({said[-1]})", 100 * win["value"], 50.0, unit="%")
    ]


def over_seeds(cases: Sequence[Case], results: Sequence[dict[str, Any]]) -> list[Row]:
    """For each method and kind of labels with several seeds: the mean, and the lowest and highest bound."""
    rows = []
    for method, labels in dict.fromkeys((case.method, case.labels) for case in cases):
        wins = [
            figures.get("win_rate", {"value": 0.5, "low": 0.5, "high": 0.5})
            for case, figures in zip(cases, results, strict=True)
            if (case.method, case.labels) == (method, labels)
        ]
        if len(wins) > 1:
            low, high = min(win["low"] for win in wins), max(win["high"] for win in wins)
            seeds = f"{NAMES[method]}, {labels}, mean of {len(wins)} seeds"
            said = f"{seeds}: win rate against the base (bounds from {low:.1%} to {high:.1%})"
            rows.append(Row(said, 100 * sum(win["value"] for win in wins) / len(wins), 50.0, unit="%"))
    return rows


def _overrides(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read "section.key=value" texts, values as JSON."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        section, _, key = name.partition(".")
        try:
            found.setdefault(section, {})[key] = json.loads(value)
        except json.JSONDecodeError:
            found.setdefault(section, {})[key] = value
    return found


def main() -> None:
    """Run, print, write benchmarks/results/methods.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--labels", default="votes,shuffled,inverted")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--control-seeds", default="0", help="seeds of the cases that are not votes")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--core", type=int, help="with one job: the core that it stays on")
    parser.add_argument("--keep", type=Path)
    parser.add_argument(
        "--no-gate", action="store_true", help="train and measure; a later run with --keep asks the gate"
    )
    parser.add_argument("--kept", action="store_true", help="train nothing: make the table of what --keep holds")
    parser.add_argument("--set", nargs="*", default=[], metavar="section.key=value", help="settings to try; no table")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    controls = [int(seed) for seed in options.control_seeds.split(",")]
    labels = options.labels.split(",")
    cases = [
        Case(method, kind, seed)
        for kind in labels
        for seed in (seeds if kind == "votes" else controls)
        for method in options.methods.split(",")
        if kind != "unstopped" or method == "ppo"
    ]
    if options.kept:
        cases = [case for case in EVERY if (options.keep / case.name / "result.json").exists()]
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        bench = Bench(keep, _overrides(options.set), gate=not (options.no_gate or options.kept))
        if not options.kept:
            bench.prepare(sorted({case.seed for case in cases}))
        cores: SimpleQueue[int | None] = SimpleQueue()
        for place in range(options.jobs):
            cores.put(place if options.jobs > 1 else options.core)

        def one(case: Case) -> dict[str, Any]:
            core = cores.get()
            try:
                return bench.run(case, core)
            finally:
                cores.put(core)

        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(one, cases))
    if options.set:
        return
    rows = over_seeds(cases, results)
    rows += [row for case, figures in zip(cases, results, strict=True) for row in rows_of(case, figures)]
    report("methods", rows, NOTES)


NOTES = (
    f"SmolLM2-135M-Instruct; {VOTES} thumbs (KTO), one verdict on each prompt's widest pair (DPO), {CORRECTIONS} "
    "corrections beside as many liked replies (SFT), three verdicts on two pairs of each prompt (the reward model of "
    "PPO and GRPO), of which about a third is held out. Hidden score on "
    f"{FRESH_PROMPTS} fresh prompts × {FRESH_REPLIES} replies against the base model's (the peer); one core each."
)


if __name__ == "__main__":
    main()
