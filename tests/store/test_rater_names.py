"""A changed rater key: the ring in its file, and one person under two ids made one."""

import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from feedback_store import audit, feedback, inbox, rater_data, raters
from feedback_store.errors import StoreError
from feedback_store.key_ring import FormerKey, drop_former, load_or_create_ring, rotate
from feedback_store.rater_names import former_rater_ids, known_under, rename_rater
from feedback_store.records import NewFeedback
from feedback_store.review_schema import inbox_raters
from feedback_store.schema import metadata, now
from feedback_store.store import Store
from tests.store.conftest import Scene
from tests.store.every_table import fill_every_table


def test_a_new_key_goes_before_the_others_and_those_whose_time_is_over_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "some.key"
    first = load_or_create_ring(path).newest
    ring = rotate(path, None)
    assert ring.newest != first and ring.former == (FormerKey(first),)
    assert load_or_create_ring(path) == ring
    until = now() + timedelta(days=1)
    third = rotate(path, until)
    assert third.former == (FormerKey(ring.newest, until), FormerKey(first))
    rotate(path, now() - timedelta(seconds=1))
    assert load_or_create_ring(path).former == third.former, "of the last one nothing is known any more"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.hex() not in repr(third)
    assert len(drop_former(path).keys) == len(load_or_create_ring(path).keys) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["some.key"]


def test_a_ring_with_a_broken_line_is_refused_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "some.key"
    path.write_text("11" * 32 + "\n" + "22" * 31 + "\n")
    with pytest.raises(StoreError, match="does not hold 32 bytes in hex"):
        load_or_create_ring(path)
    assert path.read_text().startswith("11")


def mentions(store: Store, rater_id: str) -> list[str]:
    """The tables in which the id stands anywhere, the log of acts included."""

    def look(connection: Any) -> list[str]:
        return [
            name for name, table in metadata.tables.items()
            if any(rater_id in str(list(row)) for row in connection.execute(select(table)))
        ]  # fmt: skip

    return sorted(store.read(look))


def test_everything_of_a_rater_goes_over_to_the_new_id(scene: Scene) -> None:
    store = scene.store
    store.write(lambda connection: [connection.execute(table.delete()) for table in reversed(metadata.sorted_tables)])
    store.write(fill_every_table)
    store.write(audit.record, audit.Act("anna", "rater.quarantine", "rater rater-1"))
    before = mentions(store, "rater-1")
    assert {"raters", "replies", "feedback", "audit", "inbox_raters"} <= set(before)
    kept = store.read(rater_data.rater_data, "rater-1")
    assert store.write(rename_rater, "rater-1", "new-id")
    assert mentions(store, "rater-1") == []
    assert mentions(store, "new-id") == before
    moved = store.read(rater_data.rater_data, "new-id")
    assert (len(moved.replies), len(moved.feedback)) == (len(kept.replies), len(kept.feedback)) != (0, 0)
    assert moved.rater is not None and (moved.rater.consent, moved.rater.consent_version) == (True, 2)
    assert not store.write(rename_rater, "rater-1", "new-id"), "a second time there is nothing to do"


def test_one_person_met_under_both_ids_becomes_one_and_votes_once(scene: Scene) -> None:
    store = scene.store
    scene.reply("r1", "r2")
    scene.rater("old", "new")
    store.write(raters.set_consent, "old", "web", True, 1)
    scene.act("thumb", "old", reply_id="r1", thumb="up", idempotency_key="k")
    scene.act("thumb", "old", reply_id="r2", thumb="up")
    scene.act("thumb", "new", reply_id="r1", thumb="down", idempotency_key="k")
    while store.write(inbox.catch_up):
        pass
    store.write(rename_rater, "old", "new")
    acts = store.read(feedback.effective_feedback)
    assert [(act.act.reply_id, act.act.rater_id, act.act.thumb) for act in acts] == [
        ("r2", "new", "up"), ("r1", "new", "down"),
    ]  # fmt: skip
    rater = store.read(raters.get_rater, "new")
    assert rater is not None and rater.consent is True
    while store.write(inbox.catch_up):
        pass
    lines = store.read(lambda connection: connection.execute(select(inbox_raters.c.rater_id)).scalars().all())
    assert list(lines) == ["new", "new"]
    again = NewFeedback("thumb", "new", "web", reply_id="r1", thumb="down", idempotency_key="k")
    assert store.write(feedback.add_feedback, again).duplicate


def test_only_ids_that_the_store_has_are_taken_over(one_scene: Scene) -> None:
    ids = former_rater_ids((b"a" * 32, b"b" * 32), "web", "anna")
    assert ids == tuple(raters.rater_id_of(key, "web", "anna") for key in (b"a" * 32, b"b" * 32))
    one_scene.rater(ids[1])
    assert one_scene.store.read(known_under, ids) == [ids[1]]
