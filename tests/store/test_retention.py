"""What is too old loses its words; votes, young texts and what serves are left alone."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from feedback_store import audit, inbox, replies, retention, versions
from feedback_store.access.keys import add_key, list_keys, revoke_key
from feedback_store.access.sessions import begin_session
from feedback_store.access.users import add_user
from feedback_store.erasures import not_overwritten
from feedback_store.lineage import versions_of_feedback
from feedback_store.retention import RetentionReport, plan_retention, run_retention
from feedback_store.review_schema import reply_reviews
from feedback_store.schema import conversations, feedback, now, round_selection, rounds
from feedback_store.schema import replies as reply_rows
from feedback_store.settings import RetentionSettings
from feedback_store.store import Store
from tests.store.conftest import Scene

UNRATED = RetentionSettings(unrated_text_days=30)
RATED = RetentionSettings(rated_text_days=30)
WORDS = {"messages": ({"role": "user", "content": "my secret garden"},), "text": "the secret answer"}


def run(store: Store, settings: RetentionSettings, after_days: int = 0) -> RetentionReport:
    at = now() + timedelta(days=after_days)
    planned = store.read(plan_retention, settings, at)
    done = run_retention(store, settings, at, "test")
    assert planned == done, "what was said beforehand is what is done"
    return done


def grow_old(store: Store, days: int) -> None:
    """Everything that is there by now was said so many days ago."""

    def set_back(connection: Any) -> None:
        for table in (reply_rows, feedback):
            connection.execute(update(table).values(created_at=now() - timedelta(days=days)))

    store.write(set_back)


def has_words(store: Store, *names: str) -> list[bool]:
    found = [store.read(replies.get_reply, name) for name in names]
    return [bool(one.text or one.messages or one.rendered_prompt) for one in found]


def test_old_replies_that_nobody_rated_lose_their_words_and_whose_they_were(scene: Scene) -> None:
    store = scene.store
    scene.rater("anna")
    scene.reply("old", "rated", "flagged", rater_id="anna", conversation_id="talk", **WORDS)
    scene.comparison("duel", ("left", "right"), rater_id="anna")
    scene.act("thumb", "anna", reply_id="rated", thumb="down")
    review = {"reply_id": "flagged", "revision": 1, "flagged": True, "excluded": False}
    store.write(lambda connection: connection.execute(insert(reply_reviews), review))
    grow_old(store, 40)
    scene.reply("young", rater_id="anna", conversation_id="talk-2", **WORDS)
    report = run(store, UNRATED)
    assert (report.unrated_texts, report.rated_texts, report.trained_versions) == (3, 0, ())
    assert has_words(store, "old", "rated", "flagged", "young", "left", "right") == [
        False, True, True, True, False, False,
    ]  # fmt: skip
    kept = store.read(replies.get_reply, "old")
    assert (kept.rater_id, kept.conversation_id, kept.completion_tokens) == (None, None, 5)
    assert store.read(replies.get_comparison, "duel").rater_id is None
    assert run(store, UNRATED).is_empty, "a second time there is nothing to do"


def test_a_conversation_of_which_nothing_is_left_is_gone(one_scene: Scene) -> None:
    one_scene.reply("old", conversation_id="talk", **WORDS)
    run(one_scene.store, UNRATED, after_days=31)
    query = select(conversations.c.conversation_id)
    assert one_scene.store.read(lambda connection: connection.execute(query).all()) == []


def test_a_vote_that_comes_while_old_texts_go_keeps_its_reply(
    one_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = one_scene
    scene.rater("anna")
    scene.reply("one", "two", **WORDS)
    grow_old(scene.store, 40)
    monkeypatch.setattr(retention, "BATCH", 1)
    empty = retention._empty_unrated

    def voted_on_meanwhile(connection: Any, query: Any, names: Any) -> list[str]:
        if names == ["two"] or names == ("two",):
            row = {"kind": "thumb", "rater_id": "anna", "channel": "web", "reply_id": "two", "thumb": "up"}
            connection.execute(insert(feedback), {**row, "created_at": now()})
        return empty(connection, query, names)

    monkeypatch.setattr(retention, "_empty_unrated", voted_on_meanwhile)
    assert run_retention(scene.store, UNRATED, now(), "test").unrated_texts == 1
    assert has_words(scene.store, "one", "two") == [False, True]


def test_rated_texts_go_with_the_words_about_them_and_votes_stay(scene: Scene) -> None:
    store = scene.store
    scene.rater("anna", "ben")
    scene.reply("rated", "alive", **WORDS)
    scene.act("thumb", "anna", reply_id="rated", thumb="down", reason="rude and secret")
    scene.act("correction", "anna", reply_id="rated", correction="a better secret")
    scene.act("thumb", "anna", reply_id="alive", thumb="up")
    while store.write(inbox.catch_up):
        pass
    grow_old(store, 40)
    scene.act("thumb", "ben", reply_id="alive", thumb="up")
    report = run(store, RATED)
    assert report.rated_texts == 1
    assert has_words(store, "rated", "alive") == [False, True]
    query = select(feedback.c.thumb, feedback.c.reason, feedback.c.correction).where(feedback.c.reply_id == "rated")
    said = store.read(lambda connection: connection.execute(query.order_by(feedback.c.feedback_id)).all())
    assert [tuple(row) for row in said] == [("down", None, None), (None, None, None)]
    assert store.read(not_overwritten) == [1], "the database's files are to be overwritten, as after an erasure"
    line = store.read(audit.entries)[0]
    assert (line.actor, line.action, line.details["rated_texts"]) == ("test", "retention.run", 1)


def test_what_a_version_in_service_learnt_from_stays_unless_its_owner_says_so(scene: Scene) -> None:
    store = scene.store
    scene.rater("anna")
    scene.reply("taught", "other", **WORDS)
    acts = [scene.act("thumb", "anna", reply_id=name, thumb="up").feedback_id for name in ("taught", "other")]
    made: dict[str, Any] = {
        "base_model": "tiny-base",
        "adapter_sha256": "ab" * 32,
        "parent": 1,
        "method": "kto",
    }

    def train(connection: Any) -> None:
        row = {"round_id": 1, "state": "published", "requested_by": "x", "requested_at": now(), "settings": {},
               "selection": {}}  # fmt: skip
        connection.execute(insert(rounds), row)
        splits = [{"round_id": 1, "feedback_id": one, "split": split}
                  for one, split in zip(acts, ("train", "held_out"), strict=True)]  # fmt: skip
        connection.execute(insert(round_selection), splits)
        versions.add_candidate(connection, round_id=1, gate_report=None, metrics={}, **made)
        versions.promote(connection, 2, actor="a", reason="")

    store.write(train)
    report = run(store, RATED, after_days=40)
    assert (report.rated_texts, report.kept_trained, report.trained_versions) == (1, 1, ())
    assert has_words(store, "taught", "other") == [True, False]
    report = run(store, RATED.model_copy(update={"keep_trained": False}), after_days=40)
    assert (report.rated_texts, report.trained_versions) == (1, (2,))
    assert store.read(versions_of_feedback, acts) == [2], "which version learnt from which vote is still known"


def test_sign_ins_ended_keys_and_old_lines_go_when_their_time_is_over(scene: Scene) -> None:
    store = scene.store
    store.write(begin_session, store.write(add_user, "anna", "admin").user_id, 1.0)
    ended = store.write(add_key, "old", ("read",), "test")[0].key_id
    store.write(add_key, "still good", ("read",), "test")
    store.write(revoke_key, ended)
    store.write(audit.record, audit.Act("test", "user.invite"))
    settings = RetentionSettings(ended_key_days=10, audit_days=10)
    assert run(store, settings).is_empty
    report = run(store, settings, after_days=11)
    assert (report.sign_ins, report.api_keys, report.audit_lines) == (1, 1, 1)
    assert [key.name for key in store.read(list_keys)] == ["still good"]
    assert [line.action for line in store.read(audit.entries)] == ["retention.run"]


def test_nothing_is_deleted_that_nobody_set_a_time_for(one_scene: Scene) -> None:
    one_scene.reply("old", **WORDS)
    assert run(one_scene.store, RetentionSettings(), after_days=10_000).is_empty
    assert has_words(one_scene.store, "old") == [True]
