"""Operators are told what happens in the language that their own app is in."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from bot.notices import Notice
from bot.operators import REASONS, OperatorLanguages, reason_in
from bot.settings import TelegramSettings
from feedback_store import bot_file
from feedback_store.store import Store
from feedback_store.versions import add_candidate, promote
from tests.telegram.conftest import ADMIN, StartBot
from tests.telegram.wire import BOT_ID, Person, Wire
from tests.web.parts import Site
from thumbwise.client import Deployment, Round
from thumbwise.rating.texts import languages, texts_for

OTHER = 901
CHINESE = texts_for("zh-hans")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Store]:
    with bot_file.open_bot_file(tmp_path / "bot.db") as file:
        yield file


def has_looked(data: Path) -> bool:
    """Say whether the bot knows what happened before it was there, which it tells nobody."""
    path = data / "bots" / f"telegram-{BOT_ID}.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return bool(connection.execute("SELECT 1 FROM notes WHERE note = 'told deployment'").fetchone())


def test_each_operator_is_told_in_their_own_language(
    start_bot: StartBot, site: Site, wire: Wire, tmp_path: Path
) -> None:
    site.store.write(
        add_candidate,
        base_model="scripted", adapter_sha256="a" * 64, parent=1, method="kto", round_id=None,
        gate_report={"outcome": "pass"}, metrics={},
    )  # fmt: skip
    start_bot(operator_chats=(ADMIN, OTHER), notice_every_s=1)
    mei, ann = Person(wire, ADMIN, "zh-hans"), Person(wire, OTHER, "en")
    mei.says("/versions")
    ann.says("/privacy")
    assert "2 · 候选 · kto · 关卡：通过" in mei.hears()[0]["text"]
    ann.hears()
    wire.wait(lambda: has_looked(tmp_path / "bot"), "the first look")
    site.store.write(promote, 2, actor="admin", reason="round 7 passed its gate")
    assert mei.hears(2)[-1]["text"] == "🚀 版本 2 已上线。\n第 7 轮通过了评审关卡"
    assert ann.hears(2)[-1]["text"] == "🚀 Version 2 is live.\nround 7 passed its gate"


def test_a_language_is_known_after_a_restart_forgotten_on_wish_and_overruled_by_the_setting(file: Store) -> None:
    async def story() -> None:
        def mark(chat: int) -> str:
            return f"mark-of-{chat}"

        noting = OperatorLanguages(file, mark)
        assert (await noting.texts(ADMIN)).language == "en"
        await noting.saw(ADMIN, "zh-hans")
        await noting.saw(ADMIN, None)
        assert (await OperatorLanguages(file, mark).texts(ADMIN)).language == "zh_Hans"
        assert (await noting.texts(OTHER)).language == "en"
        assert (await OperatorLanguages(file, mark, "en").texts(ADMIN)).language == "en"
        await file.write_async(bot_file.forget_person, mark(ADMIN))
        assert (await noting.texts(ADMIN)).language == "en"

    asyncio.run(story())


@pytest.mark.parametrize("state", ["published", "rejected", "failed", "cancelled"])
def test_what_became_of_a_round_is_told_without_an_english_word(state: str) -> None:
    found = Round(3, state, "kto", candidate_version=4, reason="version 4 passed its gate and is live")
    told = Notice("round", 3, found).say(CHINESE)
    assert not [letter for letter in told if letter.isascii() and letter.isalpha()], told
    assert "4" in told and "3" in told


@pytest.mark.parametrize("action", ["promote", "rollback", "canary", "canary_stop"])
def test_a_move_of_a_version_is_told_without_an_english_word(action: str) -> None:
    said = Notice("deployment", 1, Deployment(1, action, 4, reason="round 3 passed its gate")).say(CHINESE)
    assert not [letter for letter in said if letter.isascii() and letter.isalpha()], said


def test_every_known_reason_reads_in_every_language_and_others_stay_as_they_are() -> None:
    filled = {"number": "7", "version": "12", "share": "20%"}
    for known in REASONS:
        reason = known.format(**filled)
        assert reason_in(texts_for("en"), reason) == reason
        for language in languages()[1:]:
            said = reason_in(texts_for(language), reason)
            assert said != reason and "{" not in said
            assert all(value in said for name, value in filled.items() if f"{{{name}}}" in known)
    assert reason_in(CHINESE, "by telegram 900: too long") == "by telegram 900: too long"


def test_a_language_that_the_bots_do_not_speak_is_refused_in_the_settings() -> None:
    assert TelegramSettings(notice_language="zh-CN").notice_language == "zh-CN"
    assert TelegramSettings(notice_language="en-GB").notice_language == "en-GB"
    with pytest.raises(ValidationError, match="notice_language is 'tlh', wanted one that the bots speak: en, zh_Hans"):
        TelegramSettings(notice_language="tlh")
