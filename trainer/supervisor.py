"""Runs rounds: claims a wish, selects, trains in a child process, publishes what passed its gate.

    claim ─► select and freeze ─► write the folder ─► child: train, seal, gate ─► publish (and promote)

The round's row is the truth: every write carries the fence of this supervisor's claim, so that one that slept past
its lease is refused. A round whose supervisor died is claimed again and goes on from its folder: from the start of its
training, or from the gate when its adapter is sealed. After `_MOST_CLAIMS` it fails: no round may loop for ever.
"""

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from feedback_store import rounds
from feedback_store.errors import Conflict, StoreUnavailable
from feedback_store.records import ROUND_ENDED, Round, RoundMetric
from serving.engine import AdapterRefused
from trainer import transactions
from trainer.child import TrainingProcess, threads_for
from trainer.context import TrainerContext
from trainer.evidence import other_prompts, read_evidence
from trainer.job import CANCEL_FILE, JOB_FILE, Job, read_job, remove_texts, write_job
from trainer.preview import data_window
from trainer.readiness import Readiness, judge_readiness
from trainer.selection import Usable, select, usable
from trainer.settings import GateSettings, LoraSettings, TrainingSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_EVERY_S = 0.25
"""How often a running child is listened to and its round looked at (is it cancelled?)."""
_IDLE_LOOK_S = 1.0
_MOST_CLAIMS = 5
_STORE_PATIENCE_S = 60.0


class RoundTaken(Exception):
    """The round is no longer this supervisor's: cancelled, or taken over after its lease ran out."""


class RoundStopped(Exception):
    """The round ends here with `state` and a reason for people."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


class Supervisor:
    """Takes up rounds one after another. `start` runs it in a thread; `run_next` does one round in the caller's."""

    def __init__(self, context: TrainerContext, stop: threading.Event | None = None) -> None:
        """`stop`: the event that ends it, set by `close` or by whoever gave it."""
        self._context = context
        self._owner = f"{socket.gethostname()}-{os.getpid()}"
        self._stop = stop or threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take up rounds in a thread until `close`."""
        self._thread = threading.Thread(target=self.run, name="supervisor", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for a round now rather than within a second."""
        self._wake.set()

    def close(self) -> None:
        """Stop; a round under way is left to its lease, and goes on from its folder at the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def run(self) -> None:
        """Take up rounds until `close`."""
        while not self._stop.is_set():
            try:
                if self.run_next():
                    continue
            except StoreUnavailable as error:
                logger.warning("store unavailable, no round taken up reason=%s", error)
            self._wake.wait(_IDLE_LOOK_S)
            self._wake.clear()

    def run_next(self) -> bool:
        """Claim and run one round to its end; False when none waits."""
        context = self._context
        claimed = context.store.write(rounds.claim_round, self._owner, context.rounds.lease_s)
        if claimed is None:
            return False
        logger.info("round claimed round=%d state=%s fence=%d", claimed.round_id, claimed.state, claimed.fence)
        run = RoundRun(context, claimed, self._stop)
        try:
            run.run()
        except RoundTaken as taken:
            logger.info("round left round=%d reason=%s", claimed.round_id, taken)
        return True


class RoundRun:
    """One claimed round from its present state to its end."""

    def __init__(self, context: TrainerContext, claimed: Round, stop: threading.Event) -> None:
        self._context = context
        self._round = claimed
        self._stop = stop
        self._folder = context.round_folder(claimed.round_id)
        self._next_heartbeat = time.monotonic()

    def run(self) -> None:
        """The story of a round. Raises RoundTaken when it is no longer ours (or the supervisor stops)."""
        try:
            self._give_up_after_too_many_claims()
            if self._round.state in ("requested", "selecting"):
                self._select()
            elif not (self._folder / JOB_FILE).exists():
                raise RoundStopped("failed", "its trainer died, and its folder is not on this machine")
            outcome = self._train_and_gate()
            self._publish(outcome)
        except RoundStopped as stopped:
            self._advance(stopped.state, reason=stopped.reason)
            logger.info("round ended round=%d state=%s", self._round.round_id, stopped.state)
        except (RoundTaken, StoreUnavailable):
            raise
        except Conflict as conflict:
            raise RoundTaken(str(conflict)) from conflict
        except Exception as error:
            logger.exception("round failed round=%d", self._round.round_id)
            self._advance("failed", reason=f"{type(error).__name__}: {error}")
        finally:
            self._tidy()

    def _give_up_after_too_many_claims(self) -> None:
        if self._round.fence > _MOST_CLAIMS:
            raise RoundStopped("failed", f"given up: its trainer died {self._round.fence - 1} times")

    def _select(self) -> None:
        """Choose the round's feedback, write its folder, freeze its ids."""
        context = self._context
        self._advance("selecting")
        training, lora, gate = self._settings()
        window = data_window(self._round.settings, context.rounds)
        evidence = context.store.read(
            read_evidence,
            fresh_only=window.fresh_only,
            verdicts_as_thumbs=training.use_verdicts_as_thumbs,
            since=window.since,
        )
        kept = usable(
            evidence.found, evidence.replies, max_votes_per_rater=context.rounds.max_votes_per_rater, seed=training.seed
        )
        method = self._method(kept, training)
        chosen = select(
            kept,
            evidence.replies,
            method=method,
            seed=training.seed,
            held_out_raters=context.rounds.held_out_raters,
            held_out_prompts=context.rounds.held_out_prompts,
            gate_prompts=gate.replies,
            other_prompts=context.store.read(other_prompts),
        )
        if not chosen.train:
            raise RoundStopped("rejected", f"no {'thumb' if method == 'kto' else 'pair'} with kept text to train on")
        job = Job(
            round_id=self._round.round_id,
            method=method,
            seed=training.seed,
            base_model_dir=str(context.base_model_dir.resolve()),
            base_model=context.base_model,
            adapters_dir=str(context.adapters_dir.resolve()),
            live_version=evidence.live.version,
            live_adapter_sha256=evidence.live.adapter_sha256,
            system_prompt=context.policy.system_prompt,
            device=context.policy.device,
            training=training.model_copy(update={"threads": threads_for(training.threads)}),
            lora=lora,
            gate=gate,
        )
        shutil.rmtree(self._folder, ignore_errors=True)
        write_job(self._folder, job, chosen.train, chosen.held_out, chosen.prompts)
        counts = chosen.counts | {"acts_of_quarantined_raters": evidence.quarantined}
        self._write(transactions.freeze, self._round, chosen, evidence.live.version, counts, _recorded(job))
        self._round = context.store.read(rounds.get_round, self._round.round_id)
        logger.info("round selected round=%d method=%s rows=%d", self._round.round_id, method, len(chosen.train))

    def _settings(self) -> tuple[TrainingSettings, LoraSettings, GateSettings]:
        """The trainer's settings, with what this round's wish sets otherwise (sections training, lora, gate)."""
        wish, context = self._round.settings, self._context
        return (
            TrainingSettings.model_validate(context.training.model_dump() | dict(wish.get("training") or {})),
            LoraSettings.model_validate(context.lora.model_dump() | dict(wish.get("lora") or {})),
            GateSettings.model_validate(context.gate.model_dump() | dict(wish.get("gate") or {})),
        )

    def _method(self, kept: Usable, training: TrainingSettings) -> Any:
        """The wish's method, else the settings', else what readiness says; a forced round takes what it has most of."""
        wanted = self._round.method or training.method
        judged: Readiness = judge_readiness(kept, self._context.rounds, wanted)
        if judged.method is not None:
            return judged.method
        if not self._round.settings.get("force"):
            raise RoundStopped("rejected", judged.reason)
        if wanted != "auto":
            return wanted
        return "kto" if len(kept.votes) >= len(kept.pairs) else "dpo"

    def _train_and_gate(self) -> dict[str, Any]:
        """Run the child to its end; return its `sealed` hash, `metrics` and gate `report`."""
        job = read_job(self._folder)
        (self._folder / CANCEL_FILE).unlink(missing_ok=True)
        self._context.on_training(True)
        child = TrainingProcess(self._folder, threads_for(job.training.threads))
        found: dict[str, Any] = {}
        try:
            while (events := child.events(_LOOK_EVERY_S)) is not None:
                self._take(events, found)
                self._stay_in_charge()
            status = child.wait()
        except BaseException:
            child.end()
            raise
        finally:
            self._context.on_training(False)
        if "failed" in found:
            raise RoundStopped("failed", str(found["failed"]))
        if not {"adapter_sha256", "report", "metrics"} <= set(found):
            raise RoundStopped("failed", child.why_it_died(status))
        return found

    def _take(self, events: list[dict[str, Any]], found: dict[str, Any]) -> None:
        points: list[RoundMetric] = []
        for event in events:
            if event["event"] == "metric":
                points += [
                    RoundMetric(self._round.round_id, int(event["step"]), name, value)
                    for name, value in event["values"].items()
                    if value is not None
                ]
            elif event["event"] == "state" and event["state"] == "gating" and self._round.state == "training":
                self._advance("gating")
            elif event["event"] == "sealed":
                found |= {"adapter_sha256": event["adapter_sha256"], "metrics": event["metrics"]}
            elif event["event"] == "gate":
                found["report"] = event["report"]
            elif event["event"] == "failed":
                found["failed"] = event["reason"]
        if points:
            self._write(rounds.add_metrics, points)

    def _stay_in_charge(self) -> None:
        """Keep the lease; raise RoundTaken when the round is cancelled or another's, or this supervisor stops."""
        if self._stop.is_set():
            raise RoundTaken("the supervisor stops")
        try:
            present = self._context.store.read(rounds.get_round, self._round.round_id)
            if present.fence != self._round.fence or present.state in ROUND_ENDED:
                raise RoundTaken(f"it is {present.state}: {present.reason}")
            if time.monotonic() >= self._next_heartbeat:
                lease_s = self._context.rounds.lease_s
                self._context.store.write(rounds.heartbeat, self._round.round_id, self._round.fence, lease_s)
                self._next_heartbeat = time.monotonic() + lease_s / 4
        except StoreUnavailable as error:  # the lease outlives a short outage; a long one ends in a Conflict
            logger.warning("store unavailable round=%d reason=%s", self._round.round_id, error)

    def _publish(self, found: dict[str, Any]) -> None:
        """Add the version, and make it live when its gate passed and settings say so."""
        job, report, context = read_job(self._folder), found["report"], self._context
        passed = report["outcome"] == "pass"
        added = self._write(transactions.add_version, self._round, job, found, passed)
        if not passed:
            raise RoundStopped("rejected", f"the gate was {_outcome_in_words(report)}: {report['summary']}")
        if not context.rounds.auto_promote:
            raise RoundStopped("published", f"version {added} passed its gate and waits for an admin")
        try:
            context.prepare_version(added)
        except AdapterRefused as refusal:
            raise RoundStopped("published", f"version {added} passed its gate but is not served: {refusal}") from None
        reason = self._write(transactions.promote, self._round, added, job.live_version)
        logger.info("round published round=%d version=%d", self._round.round_id, added)
        context.on_pointer_moved()
        self._round = context.store.read(rounds.get_round, self._round.round_id)
        logger.debug("round ended round=%d reason=%s", self._round.round_id, reason)

    def _advance(self, state: Any, **fields: Any) -> None:
        self._round = self._write(rounds.advance, self._round.round_id, self._round.fence, state, **fields)

    def _write(self, fn: Callable[..., T], *args: Any, **fields: Any) -> T:
        """Write, waiting out a store that is away for a while; a stale fence means the round is another's."""
        until = time.monotonic() + _STORE_PATIENCE_S
        while True:
            try:
                return self._context.store.write(fn, *args, **fields)
            except Conflict as conflict:
                raise RoundTaken(str(conflict)) from conflict
            except StoreUnavailable:
                if time.monotonic() > until or self._stop.wait(1.0):
                    raise

    def _tidy(self) -> None:
        """Leave only what explains an ended round; one that goes on later keeps its folder."""
        try:
            present = self._context.store.read(rounds.get_round, self._round.round_id)
        except StoreUnavailable:
            return
        if present.state in ROUND_ENDED:
            remove_texts(self._folder)
            for name in ("adapter", "cache", "trl"):
                shutil.rmtree(self._folder / name, ignore_errors=True)


def _recorded(job: Job) -> dict[str, Any]:
    """The settings that made this round, for its row."""
    return {
        "training": job.training.model_dump(mode="json"),
        "lora": job.lora.model_dump(mode="json"),
        "gate": job.gate.model_dump(mode="json"),
    }


def _outcome_in_words(report: dict[str, Any]) -> str:
    return {"fail": "not passed", "inconclusive": "inconclusive"}[report["outcome"]]
