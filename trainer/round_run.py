"""One claimed round from its present state to its end: select, train and gate in a child process, publish."""

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from feedback_store import rounds
from feedback_store.connection import Connection
from feedback_store.erasures import newest_erasure
from feedback_store.errors import Conflict, NotFound, StoreError, StoreUnavailable
from feedback_store.records import ROUND_ENDED, Round, RoundMetric
from feedback_store.replies import trainable_replies
from feedback_store.trust import quarantine_found, trust_signals
from serving.engine import AdapterRefused
from trainer import transactions
from trainer.asking import unjudged_rows
from trainer.child import TrainingProcess, threads_for
from trainer.context import TrainerContext
from trainer.erased import COMPUTED_DIRS, Erased, Watch
from trainer.evidence import other_prompts, read_evidence, usable_of
from trainer.failpoints import reach
from trainer.failures import in_words
from trainer.gate_checks import REWARD_ALONE
from trainer.job import (
    CANCEL_FILE,
    CHECKPOINTS_DIR,
    GATE_FILE,
    JOB_FILE,
    SEALED_FILE,
    TRAIN_FILE,
    Job,
    read_job,
    remove_texts,
    write_job,
)
from trainer.job_settings import label_smoothing, recorded, settings_of
from trainer.judgements import Usable
from trainer.lease import Lease, RoundTaken
from trainer.pack_files import FETCHED
from trainer.preview import data_window
from trainer.readiness import Readiness, judge_readiness
from trainer.round_folder import RUN_LOCK, FolderBusy, end_leftover, remove_scratch, scratch_folder, take_its_name
from trainer.selection import select
from trainer.settings import TrainingSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_EVERY_S = 0.25
"""How often a running child is listened to and its round looked at (is it cancelled?)."""
_MOST_ATTEMPTS = 5
BASE_VERSION = 1
_STORE_PATIENCE_S = 60.0
_TAUGHT_BY = {"kto": "thumb", "sft": "approved correction"}
_MOST_TIMES_ANEW = 5
"""Erasures for which one claim trains anew: who votes must not be able to keep a round from ending."""
_LOOK_BACK = 50
"""Rounds looked through for the last one that came to its gate."""


class RoundStopped(Exception):
    """The round ends here with `state` and a reason for people."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


@dataclass(frozen=True, slots=True)
class Died:
    """How a training process ended that did not come to its end."""

    reason: str
    by_signal: bool


class RoundRun:
    """One claimed round from its present state to its end."""

    def __init__(self, context: TrainerContext, claimed: Round, stop: threading.Event) -> None:
        self._context = context
        self._round = claimed
        self._stop = stop
        self._folder = context.round_folder(claimed.round_id)
        self._lease = Lease(context.store, claimed, context.rounds.lease_s)
        self._furthest = max((point.step for point in context.store.read(rounds.metrics, claimed.round_id)), default=-1)

    def run(self) -> None:
        """The story of a round. Raises RoundTaken when it is no longer ours (or the supervisor stops)."""
        self._lease.start()
        try:
            self._give_up_after_too_many_attempts()
            if self._round.state in ("requested", "selecting"):
                self._select()
            else:
                self._find_folder()
            self._publish(self._train_and_gate())
        except RoundStopped as stopped:
            self._advance(stopped.state, reason=stopped.reason)
            logger.info("round ended round=%d state=%s", self._round.round_id, stopped.state)
        except (RoundTaken, StoreUnavailable):
            raise
        except (Conflict, FolderBusy) as conflict:
            raise RoundTaken(str(conflict)) from conflict
        except Exception as error:
            logger.exception("round failed round=%d", self._round.round_id)
            self._advance("failed", reason=in_words(error))
        finally:
            self._lease.close()
            self._leave()

    def _give_up_after_too_many_attempts(self) -> None:
        if self._round.attempts > _MOST_ATTEMPTS:
            raise RoundStopped(
                "failed", f"given up: its trainer died {self._round.attempts - 1} times without getting any further"
            )

    def _find_folder(self) -> None:
        """See that the folder is the one whose rows are frozen: its claim may have died between rename and freeze,
        and the one after it been stopped in between."""
        if not (self._folder / JOB_FILE).exists():
            raise RoundStopped("failed", "its trainer died, and its folder is not on this machine")
        frozen, found = self._round.selection.get("claim", 0), read_job(self._folder).fence
        if frozen != found:
            raise RoundStopped("failed", f"its folder is of claim {found}, its frozen rows are of claim {frozen}")

    def _select(self) -> None:
        """Choose the round's feedback, write its folder, freeze its ids."""
        context = self._context
        self._advance("selecting")
        settings = settings_of(context, self._round.settings)
        training, gate = settings.training, settings.gate
        suspected = self._quarantine()
        erasure = context.store.read(newest_erasure)
        window = data_window(self._round.settings, context.rounds)
        evidence = context.store.read(
            read_evidence,
            fresh_only=window.fresh_only,
            verdicts_as_thumbs=training.use_verdicts_as_thumbs,
            since=window.since,
            held_back=context.rounds.held_back_channels,
        )
        kept = usable_of(evidence, context.rounds, training.seed)
        method = self._method(kept, training)
        smoothing = label_smoothing(kept, training, settings.reward)
        chosen = select(
            kept,
            lambda names: context.store.read(trainable_replies, names),
            method=method,
            rounds=context.rounds,
            training=training,
            gate_prompts=gate.replies,
            other_prompts=context.store.read(other_prompts, context.rounds.held_back_channels),
        )
        if not chosen.train:
            raise RoundStopped("rejected", f"no {_TAUGHT_BY.get(method, 'pair')} with kept text to train on")
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
            training=training.model_copy(
                update={"threads": threads_for(training.threads), "label_smoothing": smoothing}
            ),
            lora=settings.lora,
            gate=gate,
            reward=settings.reward,
            online=settings.online,
            fence=self._round.fence,
            erasure=erasure,
            packs_dir=str((context.data_dir / FETCHED).resolve()),
            reward_alone_before=context.store.read(_reward_alone_before, self._round.round_id),
        )
        end_leftover(self._folder)
        remove_scratch(self._folder)
        scratch = scratch_folder(self._folder, self._round.fence)
        unjudged = context.store.read(unjudged_rows) if method in ("reward", "ppo", "grpo") else []
        write_job(scratch, job, chosen.train, chosen.held_out, chosen.prompts, chosen.rollouts, unjudged)
        reach("select")
        self._advance("selecting")  # the fence, once more: a late loser stops here
        take_its_name(scratch, self._folder)
        counts = chosen.counts | {"acts_of_quarantined_raters": evidence.quarantined, "claim": self._round.fence}
        counts |= {"quarantined_by_this_round": suspected}
        reference = evidence.live.version if training.start_from == "live" else BASE_VERSION
        try:
            self._write(transactions.freeze, self._round, chosen, reference, counts, recorded(job))
        except NotFound as gone:  # the next claim selects again, without them
            raise RoundTaken(f"somebody was erased while it selected: {gone}") from gone
        self._round = context.store.read(rounds.get_round, self._round.round_id)
        logger.info("round selected round=%d method=%s rows=%d", self._round.round_id, method, len(chosen.train))

    def _quarantine(self) -> int:
        """Take what looks false out of reach until an operator has decided; return how much."""
        context = self._context
        if not context.trust.quarantine:
            return 0
        begun = self._write(quarantine_found, context.store.read(trust_signals, context.trust))
        if begun:
            logger.warning("quarantine begun round=%d quarantines=%d", self._round.round_id, len(begun))
        return len(begun)

    def _method(self, kept: Usable, training: TrainingSettings) -> Any:
        """The wish's method, else the settings', else what readiness says; a forced round takes what it has most of."""
        context = self._context
        wanted = self._round.method or training.method
        judged: Readiness = judge_readiness(
            kept,
            context.rounds,
            wanted,
            auto_order=training.auto_order,
            reward=context.reward,
            seed=training.seed,
        )
        if judged.method is not None:
            return judged.method
        if not self._round.settings.get("force"):
            raise RoundStopped("rejected", judged.reason)
        if wanted != "auto":
            return wanted
        return "kto" if len(kept.votes) >= len(kept.pairs) else "dpo"

    def _train_and_gate(self) -> dict[str, Any]:
        """Run the child to its end; return its `sealed` hash, `metrics` and gate `report`.

        A child that was killed (for memory, say) is started once more, and again whenever it has got further. One that
        has read the words of somebody who was erased since is ended, and another one trains without them.
        """
        left: tuple[object, ...] | None = None
        watch = Watch(self._context.store, self._folder)
        while True:
            try:
                self._look_for_erased(watch)
                found, died = self._run_child(watch)
                self._look_for_erased(watch)
            except Erased:
                self._begin_anew(watch)
                continue
            if "failed" in found:
                raise RoundStopped("failed", str(found["failed"]))
            if "refused" in found or ("done" in found and read_job(self._folder).method == "reward"):
                self._end_with_reward_model(found)
            if {"adapter_sha256", "report", "metrics"} <= set(found):
                return found
            now_left = self._left_by_child()
            if not died.by_signal or now_left == left:
                raise RoundStopped("failed", died.reason)
            logger.warning("training process goes on again round=%d reason=%s", self._round.round_id, died.reason)
            left = now_left

    def _look_for_erased(self, watch: Watch) -> None:
        """Raise Erased as `Watch.look` does. A store that is away is waited out by the writes that follow."""
        with contextlib.suppress(StoreUnavailable):
            watch.look()

    def _begin_anew(self, watch: Watch) -> None:
        """Let go of who was erased. Raises RoundStopped where that happens over and over, or leaves nothing."""
        if watch.times_anew == _MOST_TIMES_ANEW:
            raise RoundStopped("cancelled", "people whose feedback it had selected were erased again and again")
        end_leftover(self._folder)
        watch.leave_out(lambda acts: self._write(transactions.leave_out, self._round, acts))
        if not (self._folder / TRAIN_FILE).stat().st_size:
            raise RoundStopped("cancelled", "all that it had selected was erased")

    def _left_by_child(self) -> tuple[object, ...]:
        """What a killed child left to go on from."""
        files = [(self._folder / name).exists() for name in (SEALED_FILE, GATE_FILE)]
        return (_latest_checkpoint(self._folder), *files)

    def _run_child(self, watch: Watch) -> tuple[dict[str, Any], Died]:
        end_leftover(self._folder)
        job = read_job(self._folder)
        (self._folder / CANCEL_FILE).unlink(missing_ok=True)
        self._context.on_training(True)
        child = TrainingProcess(self._folder, threads_for(job.training.threads), job.training)
        found: dict[str, Any] = {}
        heard = time.monotonic()
        try:
            while (events := child.events(_LOOK_EVERY_S)) is not None:
                if events:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._context.rounds.silent_s:
                    found["failed"] = f"the training process said nothing for {self._context.rounds.silent_s:g} s"
                    child.end()
                    break
                self._take(events, found)
                self._stay_in_charge(watch)
            status = child.wait()
        except BaseException:
            child.end()
            raise
        finally:
            self._context.on_training(False)
        several = job.training.launcher != "here"  # whoever of them was killed, the first process ends with a status
        return found, Died(child.why_it_died(status), by_signal=status < 0 or several)

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
            elif event["event"] == "reward_model":
                found["reward_model"] = event["sha256"]
                self._note_reward_model(event)
            elif event["event"] in ("failed", "refused"):
                found[event["event"]] = event["reason"]
            elif event["event"] == "done":
                found["done"] = True
        if points:
            self._write(rounds.add_metrics, points, fence=self._round.fence)
            if (furthest := max(point.step for point in points)) > self._furthest:
                self._furthest = furthest
                self._lease.progressed()

    def _end_with_reward_model(self, found: dict[str, Any]) -> None:
        """End a round that comes to no policy: its bar was its gate. Raises RoundStopped."""
        if self._round.state == "training":
            self._advance("gating")
        if "refused" in found:
            raise RoundStopped("rejected", str(found["refused"]))
        raise RoundStopped("published", f"reward model {found['reward_model'][:12]} is above its bar")

    def _note_reward_model(self, event: dict[str, Any]) -> None:
        """Keep in the round's row how its reward model stands to its bar, and what people should be asked."""
        report = {"sha256": event["sha256"], **event["report"]}
        self._round = self._write(transactions.note_reward_model, self._round, report)

    def _stay_in_charge(self, watch: Watch) -> None:
        """Keep the lease; raise RoundTaken when the round is cancelled or another's, or this supervisor stops."""
        if self._stop.is_set():
            raise RoundTaken("the supervisor stops")
        self._lease.check()
        try:
            present = self._context.store.read(rounds.get_round, self._round.round_id)
            watch.look()
        except StoreUnavailable as error:  # the lease outlives a short outage; a long one ends in a Conflict
            logger.warning("store unavailable round=%d reason=%s", self._round.round_id, error)
            return
        if present.fence != self._round.fence or present.state in ROUND_ENDED:
            raise RoundTaken(f"it is {present.state}: {present.reason}")

    def _publish(self, found: dict[str, Any]) -> None:
        """Add the version, and make it live, or the canary, when its gate passed and settings say so."""
        job, report, context = read_job(self._folder), found["report"], self._context
        passed = report["outcome"] == "pass"
        if not passed:
            reason = f"the gate was {_outcome_in_words(report)}: {report['summary']}"
            self._write(transactions.reject, self._round, job, found, reason)
            return
        added = self._write(transactions.add_version, self._round, job, found)
        reach("publish")
        if not context.rounds.auto_promote:
            raise RoundStopped("published", f"version {added} passed its gate and waits for an admin")
        try:
            context.prepare_version(added)
        except AdapterRefused as refusal:
            raise RoundStopped("published", f"version {added} passed its gate but is not served: {refusal}") from None
        if context.canary.share > 0:
            reason = self._write(transactions.try_as_canary, self._round, added, job.live_version, context.canary.share)
            reach("canary")
        else:
            reason = self._write(transactions.promote, self._round, added, job.live_version)
            reach("promote")
        context.on_pointer_moved()
        logger.info("round published round=%d version=%d reason=%s", self._round.round_id, added, reason)

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

    def _leave(self) -> None:
        """Tidy an ended round. Give the lease of an open one up when this trainer is told to stop; otherwise it runs
        out, and the next claim counts: a round that throws its trainers out must not be taken up without end."""
        try:
            if not tidy(self._context, self._round.round_id) and self._stop.is_set():
                self._context.store.write(rounds.release_round, self._round.round_id, self._round.fence)
        except StoreError as error:  # another's by now, or the store is away: its lease runs out
            logger.debug("lease not given up round=%d reason=%s", self._round.round_id, error)


def _reward_alone_before(connection: Connection, round_id: int) -> bool:
    """Whether the last round that was gated raised its reward while held-out people did not agree."""
    for one in rounds.list_rounds(connection, _LOOK_BACK):
        if one.round_id < round_id and one.gate_report is not None:
            found = [check for check in one.gate_report.get("checks", ()) if check["name"] == REWARD_ALONE]
            return any(check["outcome"] == "fail" for check in found)
    return False


def _latest_checkpoint(folder: Path) -> str | None:
    """The name of the newest checkpoint's file (trainer/checkpoints.py, which needs torch)."""
    return max((path.name for path in (folder / CHECKPOINTS_DIR).rglob("step-*")), default=None)


def tidy(context: TrainerContext, round_id: int) -> bool:
    """Leave only what explains an ended round; False for one that goes on, which keeps its folder."""
    folder = context.round_folder(round_id)
    try:
        if context.store.read(rounds.get_round, round_id).state not in ROUND_ENDED:
            return False
    except NotFound:
        return True  # another store's
    remove_texts(folder)
    remove_scratch(folder)
    for name in COMPUTED_DIRS:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / RUN_LOCK).unlink(missing_ok=True)
    return True


def _outcome_in_words(report: dict[str, Any]) -> str:
    return {"fail": "not passed", "inconclusive": "inconclusive"}[report["outcome"]]
