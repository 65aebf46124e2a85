"""Whose words are kept: the rule, the switch, and a rater's own history."""

import pytest

from feedback_store.records import Rater
from feedback_store.replies import get_reply
from feedback_store.settings import PrivacySettings
from serving.api.consent_rule import may_keep_text

YES, NO, OLD_YES = Rater("r", "web", True, 2), Rater("r", "web", False, 2), Rater("r", "web", True, 1)
UNASKED = Rater("r", "web")


@pytest.mark.parametrize(
    ("rater", "channel", "api_consent", "kept"),
    [
        (YES, "web", "host", True),
        (NO, "web", "host", False),
        (OLD_YES, "web", "host", False),
        (UNASKED, "web", "host", False),
        (None, "telegram", "host", False),
        (UNASKED, "demo", "host", False),
        (None, "api", "host", True),
        (UNASKED, "api", "host", True),
        (NO, "api", "host", False),
        (None, "api", "rater", False),
        (YES, "api", "rater", True),
        (NO, "api", "rater", False),
    ],
)
def test_text_is_kept_only_where_somebody_entitled_said_yes(rater, channel, api_consent, kept):
    privacy = PrivacySettings(consent_version=2, api_consent=api_consent)
    assert may_keep_text(privacy, rater, channel) is kept


def say(client, rater="anna", channel="web", given=True):
    return client.post("/v1/consent", json={"rater": rater, "channel": channel, "given": given})


def consent_of(client, rater="anna", channel="web"):
    return client.get("/v1/consent", params={"rater": rater, "channel": channel}).json()


def test_consent_is_asked_given_and_revoked(client):
    assert consent_of(client) == {"consent": None, "version": None, "current_version": 1, "held_back": False}
    assert say(client).json() == {"consent": True, "version": 1, "current_version": 1, "held_back": False}
    assert consent_of(client)["consent"] is True
    say(client, given=False)
    assert consent_of(client)["consent"] is False
    assert consent_of(client, channel="telegram")["consent"] is None


def test_whoever_asks_is_told_where_no_round_learns_from_texts_at_present(client, context):
    assert say(client, channel="discord").json()["held_back"] is True
    context.held_back_channels = ()
    assert consent_of(client, channel="discord") == {
        "consent": True, "version": 1, "current_version": 1, "held_back": False,
    }  # fmt: skip


def test_without_consent_a_reply_is_attributed_but_its_words_are_not_kept(client, chat, store):
    web = {"channel": "web", "conversation_id": "c-1", "mood": "curious"}
    first = store.read(get_reply, chat(user="anna", metadata=web)["id"])
    assert (first.messages, first.rendered_prompt, first.text) == (None, None, None)
    assert first.metadata == {} and first.policy_version == 1 and first.completion_tokens == 8
    say(client)
    second = store.read(get_reply, chat(user="anna", metadata=web)["id"])
    assert second.text and second.rendered_prompt and second.metadata == {"mood": "curious"}


def test_a_host_that_vouches_is_overruled_by_a_rater_who_declined(client, chat, store):
    say(client, channel="api", given=False)
    assert store.read(get_reply, chat(user="anna")["id"]).text is None
    assert store.read(get_reply, chat(user="ben")["id"]).text is not None


def test_a_rater_finds_their_conversations_and_what_they_thought_of_them(client, chat):
    say(client)
    web = {"channel": "web", "conversation_id": "c-1"}
    single = chat("first", user="anna", metadata=web)
    pair = chat("second", user="anna", n=2, metadata={**web, "compare": True})
    mine = {"rater": "anna", "channel": "web"}
    client.post("/v1/feedback", json={**mine, "reply_id": single["id"], "thumb": "up", "reason": "clear"})
    client.post("/v1/feedback", json={**mine, "comparison_id": pair["comparison_id"], "verdict": "tie"})
    client.post("/v1/feedback", json={**mine, "rater": "ben", "reply_id": single["id"], "thumb": "down"})

    (listed,) = client.get("/v1/conversations", params=mine).json()["data"]
    assert (listed["conversation_id"], listed["replies"], listed["first_message"]) == ("c-1", 3, "first")
    replies = client.get("/v1/conversations/c-1", params=mine).json()["replies"]
    assert [reply["shown_position"] for reply in replies] == [None, 0, 1]
    assert (replies[0]["thumb"], replies[0]["reason"]) == ("up", "clear")
    assert replies[0]["text"] == single["choices"][0]["message"]["content"]
    assert replies[1]["verdict"] == "tie" and replies[1]["messages"][-1]["content"] == "second"


def test_nobody_reads_the_conversation_of_another(client, chat):
    chat(user="anna", metadata={"channel": "web", "conversation_id": "c-1"})
    other = client.get("/v1/conversations/c-1", params={"rater": "ben", "channel": "web"})
    assert other.status_code == 404
    assert client.get("/v1/conversations", params={"rater": "ben", "channel": "web"}).json()["data"] == []


def test_a_name_that_can_be_guessed_opens_no_history_without_the_admin_token(client, admin, chat):
    chat(user="42", metadata={"channel": "telegram", "conversation_id": "c-1"})
    asked = {"rater": "42", "channel": "telegram"}
    assert client.get("/v1/conversations", params=asked).status_code == 401
    assert client.get("/v1/conversations/c-1", params=asked).status_code == 401
    assert admin.get("/v1/conversations/c-1", params=asked).status_code == 200
