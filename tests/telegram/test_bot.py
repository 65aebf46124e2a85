"""The Telegram bot over the wire: chat, votes, reasons, choices, corrections, drawing again."""

import json
from functools import partial

import httpx

from feedback_store.feedback import effective_feedback, recent_feedback
from feedback_store.raters import rater_id_of
from feedback_store.replies import recent_replies
from tests.telegram.conftest import StartBot, agree, decline
from tests.telegram.wire import Json, Person, Wire, labels
from tests.web.parts import Site


def acts(site: Site) -> list[tuple[str, object]]:
    found = site.store.read(recent_feedback, 100)
    return [(one.act.kind, one.act.thumb or one.act.verdict or one.act.correction) for one in reversed(found)]


def has(message: Json, label: str) -> bool:
    return label in labels(message)


def test_a_message_gets_a_reply_with_keys_and_its_version_and_rater_are_known(
    start_bot: StartBot, site: Site, anna: Person
) -> None:
    decline(site, anna)
    start_bot()
    anna.says("echo: Hello **there**.")
    (reply,) = anna.hears()
    assert reply["text"] == "Hello there."
    assert reply["entities"] == [{"type": "bold", "offset": 6, "length": 5}]
    assert labels(reply) == ["👍", "👎", "🔄 Again", "✏️ Better answer"]
    (row,) = site.store.read(recent_replies, 10)
    assert (row.policy_version, row.channel) == (1, "telegram")
    assert row.rater_id == rater_id_of(b"k" * 32, "telegram", str(anna.user_id))
    assert (row.text, row.messages) == (None, None)


def test_a_reply_grows_as_a_draft_in_a_private_chat(start_bot: StartBot, site: Site, wire: Wire, anna: Person) -> None:
    decline(site, anna)
    start_bot()
    site.engine.gate.clear()
    anna.says("echo: one two three")
    drafts = wire.wait(lambda: wire.calls_of("sendMessageDraft"), "a draft")
    assert drafts[0].values["text"] == "one" and drafts[0].values["draft_id"] > 0
    site.engine.gate.set()
    (reply,) = anna.hears()
    assert reply["text"] == "one two three"
    assert len({call.values["draft_id"] for call in wire.calls_of("sendMessageDraft")}) == 1


def test_a_thumb_is_shown_changed_and_taken_back(start_bot: StartBot, site: Site, wire: Wire, anna: Person) -> None:
    decline(site, anna)
    start_bot()
    anna.says("hello")
    (reply,) = anna.hears()
    assert "Thank you" in anna.is_answered(anna.presses(reply, "👍"))["text"]
    wire.wait(lambda: "✅ 👍" in labels(reply), "the tick")
    anna.is_answered(anna.presses(reply, "👎"))
    wire.wait(lambda: "✅ 👎" in labels(reply) and "👍" in labels(reply), "the other tick")
    assert "Taken back" in anna.is_answered(anna.presses(reply, "✅ 👎"))["text"]
    wire.wait(lambda: labels(reply)[:2] == ["👍", "👎"], "no tick")
    assert acts(site) == [("thumb", "up"), ("thumb", "down"), ("thumb", None)]
    assert site.store.read(effective_feedback) == []


def test_a_reason_is_kept_with_consent_and_left_out_without(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person, ben: Person
) -> None:
    agree(site, anna)
    decline(site, ben)
    start_bot()
    for person in (anna, ben):
        person.says("hello")
        (reply,) = person.hears()
        person.is_answered(person.presses(reply, "👎"))
        wire.wait(partial(has, reply, "Too long"), "the reasons")
        person.is_answered(person.presses(reply, "Too long"))
        wire.wait(lambda: not has(reply, "Too long"), "the reasons to go")  # noqa: B023  # waited for here
        assert "✅ 👎" in labels(reply)
    reasons = [(one.act.thumb, one.act.reason) for one in site.store.read(effective_feedback)]
    assert reasons == [("down", "too-long"), ("down", None)]


def test_the_same_update_twice_counts_once(start_bot: StartBot, site: Site, wire: Wire, anna: Person) -> None:
    decline(site, anna)
    start_bot()
    anna.says("hello")
    (reply,) = anna.hears()
    number = wire._next_update
    press = anna.presses(reply, "👍")
    anna.is_answered(press)
    query = {"id": press, "from": anna.as_user, "message": reply, "chat_instance": "1", "data": "tw1.x"}
    wire.redeliver(number, "callback_query", query)
    anna.is_answered(anna.presses(reply, "👎"))
    assert acts(site) == [("thumb", "up"), ("thumb", "down")]


def test_a_reaction_is_a_thumb_and_taking_it_away_a_retract(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    decline(site, anna)
    start_bot()
    anna.says("hello")
    (reply,) = anna.hears()
    anna.reacts(reply, "", "👍")
    wire.wait(lambda: "✅ 👍" in labels(reply), "the tick")
    anna.reacts(reply, "👍", "💩")
    wire.wait(lambda: "✅ 👎" in labels(reply), "the other tick")
    anna.reacts(reply, "💩", "🤔")
    wire.wait(lambda: labels(reply)[:2] == ["👍", "👎"], "no tick")
    anna.reacts(reply, "🤔", "")
    anna.reacts({"message_id": 999}, "", "👍")  # of a message that is not ours
    anna.says("and on")
    anna.hears(2)
    assert acts(site) == [("thumb", "up"), ("thumb", "down"), ("thumb", None)]


def test_two_replies_are_chosen_from_and_the_chat_goes_on_from_the_chosen_one(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    agree(site, anna)
    start_bot(compare_share=1.0)
    anna.says("hello")
    first, second, card = anna.hears(3)
    assert first["text"].startswith("A\n") and second["text"].startswith("B\n")
    assert labels(card) == ["A is better", "B is better", "Equally good", "Both bad"] and not labels(first)
    anna.is_answered(anna.presses(card, "B is better"))
    wire.wait(lambda: "✅ B is better" in labels(card), "the tick")
    anna.is_answered(anna.presses(card, "Both bad"))
    wire.wait(lambda: "✅ Both bad" in labels(card), "the other tick")
    anna.is_answered(anna.presses(card, "✅ Both bad"))
    anna.is_answered(anna.presses(card, "B is better"))
    verdicts = [verdict for _, verdict in acts(site)]
    assert verdicts[1:3] == ["both_bad", None] and verdicts[0] == verdicts[3]
    assert str(verdicts[3]).endswith("-1")
    anna.says("go on")
    anna.hears(6)
    latest = site.store.read(recent_replies, 1)[0]
    assert latest.messages is not None
    assert latest.messages[-2]["content"] == second["text"].removeprefix("B\n\n")


def test_two_short_replies_fit_one_card(start_bot: StartBot, site: Site, anna: Person) -> None:
    decline(site, anna)
    start_bot(compare_share=1.0, compare_style="card")
    anna.says("echo: same")
    (card,) = anna.hears()
    assert card["text"] == "A\nsame\n\nB\nsame\n\nWhich answer is better?"
    anna.is_answered(anna.presses(card, "Equally good"))
    assert acts(site) == [("verdict", "tie")]


def test_a_better_answer_is_given_by_replying_but_only_with_consent(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    decline(site, anna)
    start_bot()
    anna.says("hello")
    (reply,) = anna.hears()
    assert "/consent" in anna.is_answered(anna.presses(reply, "Better answer"))["text"]
    anna.says("/consent")
    card = anna.hears(2)[-1]
    anna.is_answered(anna.presses(card, "Yes"))
    anna.is_answered(anna.presses(reply, "Better answer"))
    question = anna.hears(3)[-1]
    anna.says("a better answer", to=question)
    assert "noted" in anna.hears(4)[-1]["text"]
    anna.says("/better an even better one", to=reply)
    assert "noted" in anna.hears(5)[-1]["text"]
    assert acts(site) == [("correction", "a better answer"), ("correction", "an even better one")]


def test_the_latest_reply_is_drawn_again_and_an_older_one_is_not(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    agree(site, anna)
    start_bot()
    anna.says("hello")
    (first,) = anna.hears()
    anna.is_answered(anna.presses(first, "Again"))
    second = anna.hears(2)[-1]
    assert second["text"] == "This is reply 2 after 1 messages."
    anna.is_answered(anna.presses(first, "Again"))
    assert "latest answer" in anna.hears(3)[-1]["text"]
    anna.says("go on")
    assert anna.hears(4)[-1]["text"] == "This is reply 3 after 3 messages."


def test_a_new_conversation_begins_anew(start_bot: StartBot, site: Site, anna: Person) -> None:
    decline(site, anna)
    start_bot()
    anna.says("hello")
    anna.says("and on")
    assert anna.hears(2)[-1]["text"] == "This is reply 2 after 3 messages."
    anna.says("/new")
    anna.says("hello")
    assert anna.hears(4)[-1]["text"] == "This is reply 3 after 1 messages."


def test_consent_is_asked_once_off_by_default_given_revoked_and_in_the_persons_language(
    start_bot: StartBot, site: Site, wire: Wire
) -> None:
    mei = Person(wire, 77, "zh-hans")
    start_bot()
    mei.says("hello")
    card, _ = mei.hears(2)
    assert "同意" in card["text"]
    assert site.store.read(recent_replies, 1)[0].text is None
    mei.says("again")
    mei.hears(3)
    mei.is_answered(mei.presses(card, "学习"))
    wire.wait(lambda: not labels(card), "the card to be answered")
    mei.says("now")
    mei.hears(4)
    assert site.store.read(recent_replies, 1)[0].text is not None
    mei.says("/consent")
    again = mei.hears(5)[-1]
    mei.is_answered(mei.presses(again, "不同意"))
    mei.says("later")
    mei.hears(6)
    assert site.store.read(recent_replies, 1)[0].text is None


def test_a_person_gets_what_is_kept_of_them_and_may_have_it_erased(
    start_bot: StartBot, site: Site, wire: Wire, anna: Person
) -> None:
    agree(site, anna)
    start_bot()
    anna.says("echo: a word to be forgotten")
    (reply,) = anna.hears()
    anna.is_answered(anna.presses(reply, "👍"))
    anna.says("/export")
    wire.wait(lambda: wire.documents, "the file")
    where, content = wire.documents[0]
    assert where == anna.user_id
    assert json.loads(content)["replies"][0]["text"] == "a word to be forgotten"
    anna.says("/forget")
    card = wire.wait(lambda: next((m for m in wire.sent_to(anna.user_id) if "Erase everything" in labels(m)), None))
    assert site.store.read(recent_feedback, 10)
    press = anna.presses(card, "Erase everything")
    anna.is_answered(press)
    wire.wait(lambda: "Erased: 1 answers and 1 ratings" in card["text"], "the erasure")
    assert site.store.read(recent_feedback, 10) == []
    assert site.store.read(recent_replies, 1)[0].text is None
    consent = httpx.get(
        f"{site.url}/v1/consent", params={"rater": str(anna.user_id), "channel": "telegram"}, trust_env=False
    )
    assert consent.json()["consent"] is None


def test_a_long_reply_is_parted_and_its_keys_hang_on_the_last_part(
    start_bot: StartBot, site: Site, anna: Person
) -> None:
    decline(site, anna)
    start_bot()
    anna.says("echo: " + "word👍 " * 600)  # the message itself fits, so it is told to be long by its echo
    anna.says("echo: " + "x" * 4090 + " yy")
    found = anna.hears(2)
    assert all(len(message["text"].encode("utf-16-le")) // 2 <= 4096 for message in found)
    assert "👍" in labels(found[-1])
