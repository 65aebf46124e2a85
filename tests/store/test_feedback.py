"""Feedback: which acts are taken, and what holds after many of them."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from feedback_store import feedback, quarantines, raters, writer
from feedback_store.connection import Connection
from feedback_store.errors import NotFound, Refused
from feedback_store.records import NewFeedback
from feedback_store.store import Store
from tests.store.conftest import Scene


@pytest.fixture
def rated(scene: Scene) -> Scene:
    return set_up(scene)


@pytest.fixture
def rated_once(one_scene: Scene) -> Scene:
    return set_up(one_scene)


def set_up(scene: Scene) -> Scene:
    """Two raters, a reply, and a comparison of three."""
    scene.rater("anna", "ben")
    scene.reply("one")
    scene.comparison("trio", ("x", "y", "z"))
    return scene


def held(store: Store, **filters: object) -> list[tuple[str, str, object]]:
    """What holds now, as (rater, kind, value)."""
    return [
        (act.rater_id, act.kind, act.thumb or act.verdict or act.ranking or act.correction)
        for act in (
            entry.act
            for entry in store.read(feedback.effective_feedback, include_unapproved=True, **filters)  # type: ignore[arg-type]
        )
    ]


def test_an_act_comes_back_as_it_went_in(rated: Scene) -> None:
    at = datetime(2026, 11, 21, 12, 0, 0, 250, tzinfo=UTC)
    act = NewFeedback(
        "thumb", "anna", "web", reply_id="one", thumb="down", reason="long 😀", idempotency_key="k", created_at=at
    )
    ack = rated.store.write(feedback.add_feedback, act)
    (stored,) = rated.store.read(feedback.history, reply_id="one")
    assert (stored.feedback_id, stored.act) == (ack.feedback_id, act)
    assert rated.store.read(feedback.get_feedback, [ack.feedback_id, 999]) == [stored]


def test_the_last_act_of_a_rater_on_a_target_holds(rated: Scene) -> None:
    for thumb in ("up", "down", "up", "down"):
        rated.act("thumb", "anna", reply_id="one", thumb=thumb)
    rated.act("thumb", "ben", reply_id="one", thumb="up")
    assert held(rated.store) == [("anna", "thumb", "down"), ("ben", "thumb", "up")]
    assert len(rated.store.read(feedback.history, reply_id="one")) == 5


def test_a_retracted_act_is_gone_and_can_be_given_again(rated: Scene) -> None:
    rated.act("thumb", "anna", reply_id="one", thumb="up")
    rated.act("verdict", "anna", comparison_id="trio", verdict="x")
    rated.act("thumb", "anna", reply_id="one", thumb=None)
    rated.act("verdict", "anna", comparison_id="trio", verdict=None)
    assert held(rated.store) == []
    rated.act("thumb", "anna", reply_id="one", thumb="down")
    assert held(rated.store) == [("anna", "thumb", "down")]


def test_kinds_do_not_supersede_one_another(rated: Scene) -> None:
    rated.act("thumb", "anna", reply_id="one", thumb="down")
    rated.act("correction", "anna", reply_id="one", correction="better")
    rated.act("verdict", "anna", comparison_id="trio", verdict="both_bad")
    rated.act("ranking", "anna", comparison_id="trio", ranking=("z", "x", "y"))
    assert held(rated.store) == [
        ("anna", "thumb", "down"),
        ("anna", "correction", "better"),
        ("anna", "verdict", "both_bad"),
        ("anna", "ranking", ("z", "x", "y")),
    ]


def test_the_order_of_storing_wins_over_the_clock(rated: Scene) -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    rated.act("thumb", "anna", reply_id="one", thumb="up", created_at=late)
    rated.act("thumb", "anna", reply_id="one", thumb="down", created_at=early)
    assert held(rated.store) == [("anna", "thumb", "down")]


def test_an_idempotency_key_counts_once_for_each_rater(rated: Scene) -> None:
    first = rated.act("thumb", "anna", reply_id="one", thumb="up", idempotency_key="k")
    again = rated.act("thumb", "anna", reply_id="one", thumb="down", idempotency_key="k")
    other = rated.act("thumb", "ben", reply_id="one", thumb="down", idempotency_key="k")
    assert not first.duplicate and not other.duplicate
    assert again == replace(first, duplicate=True)
    assert held(rated.store) == [("anna", "thumb", "up"), ("ben", "thumb", "down")]


def test_acts_without_a_key_are_each_stored(rated: Scene) -> None:
    ids = [rated.act("thumb", "anna", reply_id="one", thumb="up").feedback_id for _ in range(3)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        ("applause", {"reply_id": "one"}, "kind"),
        ("thumb", {}, "reply_id"),
        ("thumb", {"reply_id": "one", "comparison_id": "trio"}, "comparison_id"),
        ("thumb", {"reply_id": "one", "thumb": "sideways"}, "thumb"),
        ("thumb", {"reply_id": "one", "thumb": "up", "verdict": "tie"}, "verdict"),
        ("thumb", {"reply_id": "one", "thumb": "up", "correction": "c"}, "correction"),
        ("thumb", {"reply_id": "one", "thumb": "up", "reason": "a\x00"}, "reason"),
        ("thumb", {"reply_id": "one", "thumb": "up", "reason": "\ud83d"}, "reason"),
        ("thumb", {"reply_id": "one", "thumb": "up", "reason": "a" * 4001}, "reason"),
        ("thumb", {"reply_id": "one", "thumb": "up", "idempotency_key": ""}, "idempotency_key"),
        ("thumb", {"reply_id": "one", "thumb": "up", "idempotency_key": "k" * 256}, "idempotency_key"),
        ("thumb", {"reply_id": "one", "thumb": "up", "channel": "<web>"}, "channel"),
        ("correction", {"reply_id": "one"}, "correction"),
        ("correction", {"reply_id": "one", "correction": ""}, "correction"),
        ("verdict", {"comparison_id": "trio", "verdict": "one"}, "verdict"),
        ("verdict", {"comparison_id": "trio", "verdict": "TIE"}, "verdict"),
        ("verdict", {"reply_id": "one", "verdict": "tie"}, "comparison_id"),
        ("ranking", {"comparison_id": "trio"}, "ranking"),
        ("ranking", {"comparison_id": "trio", "ranking": ("x", "y")}, "ranking"),
        ("ranking", {"comparison_id": "trio", "ranking": ("x", "y", "y")}, "ranking"),
        ("ranking", {"comparison_id": "trio", "ranking": ("x", "y", "z", "x")}, "ranking"),
    ],
)
def test_an_act_that_breaks_a_rule_is_refused_by_field(
    rated_once: Scene, kind: str, fields: dict[str, object], field: str
) -> None:
    rated = rated_once
    with pytest.raises(Refused) as refused:
        rated.act(kind, "anna", **fields)
    assert refused.value.field == field
    assert "wanted" in str(refused.value)
    assert rated.store.read(feedback.counts)["events"] == 0


@pytest.mark.parametrize(
    ("rater", "fields", "message"),
    [
        ("anna", {"kind": "thumb", "reply_id": "none"}, "no reply 'none'"),
        ("anna", {"kind": "verdict", "comparison_id": "none"}, "no comparison 'none'"),
        ("nobody", {"kind": "thumb", "reply_id": "one"}, "no rater 'nobody'"),
    ],
)
def test_an_act_on_nothing_is_not_found(rated: Scene, rater: str, fields: dict[str, str], message: str) -> None:
    with pytest.raises(NotFound, match=message):
        rated.act(rater_id=rater, **fields)


def test_a_write_that_was_undone_is_not_remembered(rated: Scene) -> None:
    def rater_then_error(connection: object) -> None:
        raters.ensure_rater(connection, "ghost", "web")  # type: ignore[arg-type]
        raise LookupError("undone")

    with pytest.raises(LookupError, match="undone"):
        rated.store.write(rater_then_error)
    with pytest.raises(NotFound, match="no rater 'ghost'"):
        rated.act("thumb", "ghost", reply_id="one", thumb="up")


def test_the_newest_ids_alone_are_remembered_and_the_others_are_found_all_the_same(
    rated: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_REMEMBERED", 10)

    def names(connection: Connection) -> list[str]:
        return list(writer.remembered(connection, "replies"))

    for number in range(40):
        rated.reply(f"more-{number}")
    known = rated.store.write(names)
    assert 5 <= len(known) <= 11 and known[-1] == "more-39" and "more-20" not in known
    assert not rated.act("thumb", "anna", reply_id="more-0", thumb="up").duplicate


def test_feedback_can_be_read_since_an_id_and_of_one_version(rated: Scene) -> None:
    first = rated.act("thumb", "anna", reply_id="one", thumb="up")
    rated.act("thumb", "ben", reply_id="one", thumb="up")
    rated.act("verdict", "ben", comparison_id="trio", verdict="tie")
    assert held(rated.store, since_feedback_id=first.feedback_id) == [
        ("ben", "thumb", "up"),
        ("ben", "verdict", "tie"),
    ]
    assert len(held(rated.store, policy_version=1)) == 3
    assert held(rated.store, policy_version=2) == []


def test_a_quarantined_raters_feedback_is_left_out_unless_asked_for(rated: Scene) -> None:
    rated.act("thumb", "anna", reply_id="one", thumb="up")
    rated.act("thumb", "ben", reply_id="one", thumb="down")
    rated.store.write(quarantines.begin_by_hand, "ben", reason="?", begun_by="olga")
    assert held(rated.store) == [("anna", "thumb", "up")]
    assert len(held(rated.store, include_quarantined=True)) == 2
    with pytest.raises(NotFound, match="no rater 'nobody'"):
        rated.store.write(quarantines.begin_by_hand, "nobody", reason="?", begun_by="olga")


def test_counts_are_of_what_holds_now(rated: Scene) -> None:
    rated.act("thumb", "anna", reply_id="one", thumb="up")
    rated.act("thumb", "anna", reply_id="one", thumb="down")
    rated.act("thumb", "ben", reply_id="x", thumb="up")
    rated.act("thumb", "ben", reply_id="y", thumb="up")
    rated.act("thumb", "ben", reply_id="y", thumb=None)
    rated.act("verdict", "anna", comparison_id="trio", verdict="tie")
    rated.act("verdict", "ben", comparison_id="trio", verdict="y")
    rated.act("ranking", "ben", comparison_id="trio", ranking=("x", "y", "z"))
    rated.act("correction", "ben", reply_id="one", correction="c")
    assert rated.store.read(feedback.counts) == {
        "up": 1, "down": 1, "verdicts": 2, "ties": 1, "both_bad": 0, "rankings": 1, "corrections": 1,
        "replies": 4, "comparisons": 1, "raters": 2, "events": 9,
    }  # fmt: skip


def test_the_newest_acts_can_be_read_page_by_page(rated: Scene) -> None:
    ids = [rated.act("thumb", "anna", reply_id="one", thumb="up").feedback_id for _ in range(5)]
    first = rated.store.read(feedback.recent_feedback, 3)
    rest = rated.store.read(feedback.recent_feedback, 3, first[-1].feedback_id)
    assert [entry.feedback_id for entry in (*first, *rest)] == ids[::-1]


def test_a_history_is_of_one_target(rated: Scene) -> None:
    with pytest.raises(Refused, match="wanted: reply_id or comparison_id"):
        rated.store.read(feedback.history)
    rated.act("verdict", "anna", comparison_id="trio", verdict="tie")
    assert len(rated.store.read(feedback.history, comparison_id="trio")) == 1
