"""What the gate lets through: rounds with nothing to learn, and candidates with something planted, on the real model.

One crowd votes on replies of the bundled model. Then three kinds of candidates go through the very gate of a round:

    nothing     KTO on the same votes dealt at random, or an adapter that changes nothing (in turn): none should be
                promoted, and none called harmful
    good        KTO on the votes as they are
    planted     the good one, trained on further with a little of something bad, at several strengths

How far a planted candidate moved is measured apart from the gate, on other prompts and other random numbers; "caught"
is asked of those that moved ten points or more, by checks other than the held-out preference too.

A whole run takes about three hours on one core, so it can be had in pieces:

    --keep DIR       keep votes, adapters, movements and reports in DIR, and go on from them
    --jobs 2         two processes, a core each (with --core, the cores from that one on)
    --no-gate        draw, vote, train, and measure how far each planted one moved; a later run asks the gate
    --kept           compute nothing: the table of what --keep holds

What is equal between gates is drawn once: live's replies to the same prompts from the same random numbers. Each pair of
candidates with nothing learnt (one of either kind) has random numbers of its own; planted ones of a seed share theirs.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks._gate_plants import PLANT_ROWS, PLANTS, STRENGTHS, learn_by_likelihood, spoilt
from benchmarks._gate_table import GOOD, NOTES, Case, Verdict, rows_of
from benchmarks.report import report
from feedback_store.records import Sampling
from serving.engine import PolicyRef
from serving.engine.base_model import fingerprint, resolve_base_model
from serving.engine.bundled_model import BUNDLED_MODEL
from thumbwise.demo.crowd import Crowd, CrowdPlan
from thumbwise.demo.prompts import fresh_prompts, train_prompts
from thumbwise.demo.raters import SeenReply
from trainer.drawing import Draw, Drawn, engine_draw
from trainer.encoding import Encoder
from trainer.job import Job, PromptRow, ReplyText, VoteRow
from trainer.settings import GateSettings, TrainingSettings

VOTES = 375
HELD_OUT_RATERS = 0.33
REPLY_TOKENS = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nothing", type=int, default=20, help="candidates with nothing learnt")
    parser.add_argument("--plants", default=",".join(plant.name for plant in PLANTS))
    parser.add_argument("--strengths", default=",".join(STRENGTHS))
    parser.add_argument("--seeds", type=int, default=1, help="seeds of every planted candidate")
    parser.add_argument("--profile", choices=["quick", "full"], default="quick")
    parser.add_argument("--votes", type=int, default=VOTES, help="fewer for a quick look, which proves nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--core", type=int, help="the core of the first job; without it a single job has all of them")
    parser.add_argument("--no-gate", action="store_true")
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--part", default="0/1", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = cases_of(options)
    with contextlib.ExitStack() as parts:
        folder = options.keep or Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="bench-gate-")))
        folder.mkdir(parents=True, exist_ok=True)
        if options.core is not None:
            os.sched_setaffinity(0, {options.core})
        bench = Bench(folder, options.profile, options.votes, options.seed, ask_gate=not options.no_gate)
        if not options.kept:
            part, parts_of_it = map(int, options.part.split("/"))
            if options.jobs > 1:
                bench.prepare(any(case.plant for case in cases))
                in_parts(options.jobs, options.core or 0, folder)
            for case in cases:
                if case.lot % parts_of_it == part:
                    bench.verdict(case)
            if parts_of_it > 1 or options.no_gate:
                return
        found = [verdict for case in cases if (verdict := bench.kept(case)) is not None]
    notes = NOTES.format(profile=options.profile)
    if missing := len(cases) - len(found):
        notes += f" {missing} of {len(cases)} candidates are missing."
    report("gate_roc", rows_of(found), notes, seed=options.seed)


def cases_of(options: argparse.Namespace) -> list[Case]:
    """The candidates that are asked for."""
    planted = [
        Case(None, plant, strength, seed)
        for seed in range(options.seeds)
        for plant in PLANTS
        if plant.name in options.plants.split(",")
        for strength in options.strengths.split(",")
        if strength
    ]
    return [GOOD, *planted, *(Case(turn) for turn in range(options.nothing))]


def in_parts(jobs: int, first_core: int, folder: Path) -> None:
    """Run this program once per job, each with its share of the cases and a core to itself."""
    command = [sys.executable, "-m", "benchmarks.gate_roc", *sys.argv[1:], "--keep", str(folder), "--jobs", "1"]
    running = [
        subprocess.Popen([*command, "--part", f"{job}/{jobs}", "--core", str(first_core + job)]) for job in range(jobs)
    ]
    statuses = [process.wait() for process in running]
    if any(statuses):
        raise SystemExit("a part of it failed: see above")


def _leave(policies: Any) -> None:
    """Change nothing."""


class Bench:
    """The model, the votes, and the candidates; everything drawn or trained is kept in `folder` and found again."""

    def __init__(self, folder: Path, profile: str, votes: int, seed: int, *, ask_gate: bool) -> None:
        self.folder, self.seed, self.ask_gate = folder, seed, ask_gate
        self._engine: Draw | None = None
        models = Path(os.environ.get("THUMBWISE_MODELS_DIR", ".models"))
        self.model_dir = resolve_base_model(BUNDLED_MODEL, models)
        self.job = Job(
            round_id=1,
            method="kto",
            seed=seed,
            base_model_dir=str(self.model_dir.resolve()),
            base_model=fingerprint(self.model_dir),
            adapters_dir=str((folder / "adapters").resolve()),
            live_version=1,
            training=TrainingSettings(seed=seed),
            gate=GateSettings(profile=profile),  # type: ignore[arg-type]
        )
        self.train, self.held_out, self.prompts = self._votes(votes)

    def _votes(self, count: int) -> tuple[list[VoteRow], list[VoteRow], list[PromptRow]]:
        """Draw replies of the base to the crowd's prompts, and have the crowd vote."""
        crowd, dice = Crowd(CrowdPlan(), self.seed), random.Random(self.seed)
        turns = crowd.turns(count, train_prompts())
        drawn = self._drawn("votes", PolicyRef(1), [turn.messages for turn in turns], 0)
        seen = [SeenReply(one.text, one.finish_reason) for one in drawn]
        thumbs = crowd.thumbs(turns, seen)
        names = sorted({turn.rater.name for turn in turns})
        held_raters = set(dice.sample(names, round(HELD_OUT_RATERS * len(names))))
        asked = sorted({turn.messages[-1]["content"] for turn in turns})
        held_prompts = set(dice.sample(asked, round(HELD_OUT_RATERS * len(asked))))
        rows: dict[bool, list[VoteRow]] = {True: [], False: []}
        prompts: dict[str, PromptRow] = {}
        for place, (turn, one, thumb) in enumerate(zip(turns, drawn, thumbs, strict=True)):
            prompt = turn.messages[-1]["content"]
            text = ReplyText(f"r{place}", one.text, one.finish_reason, 1, 0, len(one.token_ids), one.logprob_nats)
            held = turn.rater.name in held_raters or prompt in held_prompts
            rows[held].append(VoteRow(place, names.index(turn.rater.name), turn.messages, text, thumb == "up"))
            if prompt in held_prompts:
                prompts.setdefault(prompt, PromptRow(turn.messages, f"r{place}"))
        return rows[False], rows[True], list(prompts.values())

    def prepare(self, planted: bool) -> None:
        """Make what several parts would otherwise make at once."""
        if planted:
            self._drawn("fresh of good", self._ref(self._adapter(GOOD)), self._fresh(), 77)

    def verdict(self, case: Case) -> None:
        """Train the candidate, measure how far it moved, and ask the gate, unless all that is kept already."""
        sha256, moved = self._adapter(case), self._moved(case)
        if moved is not None:
            print(f"{case.name}: moved {100 * moved:+.0f} points", flush=True)
        if self.ask_gate:
            found = self._cached(case.name, partial(self._gate, case, sha256))
            by = ", ".join(found["blocked_by"]) or "nothing"
            print(f"{case.name}: {found['outcome']} by {by}", flush=True)

    def kept(self, case: Case) -> Verdict | None:
        """What is kept of a candidate that the gate was asked about."""
        if not self._path(case.name).exists() or (case.plant and not self._path(f"moved of {case.name}").exists()):
            return None
        found = json.loads(self._path(case.name).read_text(encoding="utf-8"))
        preference = next(check for check in found["report"]["checks"] if check["name"] == "held_out_preference")
        preferred = preference["value"] is not None and preference["value"] > 0.5
        blocked_by = tuple(found["blocked_by"])
        return Verdict(case.name, case.seed, found["outcome"], blocked_by, self._moved(case), preferred)

    def _adapter(self, case: Case) -> str:
        """The hash of the sealed candidate."""
        return str(self._cached(f"adapter of {case.name}", lambda: {"sha256": self._train(case)})["sha256"])

    def _train(self, case: Case) -> str:
        if case.plant is not None:
            return self._planted(case)
        if case.turn is None:
            return self._kto(self.seed, self.train)
        seed = self.seed + 1_000 + case.turn
        if case.turn % 2:
            return self._sealed(seed, _leave)
        dice = random.Random(seed)
        ups = [row.up for row in self.train]
        dice.shuffle(ups)
        return self._kto(seed, [replace(row, up=up) for row, up in zip(self.train, ups, strict=True)])

    def _moved(self, case: Case) -> float | None:
        """How many points a planted candidate moved, as a share, on prompts that neither training nor gate saw."""
        if case.plant is None:
            return None
        return float(self._cached(f"moved of {case.name}", lambda: {"moved": self._measure(case)})["moved"])

    def _measure(self, case: Case) -> float:
        assert case.plant is not None
        sha256, good = self._adapter(case), self._adapter(GOOD)
        if case.plant.shown is None:  # it shows in no reply, but in how plain text is read
            return self._perplexity(sha256) / self._perplexity(None) - 1
        old = self._drawn("fresh of good", self._ref(good), self._fresh(), 77)
        new = self._drawn(f"fresh of {case.name}", self._ref(sha256), self._fresh(), 77)
        return case.plant.shown([one.text for one in new], [one.text for one in old])

    def _perplexity(self, sha256: str | None) -> float:
        """On the gate's plain English; of the base without a hash."""
        import math

        from trainer.policies import Policies
        from trainer.scoring import text_logprobs

        def read() -> dict[str, float]:
            texts = resources.files("trainer").joinpath("retention.txt").read_text(encoding="utf-8").split("\n\n")
            policies = Policies.open(self.job, candidate_sha256=sha256)
            with policies.use("base" if sha256 is None else "candidate") as model:
                found = text_logprobs(model, policies.tokenizer, [text for text in texts if text.strip()])
            return {"perplexity": math.exp(-sum(float(one.mean()) for one in found) / len(found))}

        return float(self._cached(f"perplexity of {sha256 or 'base'}", read)["perplexity"])

    def _fresh(self) -> list[tuple[dict[str, str], ...]]:
        return [({"role": "user", "content": prompt},) for prompt in fresh_prompts()]

    def _gate(self, case: Case, sha256: str) -> dict[str, Any]:
        from trainer.gate import run_gate
        from trainer.policies import Policies

        pair = 0 if case.turn is None else 1_000 + case.turn // 2
        job = replace(self.job, seed=self.seed + case.seed + pair)
        found = run_gate(
            Policies.open(job, candidate_sha256=sha256),
            job,
            sha256,
            train=self.train,
            held_out=self.held_out,
            prompts=self.prompts,
            draw=self._draw,
            emit=lambda event, **values: None,
        )
        blocked = [check["name"] for check in found["checks"] if check["hard"] and check["outcome"] != "pass"]
        return {"outcome": found["outcome"], "blocked_by": blocked, "sha256": sha256, "report": found}

    def _kto(self, seed: int, rows: list[VoteRow]) -> str:
        from trainer.methods.kto import train_kto

        job = replace(self.job, seed=seed, training=self.job.training.model_copy(update={"seed": seed}))

        def train(policies: Any) -> None:
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                train_kto(policies, rows, job, Path(scratch), lambda event, **values: None)

        return self._sealed(seed, train)

    def _planted(self, case: Case) -> str:
        """Train on from the strength before, or from the good one, by likelihood of the good one's spoilt replies."""
        assert case.plant is not None
        plant, dice, good = case.plant, random.Random(case.seed), self._adapter(GOOD)
        weaker = list(STRENGTHS)[: list(STRENGTHS).index(case.strength)]
        start = self._adapter(replace(case, strength=weaker[-1])) if weaker else good
        rows = dice.sample(self.train, min(PLANT_ROWS, len(self.train)))
        own = self._drawn("own of good", self._ref(good), [row.messages for row in rows], 5 + case.seed)

        def train(policies: Any) -> None:
            sequences = spoilt(plant, rows, own, policies.encoder, dice)
            learn_by_likelihood(policies.model, sequences, STRENGTHS[case.strength])

        return self._sealed(case.seed, train, start=start)

    def _sealed(self, seed: int, train: Callable[[Any], None], start: str | None = None) -> str:
        from trainer.policies import Policies
        from trainer.worker import seal

        job = replace(self.job, seed=seed)
        policies = Policies.open(job, candidate_sha256=start)
        train(policies)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            return seal(policies, job, Path(scratch))

    def _drawn(self, name: str, policy: PolicyRef, asked: Sequence[Sequence[dict[str, str]]], seed: int) -> list[Drawn]:
        def draw() -> dict[str, Any]:
            from serving.engine.base_model import load_tokenizer

            encoder = Encoder(load_tokenizer(self.model_dir))
            ids = [encoder.prompt_ids(messages) for messages in asked]
            sampling = Sampling(temperature=1.0, max_tokens=REPLY_TOKENS, seed=self.seed + seed)
            return _as_json(self._draw(policy, ids, 1, sampling))

        return _replies(self._cached(f"{name} {seed}", draw))

    def _draw(self, policy: PolicyRef, prompts: Sequence[tuple[int, ...]], n: int, sampling: Sampling) -> list[Drawn]:
        """Draw with one engine for all, and once alone what the base says."""
        if self._engine is None:
            self._engine = engine_draw(self.job)
        if policy.adapter_sha256 is not None:
            return self._engine(policy, prompts, n, sampling)
        engine, asked = self._engine, json.dumps([prompts, n, asdict(sampling)])
        name = f"base draws {hashlib.sha256(asked.encode()).hexdigest()[:32]}"
        return _replies(self._cached(name, lambda: _as_json(engine(policy, prompts, n, sampling))))

    def _ref(self, sha256: str) -> PolicyRef:
        return PolicyRef(0, sha256, Path(self.job.adapters_dir) / sha256)

    def _cached(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was made before under this name, or what `make` makes now."""
        path = self._path(name)
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        made = make()
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        scratch.write_text(json.dumps(made), encoding="utf-8")
        scratch.replace(path)  # never seen half-written, by another part or after a kill
        return made

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.seed} {self.job.gate.profile} {name.replace('/', '-')}.json"


def _as_json(drawn: Sequence[Drawn]) -> dict[str, Any]:
    return {"replies": [asdict(one) for one in drawn]}


def _replies(values: dict[str, Any]) -> list[Drawn]:
    return [Drawn(**(one | {"token_ids": tuple(one["token_ids"])})) for one in values["replies"]]


if __name__ == "__main__":
    main()
