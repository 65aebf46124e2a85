"""The inbox is kept up by a thread, without a page or a vote that waits for it."""

import threading
from collections.abc import Iterator

import pytest

from feedback_store import feedback, inbox, inbox_search, raters, replies
from feedback_store.connection import Connection
from feedback_store.inbox_keeper import InboxKeeper
from feedback_store.inbox_search import InboxFilter
from feedback_store.records import NewFeedback
from feedback_store.store import Store
from tests.databases import url_of
from tests.store.conftest import make_reply

PATIENCE_S = 30.0


@pytest.fixture
def keeper(store: Store) -> Iterator[InboxKeeper]:
    found = InboxKeeper(store)
    found.start()
    yield found
    found.close()


def rate(connection: Connection, count: int, rater: str = "anna") -> None:
    raters.ensure_rater(connection, rater, "web")
    for number in range(count):
        act = NewFeedback("thumb", rater, "web", reply_id=f"r-{number}", thumb="up")
        feedback.add_feedback(connection, act)


def fill(store: Store, count: int) -> None:
    for number in range(count):
        store.write(replies.add_reply, make_reply(f"r-{number}"))
    store.write(rate, count)


def test_what_came_is_in_the_inbox_when_a_refresh_says_so(store: Store, keeper: InboxKeeper) -> None:
    fill(store, 120)  # more than one write takes up
    assert keeper.refresh(PATIENCE_S)
    assert store.read(inbox.news_waits) == 0
    assert store.read(inbox_search.count, InboxFilter()).ups == 120
    store.write(rate, 3, "ben")
    assert keeper.refresh(PATIENCE_S)
    assert store.read(inbox_search.count, InboxFilter(rater="ben")).total == 3


def test_nobody_waits_longer_than_they_said(store: Store, keeper: InboxKeeper) -> None:
    assert keeper.refresh(PATIENCE_S)
    held, free = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        held.set()
        free.wait(PATIENCE_S)

    fill(store, 2)
    writing = threading.Thread(target=store.write, args=(hold,))
    writing.start()
    held.wait(PATIENCE_S)
    store_is_busy = keeper.refresh(0.01)
    free.set()
    writing.join()
    assert not store_is_busy or store.read(inbox.news_waits) == 0
    assert keeper.refresh(PATIENCE_S)
    assert store.read(inbox_search.count, InboxFilter()).total == 2


def test_it_ends_with_the_store(tmp_path) -> None:
    with Store.open(url_of(tmp_path)) as store:
        keeper = InboxKeeper(store)
        keeper.start()
        assert keeper.refresh(PATIENCE_S)
    keeper.refresh(0.0)  # wakes it: it finds the store closed
    keeper._thread.join(PATIENCE_S)
    assert not keeper._thread.is_alive()


def test_a_write_takes_many_lines_about_few_replies_but_not_lines_about_many(store: Store) -> None:
    fill(store, 6)
    for rater in ("ben", "cleo"):
        store.write(rate, 2, rater)
    assert store.read(inbox.news_waits) == 10
    taken = []
    while count := store.write(inbox.catch_up, most_replies=2):
        taken.append(count)
    assert taken == [2, 2, 2, 4]
    assert store.read(inbox.news_waits) == 0
