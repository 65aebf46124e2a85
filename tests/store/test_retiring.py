"""After an erasure: what had learnt from the person is kept from serving, and what is left is learnt again."""

import pytest

from feedback_store import erasures, retiring, rounds, versions
from feedback_store.errors import Conflict, NotFound
from feedback_store.store import Store


def add_version(store: Store, parent: int) -> int:
    number = len(store.read(versions.list_versions)) + 1
    return store.write(
        versions.add_candidate, base_model="tiny-base", adapter_sha256=f"{number:064x}", parent=parent, method="kto",
        round_id=None, gate_report=None, metrics={},
    ).version  # fmt: skip


@pytest.fixture
def grown(store: Store) -> Store:
    """Versions 2 to 4 served one after another, 5 is a canary."""
    for number in (2, 3, 4):
        assert add_version(store, number - 1) == number
        store.write(versions.promote, number, actor="olga", reason="it passed")
    add_version(store, 4)
    store.write(versions.start_canary, 5, 0.1, actor="olga", reason="to see")
    return store


def erase(store: Store, taught: list[int]) -> int:
    return store.write(erasures.note_erasure, taught)


def test_what_learnt_from_an_erased_person_gives_way_to_the_newest_that_did_not(grown: Store) -> None:
    number = erase(grown, [3, 4, 5])
    found = grown.write(retiring.retire_learnt, number, actor="olga", retrain=True)
    assert (found.retired, found.live_version, found.no_round) == ([3, 4, 5], 2, None)
    assert grown.read(versions.live_version).version == 2 and grown.read(versions.canary) is None
    asked = grown.read(rounds.get_round, found.round_id or 0)
    assert (asked.requested_by, asked.settings) == ("olga", {"data": {"fresh_only": False}})
    for version in (3, 4, 5):
        with pytest.raises(Conflict, match=f"version {version} was vetoed by olga: it had learnt from somebody"):
            grown.write(versions.promote, version, actor="olga", reason="once more")
    again = grown.write(retiring.retire_learnt, number, actor="otto", retrain=True)
    assert again.live_version == 2 and "is open" in str(again.no_round), "repeatable, and one round at a time"


@pytest.mark.parametrize(("taught", "live"), [([], 4), ([5], 4), ([3], 4), ([2, 3, 4, 5], 1), ([4], 3)])
def test_what_learnt_nothing_of_them_goes_on(grown: Store, taught: list[int], live: int) -> None:
    found = grown.write(retiring.retire_learnt, erase(grown, taught), actor="olga")
    assert (found.live_version, found.round_id) == (live, None)
    assert grown.read(versions.live_version).version == live
    with pytest.raises(NotFound, match="no erasure 77"):
        grown.write(retiring.retire_learnt, 77, actor="olga")
