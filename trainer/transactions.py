"""What a round writes to the store in one transaction each, under the fence of the claim that holds it."""

from typing import Any, Literal

from feedback_store import lineage, rounds, versions
from feedback_store.connection import Connection
from feedback_store.errors import Conflict
from feedback_store.records import Round
from trainer.asking import ask_people
from trainer.evidence import last_reward_report
from trainer.job import Job
from trainer.selection import Selection


def freeze(
    connection: Connection,
    held: Round,
    chosen: Selection,
    reference_version: int,
    counts: dict[str, int],
    settings: dict[str, Any],
) -> None:
    """Freeze the ids and begin training, in one transaction. reference_version: what the training holds to."""
    rounds.freeze_selection(connection, held.round_id, held.fence, list(chosen.frozen))
    rounds.advance(
        connection,
        held.round_id,
        held.fence,
        "training",
        method=chosen.method,
        reference_version=reference_version,
        selection=counts,
        settings=held.settings | settings,
    )


def leave_out(connection: Connection, held: Round, acts: set[int]) -> None:
    """Take acts that were erased, or are on what was erased, out of the round's frozen selection: it trains anew."""
    rounds.advance(connection, held.round_id, held.fence, held.state)
    lineage.unselect(connection, held.round_id, sorted(acts))


def note_reward_model(connection: Connection, held: Round, report: dict[str, Any]) -> Round:
    """Keep in the round's row how its reward model stands to its bar, and ask people for what it lacks, in one
    transaction. A resumed round says its report again, and asks nobody twice."""
    asked = held.selection.get("reward_model", {}).get("label_request")
    if asked is None and report["ask"]:
        asked = ask_people(
            connection,
            report["ask"],
            method=held.method or "reward",
            requested_by=f"round {held.round_id}",
            instead_of=(last_reward_report(connection) or {}).get("label_request"),
        )
    noted = report if asked is None else report | {"label_request": asked}
    selection = held.selection | {"reward_model": noted}
    return rounds.advance(connection, held.round_id, held.fence, held.state, selection=selection)


def add_version(connection: Connection, held: Round, job: Job, found: dict[str, Any]) -> int:
    """Add the candidate and name it in the round, in one transaction; return its number."""
    added = _added(connection, held, job, found, "candidate")
    rounds.advance(
        connection, held.round_id, held.fence, "gating", candidate_version=added, gate_report=found["report"]
    )
    return added


def reject(connection: Connection, held: Round, job: Job, found: dict[str, Any], reason: str) -> int:
    """Add the version that its gate did not pass and end the round, in one transaction; return its number."""
    added = _added(connection, held, job, found, "rejected")
    rounds.advance(
        connection,
        held.round_id,
        held.fence,
        "rejected",
        candidate_version=added,
        gate_report=found["report"],
        reason=reason,
    )
    return added


def _added(
    connection: Connection, held: Round, job: Job, found: dict[str, Any], state: Literal["candidate", "rejected"]
) -> int:
    return versions.add_candidate(
        connection,
        base_model=job.base_model,
        adapter_sha256=found["adapter_sha256"],
        parent=job.live_version,
        method=job.method,
        round_id=held.round_id,
        gate_report=found["report"],
        metrics=found["metrics"],
        state=state,
    ).version


def promote(connection: Connection, held: Round, version: int, reference: int) -> str:
    """Make the version live and end the round, in one transaction. It waits for an admin when another version went live
    meanwhile, so that the gate's comparison no longer holds, or when people object to it."""
    said = f"version {version} passed its gate"
    live = versions.live_version(connection).version
    if live == version:  # a resumed round
        return _publish(connection, held, f"version {version} is live")
    if live != reference:
        said += f" against version {reference}, but version {live} went live meanwhile"
        return _publish(connection, held, f"{said}; it waits for an admin")
    try:
        versions.promote(connection, version, actor="trainer", reason=f"round {held.round_id} passed its gate")
    except Conflict as refusal:
        return _publish(connection, held, f"{said}, but {refusal}; it waits for an admin")
    return _publish(connection, held, f"{said} and is live")


def try_as_canary(connection: Connection, held: Round, version: int, reference: int, share: float) -> str:
    """Let the version answer a share of the conversations beside the live one and end the round, in one transaction.

    It waits for an admin when another version went live meanwhile, or is the canary, or when people object to it.
    """
    said = f"version {version} passed its gate"
    try:
        versions.start_canary(
            connection,
            version,
            share,
            actor="trainer",
            reason=f"round {held.round_id} passed its gate",
            expected_live=reference,
        )
    except Conflict as refusal:
        return _publish(connection, held, f"{said}, but {refusal}; it waits for an admin")
    return _publish(connection, held, f"{said} and is tried on {share:.0%} of the conversations")


def _publish(connection: Connection, held: Round, reason: str) -> str:
    rounds.advance(connection, held.round_id, held.fence, "published", reason=reason)
    return reason
