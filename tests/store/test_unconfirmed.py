"""A person's write that is not confirmed in time: said so, harmless when repeated, and not kept for ever."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from feedback_store import feedback, raters
from feedback_store.errors import Unconfirmed
from feedback_store.settings import StoreSettings
from feedback_store.store import PATIENCE, Store
from tests.store.conftest import Scene
from tests.store.test_store import vote

BUSY_S = 0.2


@pytest.fixture
def hurried(one_url: str) -> Iterator[Store]:
    with Store.open(one_url, settings=StoreSettings(busy_timeout_s=BUSY_S)) as store:
        scene = Scene(store)
        scene.rater("anna")
        scene.reply("one")
        yield store


class Stuck:
    """Holds the writing thread as a database does that never answers."""

    def __init__(self, store: Store) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=store.write, args=(self._hold,))
        self._thread.start()
        assert self.begun.wait(10)

    def _hold(self, connection: Connection) -> None:
        self.begun.set()
        assert self.end.wait(10)

    def let_go(self) -> None:
        self.end.set()
        self._thread.join(10)


def test_a_vote_that_is_not_confirmed_in_time_is_dropped_and_counts_once_when_repeated(hurried: Store) -> None:
    stuck = Stuck(hurried)
    with pytest.raises(Unconfirmed, match=f"within {PATIENCE * BUSY_S:g} s"):
        asyncio.run(hurried.write_in_time(feedback.add_feedback, vote(1)))
    stuck.let_go()
    hurried.write(raters.ensure_rater, "ben", "web")  # behind it in the queue
    assert hurried.read(feedback.counts)["events"] == 0
    assert asyncio.run(hurried.write_in_time(feedback.add_feedback, vote(1))).duplicate is False
    assert asyncio.run(hurried.write_in_time(feedback.add_feedback, vote(1))).duplicate is True
    assert hurried.read(feedback.counts)["events"] == 1


def test_a_write_that_is_under_way_when_its_caller_gives_up_is_stored_and_its_repetition_a_duplicate(
    hurried: Store,
) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def slow(connection: Connection) -> object:
        begun.set()
        assert go_on.wait(10)
        return feedback.add_feedback(connection, vote(1))

    with pytest.raises(Unconfirmed):
        asyncio.run(hurried.write_in_time(slow))
    assert begun.is_set()
    go_on.set()
    assert hurried.write(feedback.add_feedback, vote(1)).duplicate is True


def test_a_write_in_time_is_like_any_other_where_the_database_answers(hurried: Store) -> None:
    async def storm() -> None:
        await asyncio.gather(*(hurried.write_in_time(feedback.add_feedback, vote(number)) for number in range(20)))

    asyncio.run(storm())
    assert hurried.read(feedback.counts)["events"] == 20
