"""kill -9 while the live pointer moves: afterwards it names the old version or the new one, and the log agrees."""

from feedback_store import versions
from feedback_store.store import Store
from tests.store.killed import said_until_killed

KILLS = 3


def test_after_a_kill_in_a_swap_pointer_states_and_log_tell_of_one_version(one_url: str) -> None:
    with Store.open(one_url) as store:
        store.write(
            versions.add_candidate,
            base_model=store.read(versions.live_version).base_model,
            adapter_sha256="a" * 64,
            parent=1,
            method="kto",
            round_id=None,
            gate_report=None,
            metrics={},
        )
    moved = 0
    for kill in range(KILLS):
        acknowledged = swapped_until_killed(one_url, 5 + 7 * kill)
        with Store.open(one_url) as store:
            log = store.read(versions.deployments, 10_000)
            live = store.read(versions.live_version)
            states = {one.version: one.state for one in store.read(versions.list_versions)}
            revision = store.read(versions.pointer_revision)
        assert live.version == log[0].version and revision == len(log)
        assert states[live.version] == "live" and list(states.values()).count("live") == 1
        stored = {move.deployment_id: move.version for move in log}
        assert acknowledged and {number: stored.get(number) for number in acknowledged} == acknowledged
        # At most the one move that was under way was stored without an answer.
        assert max(stored) - max(acknowledged) <= 1
        moved += len(acknowledged)
    assert moved >= KILLS * 5


def swapped_until_killed(url: str, lines: int) -> dict[int, int]:
    """Let a process move the pointer, kill it after that many moves, and return all that it acknowledged."""
    said = said_until_killed("swap_storm.py", url, lines=lines)
    return {int(number): int(version) for number, version in said}
