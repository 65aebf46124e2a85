"""The Discord bot: chat, votes, reasons, choices, corrections, drawing again."""

import asyncio
import json

import httpx

from feedback_store.feedback import effective_feedback, recent_feedback
from feedback_store.raters import rater_id_of
from feedback_store.replies import recent_replies
from tests.discord.conftest import Play, World, acts, agreed, labels, sent_edits
from tests.web.parts import Site
from thumbwise.discord.showing import stage_of_message

RATING = ["👍", "👎", "🔄 Again", "✏️ Better answer"]


def test_a_direct_message_gets_a_reply_with_buttons_and_its_version_and_rater_are_known(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna, given=False)
        await anna.send_dm("echo: Hello **there**.")
        (reply,) = world.dm(anna)
        assert reply.content == "Hello **there**."
        assert labels(reply) == RATING
        (row,) = site.store.read(recent_replies, 10)
        assert (row.policy_version, row.channel) == (1, "discord")
        assert row.rater_id == rater_id_of(b"k" * 32, "discord", str(anna.id))
        assert (row.text, row.messages) == (None, None)

    play(story)


def test_a_thumb_is_shown_changed_and_taken_back_and_an_old_button_works_after_a_restart(
    play: Play, site: Site
) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna, given=False)
        await anna.send_dm("hello")
        for label, shown in (("👍", "✅ 👍"), ("👎", "✅ 👎"), ("✅ 👎", "👎")):
            result = await anna.user.click(world.dm(anna)[0], label=label)
            assert result.acknowledged and not result.followups
            await world.until(lambda: shown in labels(world.dm(anna)[0]), shown)  # noqa: B023  # waited for here
        assert labels(world.dm(anna)[0]) == RATING
        assert acts(site) == [("thumb", "up"), ("thumb", "down"), ("thumb", None)]
        assert site.store.read(effective_feedback) == []
        await world.restart()
        await anna.user.click(world.dm(anna)[0], label="👎")
        await world.until(lambda: "✅ 👎" in labels(world.dm(anna)[0]), "the tick")
        assert acts(site)[3:] == [("thumb", "down")]

    play(story)


def test_a_form_asks_why_and_the_reason_is_kept_with_consent_alone(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna, ben = world.person("anna"), world.person("ben")
        agreed(site, anna)
        agreed(site, ben, given=False)
        for person in (anna, ben):
            await person.send_dm("hello")
            await person.user.click(world.dm(person)[0], label="👎")
            await world.until(lambda: "💬 Why?" in labels(world.dm(person)[0]), "the question")  # noqa: B023
            form = await person.user.click(world.dm(person)[0], label="💬 Why?")
            assert form.modal is not None and form.modal["title"] == "Why?"
            sent = await person.user.submit_modal(form, {"reason": "too-long", "words": "by half"})
            assert [message.content for message in sent.followups] == ["Thank you!"]
            assert sent.followups[0].ephemeral
        reasons = [(one.act.thumb, one.act.reason) for one in site.store.read(effective_feedback)]
        assert reasons == [("down", "too-long: by half"), ("down", None)]

    play(story)


def test_a_form_that_was_open_while_the_bot_was_killed_is_taken_by_the_next_one(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna)
        await anna.send_dm("hello")
        form = await anna.user.click(world.dm(anna)[0], label="✏️ Better answer")
        (field,) = [part["component"] for part in form.modal["components"]]
        assert field["value"] == "This is reply 1 after 1 messages."
        await world.restart()
        sent = await anna.user.submit_modal(form, {"answer": " a better answer "})
        assert "noted" in sent.followups[0].content
        assert acts(site) == [("correction", "a better answer")]

    play(story)


def test_a_better_answer_needs_consent(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna, given=False)
        await anna.send_dm("hello")
        refused = await anna.user.click(world.dm(anna)[0], label="✏️ Better answer")
        assert refused.modal is None and refused.ephemeral and "/consent" in refused.response.content
        asked = await anna.user.slash("consent")
        await anna.user.click(asked.response, label="Yes, learn from my chats")
        form = await anna.user.click(world.dm(anna)[0], label="✏️ Better answer")
        agreed(site, anna, given=False)  # changed their mind elsewhere while the form was open
        sent = await anna.user.submit_modal(form, {"answer": "mine"})
        assert "/consent" in sent.followups[0].content
        assert acts(site) == []

    play(story)


def test_in_a_server_it_answers_who_names_it_counts_everybodys_votes_and_shows_each_their_own(
    play: Play, site: Site
) -> None:
    async def story(world: World) -> None:
        anna, ben = world.person("anna"), world.person("ben")
        agreed(site, anna, ben)
        await anna.send(world.channel, "a word among members")
        assert world.said() == []
        await anna.send(world.channel, f"<@{world.bot.user.id}> echo: for <@{ben.id}> in <#{world.channel.id}>")
        (reply,) = world.said()
        assert reply.content == "for @somebody in #channel" and labels(reply) == RATING
        assert reply.reference is not None and not reply.mentions
        first = await ben.click(reply, label="👍")
        await anna.click(world.said()[0], label="👍 1")
        await world.until(lambda: "👍 2" in labels(world.said()[0]), "the count")
        (own,) = first.followups
        assert own.ephemeral and labels(own) == ["✅ 👍", "👎", "💬 Why?"]
        await ben.click(own, label="✅ 👍")
        await world.until(lambda: "👍 1" in labels(world.said()[0]), "the count without ben")
        await anna.click(world.said()[0], label="👍 1")
        await world.until(lambda: labels(world.said()[0]) == RATING, "everybody to have taken it back")
        refused = await ben.click(world.said()[0], label="🔄 Again")
        assert refused.ephemeral and "somebody else" in refused.response.content
        told = str([row.messages for row in site.store.read(recent_replies, 10)])
        assert "a word among members" not in told and str(ben.id) not in told

    play(story)


def test_whoever_votes_in_a_server_is_asked_for_consent_once_and_alone(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna, ben = world.person("anna"), world.person("ben")
        await anna.send(world.channel, f"<@{world.bot.user.id}> hello")
        (reply,) = world.said()
        votes = [await ben.click(reply, label="👍"), await ben.click(reply, label="👎")]
        assert [["May I keep" in said.content for said in vote.followups] for vote in votes] == [[False, True], [False]]
        assert all(said.ephemeral for vote in votes for said in vote.followups)

    play(story)


def test_two_replies_are_chosen_from_on_one_card_and_the_chat_goes_on_from_the_chosen_one(
    play: Play, site: Site
) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna)
        await anna.send_dm("hello")
        (card,) = world.dm(anna)
        assert card.flags.components_v2 and card.content == ""
        assert labels(card) == ["A is better", "B is better", "Equally good", "Both bad"]
        await anna.user.click(card, label="B is better")
        await world.until(lambda: "✅ B is better" in labels(world.dm(anna)[0]), "the tick")
        await world.restart()  # the card holds all that is needed
        await anna.user.click(world.dm(anna)[0], label="Both bad")
        await world.until(lambda: "✅ Both bad" in labels(world.dm(anna)[0]), "the other tick")
        assert "This is reply" in json.dumps([part.to_dict() for part in world.dm(anna)[0].components])
        await anna.user.click(world.dm(anna)[0], label="✅ Both bad")
        await anna.send_dm("again")
        await anna.user.click(world.dm(anna)[1], label="B is better")
        await anna.send_dm("go on")
        verdicts = [verdict for _, verdict in acts(site)]
        assert verdicts[1:3] == ["both_bad", None] and str(verdicts[0]).endswith("-1")
        asked = next(row.messages for row in site.store.read(recent_replies, 1))
        chosen = next(row.text for row in site.store.read(recent_replies, 10) if row.reply_id == verdicts[3])
        assert asked is not None and asked[-2]["content"] == chosen

    play(story, compare_share=1.0)


def test_two_long_replies_are_messages_with_one_question_below_them(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna, given=False)
        await anna.send_dm("echo: " + "long " * 380)
        first, second, card = world.dm(anna)
        assert first.content.startswith("**A**\n") and second.content.startswith("**B**\n")
        assert not labels(first) and labels(card)[2:] == ["Equally good", "Both bad"]
        await anna.user.click(card, label="Equally good")
        assert acts(site) == [("verdict", "tie")]
        await world.until(lambda: "✅ Equally good" in labels(world.dm(anna)[2]), "the tick")

    play(story, compare_share=1.0)


def test_the_latest_reply_is_drawn_again_by_button_and_by_command_and_an_older_one_is_not(
    play: Play, site: Site
) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna)
        nothing = await anna.user.slash("regenerate")
        assert "no answer" in nothing.response.content
        await anna.send_dm("hello")
        first = world.dm(anna)[-1]
        again = await anna.user.click(first, label="🔄 Again")
        assert again.followups[0].content == "This is reply 2 after 1 messages."
        late = await anna.user.click(first, label="🔄 Again")
        assert late.followups[0].ephemeral and "latest answer" in late.followups[0].content
        command = await anna.user.slash("regenerate")
        assert command.response.content == "This is reply 3 after 1 messages."
        await anna.user.click(command.response, label="👍")
        assert acts(site) == [("thumb", "up")]
        await anna.send_dm("go on")
        assert world.dm(anna)[-1].content == "This is reply 4 after 3 messages."
        begun = await anna.user.slash("new")
        assert begun.ephemeral
        await anna.send_dm("hello")
        assert world.dm(anna)[-1].content == "This is reply 5 after 1 messages."

    play(story)


def test_consent_is_asked_once_off_by_default_given_revoked_and_in_the_persons_language(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        mei = world.person("mei", "zh-CN")
        await mei.send_dm("你好")
        card, reply = world.dm(mei)
        assert "同意" in card.content and "训练" in card.content
        assert labels(reply)[2] == "🔄 重答"
        assert site.store.read(recent_replies, 1)[0].text is None
        await mei.send_dm("again")
        assert len(world.dm(mei)) == 3
        await mei.user.click(card, label="同意，从我的聊天中学习")
        assert labels(world.dm(mei)[0]) == []
        await mei.send_dm("now")
        assert site.store.read(recent_replies, 1)[0].text is not None
        again = await mei.user.slash("consent")
        await mei.user.click(again.response, label="不同意")
        await mei.send_dm("later")
        assert site.store.read(recent_replies, 1)[0].text is None
        told = await mei.user.slash("privacy")
        assert "哈希" in told.response.content and "不会用于训练" in told.response.content

    play(story)


def test_a_person_gets_what_is_kept_of_them_and_may_have_it_erased(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna)
        await anna.send(world.channel, f"<@{world.bot.user.id}> echo: a word to be forgotten")
        await anna.click(world.said()[0], label="👍")
        exported = await anna.slash(world.channel, "export")
        (file,) = exported.response.attachments
        assert exported.response.ephemeral and file.filename == "thumbwise-export.json"
        asked = await anna.slash(world.channel, "forget")
        assert site.store.read(recent_feedback, 10)
        done = await anna.click(asked.response, label="Erase everything")
        assert done.acknowledged and "Erased: 1 answers and 1 ratings" in asked.response.content
        await world.until(lambda: site.store.read(recent_feedback, 10) == [], "the erasure")
        assert site.store.read(recent_replies, 1)[0].text is None
        query = {"rater": str(anna.id), "channel": "discord"}
        consent = httpx.get(f"{site.url}/v1/consent", params=query, trust_env=False)
        assert consent.json()["consent"] is None

    play(story)


def test_a_reply_grows_by_edits_within_its_budget_and_ends_whole_even_if_it_is_cut_off_while_shown(
    play: Play, site: Site
) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna, given=False)
        asked = await anna.send_dm("hello")
        parts = world.rating.parts
        stage = stage_of_message(parts, asked)
        for text in ("one", "one two", "one two three", "one two three four"):
            await stage.show(text)
        assert world.dm(anna)[-1].content == "one two three …" and len(sent_edits(world)) == 2
        await stage.reply("one two three four five", "0199a6b2c3d-5f1e")
        assert world.dm(anna)[-1].content == "one two three four five" and labels(world.dm(anna)[-1]) == RATING
        assert len(world.dm(anna)) == 2
        again = stage_of_message(parts, asked)
        growing = asyncio.create_task(again.show("cut"))
        await asyncio.sleep(0)
        growing.cancel()
        await again.reply("cut off", None)
        assert [said.content for said in world.dm(anna)[2:]] == ["cut off"]
        await again.show("x" * 3000)
        await again.show("y" * 3000)
        assert world.dm(anna)[-1].content.startswith("x" * 1900) and len(world.dm(anna)[-1].content) <= 2000

    play(story, most_edits=3)


def test_a_long_reply_is_parted_and_its_buttons_are_below_the_last_part(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna, given=False)
        await anna.send_dm("echo: " + "word👍 " * 330)
        parts = world.dm(anna)
        assert len(parts) > 1 and all(len(part.content.encode("utf-16-le")) // 2 <= 2000 for part in parts)
        assert [labels(part) for part in parts] == [[]] * (len(parts) - 1) + [RATING]

    play(story)


def test_a_reaction_is_a_thumb_and_taking_it_away_a_retract(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna)
        await anna.send(world.channel, f"<@{world.bot.user.id}> hello")
        (reply,) = world.said()
        for emoji, reacted in (
            ("👍🏽", True),
            ("🔥", True),
            ("👍🏽", False),
            ("🤔", True),
            ("🔥", False),
            ("💩", True),
        ):
            await anna.set_reaction(reply, emoji, reacted=reacted)
        await world.until(lambda: "👎 1" in labels(world.said()[0]), "the count")
        assert acts(site) == [("thumb", "up"), ("thumb", None), ("thumb", "down")]
        await world.restart()
        await anna.set_reaction(reply, "💩", reacted=False)
        await world.until(lambda: labels(world.said()[0]) == RATING, "no count")
        assert acts(site)[3:] == [("thumb", None)]

    play(story)
