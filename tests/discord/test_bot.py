"""The Discord bot: chat, votes, reasons, choices, corrections, drawing again."""

from feedback_store.feedback import effective_feedback, recent_feedback
from feedback_store.raters import rater_id_of
from feedback_store.replies import recent_replies
from tests.discord.conftest import Play, World, agreed, labels
from tests.web.parts import Site

RATING = ["👍", "👎", "🔄 Again", "✏️ Better answer"]


def acts(site: Site) -> list[tuple[str, object]]:
    found = site.store.read(recent_feedback, 100)
    return [(one.act.kind, one.act.thumb or one.act.verdict or one.act.correction) for one in reversed(found)]


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


def test_a_thumb_is_shown_changed_and_taken_back(play: Play, site: Site) -> None:
    async def story(world: World) -> None:
        anna = world.person("anna")
        agreed(site, anna, given=False)
        await anna.send_dm("hello")
        for label, shown in (("👍", "✅ 👍"), ("👎", "✅ 👎"), ("✅ 👎", "👎")):
            await anna.user.click(world.dm(anna)[0], label=label)
            await world.until(lambda: shown in labels(world.dm(anna)[0]), shown)  # noqa: B023  # waited for here
        assert labels(world.dm(anna)[0]) == RATING
        assert acts(site) == [("thumb", "up"), ("thumb", "down"), ("thumb", None)]
        assert site.store.read(effective_feedback) == []

    play(story)
