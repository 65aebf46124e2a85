"""Texts of a platform that forbids training on them: no round learns from them, whoever judged them."""

from pathlib import Path

from feedback_store import feedback, raters, replies
from feedback_store.connection import Connection
from feedback_store.records import NewFeedback
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from tests.databases import url_of
from tests.trainer.parts import make_reply
from trainer.evidence import other_prompts, read_evidence
from trainer.readiness import readiness
from trainer.settings import RoundSettings, TrainingSettings


def two_channels(connection: Connection) -> None:
    """One liked reply on the web and one on Discord, each rated by somebody of the web."""
    bootstrap(connection, "tiny")
    for channel in ("web", "discord"):
        replies.add_reply(connection, make_reply(f"on-{channel}", "yes", f"asked on {channel}", channel=channel))
        raters.ensure_rater(connection, f"rater-{channel}", "web")
        act = NewFeedback("thumb", f"rater-{channel}", "web", reply_id=f"on-{channel}", thumb="up")
        feedback.add_feedback(connection, act)


def test_text_of_discord_is_left_out_until_its_permission_is_on_record(tmp_path: Path) -> None:
    with Store.open(url_of(tmp_path)) as store:
        store.write(two_channels)
        for permission, kept in (("", ["on-web"]), ("  ", ["on-web"]), ("ticket 1", ["on-discord", "on-web"])):
            settings = RoundSettings(discord_permission=permission)
            held_back = settings.held_back_channels
            evidence = store.read(read_evidence, fresh_only=True, held_back=held_back)
            assert sorted(evidence.prompts) == kept
            assert evidence.acts == 2, "the votes are there all the same"
            prompts = store.read(other_prompts, held_back)
            assert sorted(reply.reply_id for reply in prompts) == kept
            report = store.read(readiness, settings, TrainingSettings()).as_dict()
            assert f"'prompts': {len(kept)}," in str(report), report
