"""The inbox: what it says of a reply, and what a search finds, alike on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from feedback_store import inbox, inbox_search, quarantines, review
from feedback_store.errors import NotFound, Refused
from feedback_store.inbox_news import TRIGGERS
from feedback_store.inbox_search import InboxCounts, InboxFilter, InboxItem
from feedback_store.records import Comparison
from feedback_store.replies import add_comparison
from feedback_store.review import Target
from feedback_store.store import Store
from tests.store.conftest import Scene

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def said(question: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": "before"}, {"role": "user", "content": question})


@pytest.fixture
def rated(scene: Scene) -> Scene:
    """Three raters; four replies an hour apart, of which "quiet" has no feedback; and a comparison of three."""
    scene.rater("anna", "ben", "cleo")
    for hour, (name, question) in enumerate(
        [("tea", "How do I make tea?"), ("refund", "Where is my refund?"), ("quiet", "Hello?"), ("boat", "我要退款")]
    ):
        at = NOON + timedelta(hours=hour)
        scene.reply(name, messages=said(question), created_at=at, channel="telegram" if name == "boat" else "web")
    scene.comparison("trio", ("x", "y", "z"), created_at=NOON - timedelta(days=1))
    scene.act("thumb", "anna", reply_id="tea", thumb="up")
    scene.act("thumb", "anna", reply_id="refund", thumb="down", reason="never arrived")
    scene.act("thumb", "ben", reply_id="refund", thumb="down")
    scene.act("thumb", "ben", reply_id="boat", thumb="up")
    scene.act("thumb", "cleo", reply_id="boat", thumb="down")
    scene.act("correction", "cleo", reply_id="boat", correction="Row it gently.")
    scene.act("verdict", "anna", comparison_id="trio", verdict="x")
    scene.act("verdict", "ben", comparison_id="trio", verdict="y")
    scene.act("ranking", "cleo", comparison_id="trio", ranking=("z", "x", "y"))
    catch_up(scene.store)
    return scene


def catch_up(store: Store) -> None:
    while store.write(inbox.catch_up):
        pass


def found(store: Store, **fields: Any) -> list[str]:
    return [item.reply_id for item in store.read(inbox_search.search, InboxFilter(**fields)).items]


def item(store: Store, reply_id: str) -> InboxItem:
    page = store.read(inbox_search.search, InboxFilter())
    return next(one for one in page.items if one.reply_id == reply_id)


def test_a_reply_with_feedback_stands_in_the_inbox_and_says_what_people_hold_of_it(rated: Scene) -> None:
    assert found(rated.store) == ["boat", "refund", "tea", "z", "y", "x"]
    boat = item(rated.store, "boat")
    assert (boat.ups, boat.downs, boat.corrections, boat.pending, boat.raters) == (1, 1, 1, 1, 2)
    assert boat.disputed and boat.question == "我要退款" and boat.text == "the text of boat"
    x = item(rated.store, "x")
    assert (x.verdicts, x.wins, x.losses, x.rankings, x.disputed) == (2, 1, 1, 1, True)
    assert not item(rated.store, "refund").disputed


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"verdict": "down"}, ["boat", "refund"]),
        ({"verdict": "up"}, ["boat", "tea"]),
        ({"verdict": "won"}, ["z", "y", "x"]),
        ({"verdict": "lost"}, ["z", "y", "x"]),
        ({"verdict": "tie"}, []),
        ({"kind": "verdict"}, ["z", "y", "x"]),
        ({"kind": "ranking"}, ["z", "y", "x"]),
        ({"kind": "correction"}, ["boat"]),
        ({"kind": "thumb"}, ["boat", "refund", "tea"]),
        ({"channel": "telegram"}, ["boat"]),
        ({"version": 2}, []),
        ({"version": 1, "verdict": "down", "words": "refund"}, ["refund"]),
        ({"rater": "anna"}, ["refund", "tea", "z", "y", "x"]),
        ({"rater": "anna", "verdict": "down"}, ["refund"]),
        ({"rater": "anna", "verdict": "won"}, ["x"]),
        ({"rater": "nobody"}, []),
        ({"since": NOON, "until": NOON + timedelta(hours=3)}, ["refund", "tea"]),
        ({"disputed": True}, ["boat", "z", "y", "x"]),
        ({"disputed": False}, ["refund", "tea"]),
        ({"pending": True}, ["boat"]),
        ({"flagged": True}, []),
        ({"words": "REFUND"}, ["refund"]),
        ({"words": "ref"}, ["refund"]),
        ({"words": '"ref"'}, []),
        ({"words": "arrived"}, ["refund"]),
        ({"words": "gently row"}, ["boat"]),
        ({"words": '"row it"'}, ["boat"]),
        ({"words": '"it row"'}, []),
        ({"words": "退款"}, ["boat"]),
        ({"words": "款退"}, []),
        ({"words": "text -boat -tea"}, ["refund", "z", "y", "x"]),
        ({"words": "-text"}, []),
        ({"words": "before"}, []),
        ({"words": '" OR * NEAR('}, []),
        ({"words": "…"}, ["boat", "refund", "tea", "z", "y", "x"]),
    ],
)
def test_a_filter_finds(rated: Scene, fields: dict[str, Any], ids: list[str]) -> None:
    assert found(rated.store, **fields) == ids
    assert rated.store.read(inbox_search.count, InboxFilter(**fields)).total == len(ids)
    assert rated.store.read(inbox_search.matching, InboxFilter(**fields), 100) == [(name, 0) for name in ids]


def test_counts_say_how_many_of_what_is_found_have_what(rated: Scene) -> None:
    counts = rated.store.read(inbox_search.count, InboxFilter(channel="web"))
    assert counts == InboxCounts(total=5, ups=1, downs=1, disputed=3, flagged=0, excluded=0, pending=0)
    assert rated.store.read(inbox_search.channels) == ["telegram", "web"]
    assert rated.store.read(inbox_search.versions_with_feedback) == [1]


def test_pages_follow_one_another_without_a_gap_while_votes_come_in(rated: Scene) -> None:
    first = rated.store.read(inbox_search.search, InboxFilter(), limit=2)
    assert [one.reply_id for one in first.items] == ["boat", "refund"]
    rated.act("thumb", "anna", reply_id="quiet", thumb="up")  # stands before the first page's end
    rated.act("thumb", "cleo", reply_id="tea", thumb="down")
    catch_up(rated.store)
    ids, after = [], first.next_after
    while after is not None:
        page = rated.store.read(inbox_search.search, InboxFilter(), after=after, limit=2)
        ids += [one.reply_id for one in page.items]
        after = page.next_after
    assert ids == ["tea", "z", "y", "x"]
    oldest = rated.store.read(inbox_search.search, InboxFilter(), limit=3, order="oldest")
    assert [one.reply_id for one in oldest.items] == ["x", "y", "z"] and oldest.next_after == "z"
    with pytest.raises(NotFound):
        rated.store.read(inbox_search.search, InboxFilter(), after="none")


def test_a_change_of_mind_a_quarantine_and_a_text_taken_out_reach_the_inbox(rated: Scene) -> None:
    store = rated.store
    rated.act("thumb", "anna", reply_id="tea", thumb="down")
    store.write(quarantines.begin_by_hand, "cleo", reason="?", begun_by="olga")
    store.write(lambda connection: connection.execute(text("UPDATE replies SET text = NULL WHERE reply_id = 'refund'")))
    catch_up(store)
    assert (item(store, "tea").ups, item(store, "tea").downs) == (0, 1)
    boat = item(store, "boat")
    assert (boat.downs, boat.corrections, boat.disputed, boat.raters) == (0, 0, False, 1)
    assert found(store, words='"text of refund"') == [] and found(store, words='"text of tea"') == ["tea"]
    store.write(quarantines.release_rater, "cleo", actor="olga")
    rated.act("thumb", "anna", reply_id="tea", thumb=None)
    catch_up(store)
    assert item(store, "boat").downs == 1 and item(store, "tea").downs == 0


def test_what_is_excluded_does_not_count_and_comes_back_when_it_is_restored(rated: Scene) -> None:
    store = rated.store
    number = rated.act("thumb", "cleo", reply_id="tea", thumb="down").feedback_id
    catch_up(store)
    assert item(store, "tea").disputed
    done = store.write(review.act, "exclude", [Target("tea", 0, feedback_id=number)], actor="olga")
    assert not item(store, "tea").disputed and item(store, "tea").downs == 0
    store.write(review.undo, done[0].batch_id, actor="olga")
    assert item(store, "tea").disputed


def test_news_is_taken_up_in_parts_and_the_inbox_may_be_computed_anew(rated: Scene) -> None:
    store = rated.store
    before = store.read(inbox_search.search, InboxFilter())
    store.write(inbox.rebuild)
    assert store.read(inbox.news_waits) == 6
    assert [store.write(inbox.catch_up, 4) for _ in range(3)] == [4, 2, 0]
    assert store.read(inbox_search.search, InboxFilter()) == before


def test_a_review_puts_a_reply_without_feedback_into_the_inbox_and_a_deleted_one_leaves_it(rated: Scene) -> None:
    store = rated.store
    store.write(review.act, "flag", [Target("quiet", 0)], actor="olga")
    assert found(store, flagged=True) == ["quiet"]
    store.write(lambda connection: connection.execute(text("DELETE FROM replies WHERE reply_id = 'quiet'")))
    assert found(store, flagged=True) == []
    catch_up(store)
    assert store.read(inbox_search.count, InboxFilter(flagged=True)).total == 0


def test_a_filter_that_cannot_be_meant_is_refused_by_field() -> None:
    for fields, field in [
        ({"kind": "applause"}, "kind"),
        ({"verdict": "sideways"}, "verdict"),
        ({"version": 0}, "version"),
        ({"version": 2**40}, "version"),
        ({"channel": "<b>"}, "channel"),
        ({"rater": "../x"}, "rater"),
        ({"words": "w" * 501}, "words"),
        ({"since": datetime(2026, 1, 1)}, "since"),  # noqa: DTZ001
    ]:
        with pytest.raises(Refused) as refused:
            InboxFilter(**fields)  # type: ignore[arg-type]
        assert refused.value.field == field


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.text(max_size=40))
def test_no_query_whatever_it_holds_is_an_error(one_scene: Scene, query: str) -> None:
    one_scene.store.read(inbox_search.count, InboxFilter(words=query))


def test_every_trigger_is_there_after_the_newest_migration(store: Store) -> None:
    table = "sqlite_master WHERE type = 'trigger'" if store.backend == "sqlite" else "pg_trigger WHERE NOT tgisinternal"
    name = "name" if store.backend == "sqlite" else "tgname"
    names = store.read(lambda connection: set(connection.execute(text(f"SELECT {name} FROM {table}")).scalars()))
    assert names == set(TRIGGERS)


def test_a_comparison_without_feedback_is_not_in_the_inbox(rated: Scene) -> None:
    rated.reply("p", "q")
    rated.reply("p2", comparison_id="duo", shown_position=0)
    rated.reply("q2", comparison_id="duo", shown_position=1)
    rated.store.write(add_comparison, Comparison("duo", ("p2", "q2"), None, None, "web"))
    catch_up(rated.store)
    assert not {"p", "q", "p2", "q2"} & set(found(rated.store))
