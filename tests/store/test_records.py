"""Raters, replies, comparisons and conversations come back as they went in; what breaks a rule is refused by name."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feedback_store import raters, replies
from feedback_store.connection import Connection
from feedback_store.errors import Conflict, NotFound, Refused, StoreError
from feedback_store.records import Comparison
from feedback_store.store import Store
from tests.store.conftest import PROMPT, Scene, make_reply

NOON = datetime(2025, 1, 10, 12, 0, tzinfo=UTC)


def test_a_rater_id_depends_on_the_key_the_channel_and_the_user_and_on_nothing_else() -> None:
    one = raters.rater_id_of(b"k" * 32, "telegram", "4711")
    assert one == raters.rater_id_of(b"k" * 32, "telegram", "4711")
    assert len(one) == 32 and int(one, 16) >= 0
    others = {
        raters.rater_id_of(b"x" * 32, "telegram", "4711"),
        raters.rater_id_of(b"k" * 32, "discord", "4711"),
        raters.rater_id_of(b"k" * 32, "telegram", "4712"),
        raters.rater_id_of(b"k" * 32, "telegram4711", ""),
    }
    assert one not in others and len(others) == 4


def test_the_rater_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "rater.key"
    key = raters.load_or_create_key(path)
    assert len(key) == 32
    assert raters.load_or_create_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["rater.key"]


@pytest.mark.parametrize("content", ["", "abcd", "not hex at all", "ab" * 31])
def test_a_broken_rater_key_is_not_replaced_but_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rater.key"
    path.write_text(content)
    with pytest.raises(StoreError, match=r"rater.key does not hold 32 bytes in hex; restore"):
        raters.load_or_create_key(path)
    assert path.read_text() == content


def test_consent_is_unknown_then_given_then_taken_back(store: Store) -> None:
    assert store.read(raters.get_rater, "anna") is None
    store.write(raters.ensure_rater, "anna", "web")
    store.write(raters.ensure_rater, "anna", "telegram")
    anna = store.read(raters.get_rater, "anna")
    assert anna is not None
    assert (anna.channel, anna.consent, anna.consent_version, anna.quarantined) == ("web", None, None, False)
    store.write(raters.set_consent, "anna", "web", True, 2)
    store.write(raters.set_consent, "anna", "web", False, 3)
    anna = store.read(raters.get_rater, "anna")
    assert anna is not None and (anna.consent, anna.consent_version) == (False, 3)
    assert anna.created_at is not None and anna.created_at.tzinfo is UTC


def test_a_reply_comes_back_as_it_went_in(scene: Scene) -> None:
    scene.rater("anna")
    given = make_reply(
        rater_id="anna",
        conversation_id="talk-1",
        metadata={"drawn": 1, "note": "ü–😀"},
        created_at=NOON,
        text="zwölf ½ 😀\n\u202e",
        logprob_nats=-1 / 3,
    )
    scene.store.write(replies.add_reply, given)
    assert scene.store.read(replies.get_reply, "reply-1") == given


def test_a_reply_without_consent_keeps_its_numbers_and_no_words(scene: Scene) -> None:
    scene.reply("quiet", messages=None, rendered_prompt=None, text=None)
    quiet = scene.store.read(replies.get_reply, "quiet")
    assert (quiet.messages, quiet.rendered_prompt, quiet.text) == (None, None, None)
    assert (quiet.prompt_tokens, quiet.logprob_nats) == (7, -6.5)


def test_what_a_model_writes_is_stored_even_where_a_database_has_no_place_for_it(scene: Scene) -> None:
    scene.reply("odd", text="a\x00b\ud800c")
    assert scene.store.read(replies.get_reply, "odd").text == "a\ufffdb?c"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reply_id": "../etc/passwd"}, "reply_id"),
        ({"reply_id": "A"}, "reply_id"),
        ({"reply_id": "a" * 65}, "reply_id"),
        ({"reply_id": ""}, "reply_id"),
        ({"channel": "web; drop table"}, "channel"),
        ({"conversation_id": "<b>"}, "conversation_id"),
        ({"comparison_id": "a b"}, "comparison_id"),
        ({"policy_version": 99}, "policy_version"),
        ({"rater_id": "nobody"}, "rater_id"),
        ({"messages": ()}, "messages"),
        ({"messages": ({"role": "admin", "content": "x"},)}, "messages.0.role"),
        ({"messages": ({"role": "user", "content": "a\x00"},)}, "messages.0.content"),
        ({"messages": ({"role": "user", "content": "\udc00"},)}, "messages.0.content"),
    ],
)
def test_a_reply_that_breaks_a_rule_is_refused_by_field(
    one_scene: Scene, changes: dict[str, object], field: str
) -> None:
    scene = one_scene
    with pytest.raises(Refused) as refused:
        scene.store.write(replies.add_reply, make_reply(**changes))  # type: ignore[arg-type]
    assert refused.value.field == field
    assert field in str(refused.value) and "wanted" in str(refused.value)
    assert scene.store.read(replies.recent_replies, 10) == []


def test_a_reply_id_is_used_once(scene: Scene) -> None:
    scene.reply("one")
    with pytest.raises(Conflict, match="'one' is stored already"):
        scene.reply("one", text="another text")
    assert scene.store.read(replies.get_reply, "one").text == "the text of one"


def test_what_is_not_stored_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no reply 'x'"):
        store.read(replies.get_reply, "x")
    with pytest.raises(NotFound, match="no comparison 'x'"):
        store.read(replies.get_comparison, "x")


def test_a_comparison_keeps_the_order_in_which_its_replies_were_shown(scene: Scene) -> None:
    scene.comparison("pair", ("right-one", "left-one"))
    comparison = scene.store.read(replies.get_comparison, "pair")
    assert comparison.reply_ids == ("right-one", "left-one")
    assert scene.store.read(replies.comparisons_by_id, ["pair", "none"]) == {"pair": comparison}


@pytest.mark.parametrize(
    "reply_ids",
    [("a",), ("a", "a"), ("a", "missing"), ("b", "a"), ("a", "stranger")],
    ids=["one alone", "one twice", "one not stored", "another order", "one of no comparison"],
)
def test_a_comparison_that_does_not_match_its_replies_is_refused(one_scene: Scene, reply_ids: tuple[str, ...]) -> None:
    scene = one_scene
    scene.reply("a", comparison_id="pair", shown_position=0)
    scene.reply("b", comparison_id="pair", shown_position=1)
    scene.reply("stranger")
    with pytest.raises(Refused) as refused:
        scene.store.write(replies.add_comparison, Comparison("pair", reply_ids, None, None, "web"))
    assert refused.value.field == "reply_ids"


def test_a_history_lists_a_raters_own_conversations_the_last_used_first(scene: Scene) -> None:
    scene.rater("anna", "ben")
    for minute, (name, talk, who) in enumerate(
        [("a1", "talk-a", "anna"), ("b1", "talk-b", "anna"), ("a2", "talk-a", "anna"), ("c1", "talk-a", "ben")]
    ):
        messages = ({"role": "system", "content": "s"}, {"role": "user", "content": f"first of {name}"})
        at = NOON + timedelta(minutes=minute)
        scene.reply(name, rater_id=who, conversation_id=talk, created_at=at, messages=messages)
    listed = scene.store.read(replies.conversations_of, "anna", 10)
    assert [(one.conversation_id, one.replies, one.first_message) for one in listed] == [
        ("talk-a", 2, "first of a1"),
        ("talk-b", 1, "first of b1"),
    ]
    assert listed[0].started_at == NOON and listed[0].last_reply_at == NOON + timedelta(minutes=2)
    assert len(scene.store.read(replies.conversations_of, "anna", 1)) == 1
    whole = scene.store.read(replies.conversation_replies, "talk-a")
    assert [reply.reply_id for reply in whole] == ["a1", "a2", "c1"]
    own = scene.store.read(replies.conversation_replies, "talk-a", "anna")
    assert [reply.reply_id for reply in own] == ["a1", "a2"]


def test_recent_replies_can_be_read_page_by_page(scene: Scene) -> None:
    for minute in range(5):
        scene.reply(f"r{minute}", created_at=NOON + timedelta(minutes=minute // 2))
    first = scene.store.read(replies.recent_replies, 2)
    then = scene.store.read(replies.recent_replies, 2, first[-1].reply_id)
    last = scene.store.read(replies.recent_replies, 2, then[-1].reply_id)
    assert [reply.reply_id for reply in (*first, *then, *last)] == ["r4", "r3", "r2", "r1", "r0"]
    older = scene.store.read(replies.recent_replies, 9, NOON + timedelta(minutes=1))
    assert [reply.reply_id for reply in older] == ["r1", "r0"]


def test_replies_of_a_rater_who_took_consent_back_are_no_longer_trained_on(scene: Scene) -> None:
    scene.rater("anna", "ben")
    scene.reply("a", rater_id="anna")
    scene.reply("b", rater_id="ben")
    scene.reply("silent", text=None, messages=None)
    names = ["a", "b", "silent", "none"]
    assert sorted(scene.store.read(replies.trainable_replies, names)) == ["a", "b"]
    scene.store.write(raters.set_consent, "anna", "web", False, 1)
    assert sorted(scene.store.read(replies.trainable_replies, names)) == ["b"]
    assert sorted(scene.store.read(replies.replies_by_id, names)) == ["a", "b", "silent"]


def test_a_reply_without_text_or_consent_or_end_is_nothing_to_learn_from(scene: Scene) -> None:
    def learnable(connection: Connection) -> list[tuple[str, str, str]]:
        found = replies.each_learnable(connection, ["a", "b", "silent", "cut", "stopped", "none"])
        return sorted((one.reply_id, one.channel, one.messages[-1]["role"]) for one in found)

    scene.rater("anna", "ben")
    scene.reply("a", rater_id="anna")
    scene.reply("b", rater_id="ben")
    scene.reply("silent", text=None, messages=None)
    scene.reply("cut", finish_reason="length")
    scene.reply("stopped", finish_reason="cancelled")
    scene.store.write(raters.set_consent, "anna", "web", False, 1)
    assert scene.store.read(learnable) == [("b", "web", "user"), ("cut", "web", "user")]


def test_many_replies_are_found_at_once(scene: Scene) -> None:
    names = [f"r{number}" for number in range(1_203)]

    def add_all(connection: object) -> None:
        for name in names:
            replies.add_reply(connection, make_reply(name))  # type: ignore[arg-type]

    scene.store.write(add_all)
    found = scene.store.read(replies.replies_by_id, names)
    assert list(found) == names or sorted(found) == sorted(names)
    assert found["r7"].messages == PROMPT
