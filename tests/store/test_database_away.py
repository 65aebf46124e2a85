"""PostgreSQL goes away and comes back, through a proxy of faults. `make bench-faults` is the long form: 60 s."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from benchmarks._away_storm import Course, Fault, run_away
from benchmarks._fault_proxy import FaultProxy, fault_proxy
from feedback_store import raters
from feedback_store.errors import StoreUnavailable, Unconfirmed
from feedback_store.settings import StoreSettings
from feedback_store.store import LONGEST_ANSWER, PATIENCE, Store
from tests.store.conftest import new_postgres_database

pytestmark = pytest.mark.postgres

BUSY_S = 0.25


@pytest.fixture
def proxied(postgres_url: str) -> Iterator[tuple[FaultProxy, Store]]:
    """A store that reaches the database by way of the proxy alone."""
    with (
        fault_proxy(postgres_url) as (proxy, through),
        Store.open(through, settings=StoreSettings(busy_timeout_s=BUSY_S)) as store,
    ):
        yield proxy, store
        proxy.restore()


def test_a_database_that_refuses_connections_is_said_at_once_and_used_again_when_it_is_back(
    proxied: tuple[FaultProxy, Store],
) -> None:
    proxy, store = proxied
    store.write(raters.ensure_rater, "before", "web")
    proxy.refuse()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.write(raters.ensure_rater, "meanwhile", "web")
    with pytest.raises(StoreUnavailable):
        store.read(raters.get_rater, "before")
    proxy.restore()
    store.write(raters.ensure_rater, "after", "web")
    assert [store.read(raters.get_rater, name) is None for name in ("before", "meanwhile", "after")] == [
        False, True, False,
    ]  # fmt: skip


def test_a_database_that_falls_silent_holds_nobody_for_ever(proxied: tuple[FaultProxy, Store]) -> None:
    proxy, store = proxied
    store.write(raters.ensure_rater, "before", "web")
    proxy.silence()
    begun = time.monotonic()
    with pytest.raises(Unconfirmed, match="did not confirm within"):
        asyncio.run(store.write_in_time(raters.ensure_rater, "meanwhile", "web"))
    assert time.monotonic() - begun < PATIENCE * BUSY_S + 1
    # Whoever waits to the end is told as well: the connection is given up.
    with pytest.raises(StoreUnavailable):
        store.write(raters.ensure_rater, "meanwhile", "web")
    assert time.monotonic() - begun < LONGEST_ANSWER * BUSY_S + 6  # psycopg waits 2 s at least for a new connection
    proxy.restore()
    store.write(raters.ensure_rater, "after", "web")
    assert store.read(raters.get_rater, "after")


@pytest.mark.parametrize("cut_first", [True, False], ids=["its statement", "its commit"])
def test_a_write_whose_connection_is_cut_before_its_answer_is_said_to_be_unknown(
    proxied: tuple[FaultProxy, Store], cut_first: bool
) -> None:
    proxy, store = proxied
    name = "cut-early" if cut_first else "cut-late"

    def cut_off(connection: Connection) -> None:
        if cut_first:
            proxy.cut()
        raters.ensure_rater(connection, name, "web")
        if not cut_first:
            proxy.cut()

    with pytest.raises(Unconfirmed, match="whether it was stored is unknown"):
        store.write(cut_off)
    store.write(raters.ensure_rater, "after", "web")
    assert store.read(raters.get_rater, name) is None and store.read(raters.get_rater, "after")


def test_a_reading_whose_connection_is_cut_is_refused_and_the_next_one_works(
    proxied: tuple[FaultProxy, Store],
) -> None:
    proxy, store = proxied
    store.write(raters.ensure_rater, "anna", "web")

    def cut_off(connection: Connection) -> object:
        proxy.cut()
        return raters.get_rater(connection, "anna")

    with pytest.raises(StoreUnavailable):
        store.read(cut_off)
    assert store.read(raters.get_rater, "anna")


def test_a_slow_way_to_the_database_is_only_slow(proxied: tuple[FaultProxy, Store]) -> None:
    proxy, store = proxied
    proxy.delay_s = 0.02
    store.write(raters.ensure_rater, "slow", "web")
    assert store.read(raters.get_rater, "slow")


def test_a_store_can_be_closed_while_its_database_is_silent(postgres_url: str) -> None:
    with fault_proxy(postgres_url) as (proxy, through):
        store = Store.open(through, settings=StoreSettings(busy_timeout_s=BUSY_S))
        proxy.silence()
        closing = threading.Thread(target=store.close)
        closing.start()
        closing.join(LONGEST_ANSWER * BUSY_S + 6)
        assert not closing.is_alive()


@pytest.mark.parametrize("fault", ["refuse", "silence"])
def test_with_the_database_gone_votes_are_kept_or_refused_replies_go_on_and_all_is_well_again(
    fault: Fault, postgres_server: str, tmp_path: Path
) -> None:
    direct = new_postgres_database(postgres_server)
    course = Course(
        fault, calm_s=0.3, away_s=1.0, after_s=1.0, voters=2, chatters=2, pause_s=0.1, busy_timeout_s=BUSY_S
    )
    with fault_proxy(direct) as (proxy, through):
        found = run_away(tmp_path, proxy, through, direct, course)
    assert (found.votes.lost, found.votes.doubled, found.failures, found.failed_replies) == (0, 0, 0, 0)
    assert found.refused and found.without_receipt  # it was away, else this showed nothing
    assert found.votes.acknowledged > 0 and found.delivered > found.without_receipt
    assert max(found.longest_vote_s, found.longest_reply_s) < PATIENCE * BUSY_S + 5  # a busy machine
    assert found.ready_again and not found.green_while_away
    assert found.back_s < 10
