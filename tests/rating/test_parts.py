"""The smaller shared parts: texts made fit, conversations, logs, the book in memory and in a file."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.book import FileBook
from feedback_store import bot_file
from feedback_store.errors import Conflict
from feedback_store.store import Store
from thumbwise.rating.book import Marks, MemoryBook, ReplyBook, Shown
from thumbwise.rating.conversations import MOST_MESSAGES, Conversation, Conversations
from thumbwise.rating.plain_text import clean, split_text, utf16_length
from thumbwise.rating.private_logs import PrivateLogs, keep_logs_private

TOKEN = "123456789:AAcanary-canary-canary-canary-cana1"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Store]:
    with bot_file.open_bot_file(tmp_path / "bot.db") as file:
        yield file


@pytest.fixture(params=["memory", "file"])
def book(request: pytest.FixtureRequest, file: Store) -> ReplyBook:
    return MemoryBook() if request.param == "memory" else FileBook(file)


def test_an_undo_is_not_undone_by_a_repeat_of_its_event(book: ReplyBook) -> None:
    async def story() -> None:
        assert await book.choose("r-1", "anna", "up", "1", toggle=True) == "up"
        assert await book.choose("r-1", "anna", "up", "2", toggle=True) is None
        assert await book.choose("r-1", "anna", "up", "2", toggle=True) is None
        assert await book.choose("r-1", "anna", "up", "3", toggle=True) == "up"
        assert await book.choose("r-1", "ben", "down", "4", toggle=True) == "down"
        assert dict((await book.tally("r-1")).counts) == {"up": 1, "down": 1}

    asyncio.run(story())


def test_a_book_forgets_a_person_and_nobody_else(book: ReplyBook) -> None:
    async def story() -> None:
        for person in ("anna", "ben"):
            await book.show(f"message of {person}", Shown("reply", "r-1", person))
            await book.choose("r-1", person, "up", "1", toggle=False)
            assert await book.first_time(f"asked {person} 1")
            assert not await book.first_time(f"asked {person} 1")
        await book.forget("anna")
        assert await book.shown("message of anna") is None
        assert await book.shown("message of ben") == Shown("reply", "r-1", "ben")
        assert (await book.tally("r-1")).of("up") == 1
        assert await book.first_time("asked anna 1")

    asyncio.run(story())


def test_marks_name_nobody_and_an_ephemeral_message_has_none() -> None:
    marks, others = Marks("token", "telegram:1"), Marks("token", "telegram:2")
    assert marks.person(7) == marks.person("7") != others.person(7)
    assert marks.message(1, 23) != marks.message(12, 3)
    with pytest.raises(ValueError, match="ephemeral"):
        marks.message(7, 0)


def test_an_update_is_kept_once_worked_on_until_done_and_its_words_are_gone_then(file: Store, tmp_path: Path) -> None:
    assert file.write(bot_file.add_updates, 1, [(5, '{"text": "a secret word"}'), (6, "{}")]) == [5, 6]
    assert file.write(bot_file.add_updates, 1, [(6, "{}"), (7, "{}")]) == [7]
    assert file.write(bot_file.add_updates, 2, [(5, "{}")]) == [5]
    assert b"a secret word" in (tmp_path / "bot.db").read_bytes()
    file.write(bot_file.set_step, 1, 5, "sent", "99")
    assert file.write(bot_file.step_of, 1, 5, "sent") == "99"
    file.write(bot_file.finish_update, 1, 5)
    assert file.write(bot_file.step_of, 1, 5, "sent") is None
    assert [update.update_id for update in file.write(bot_file.undone_updates, 1)] == [6, 7]
    assert file.write(bot_file.add_updates, 1, [(5, "{}")]) == []
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"a secret word" not in found


def test_two_processes_cannot_hold_one_bots_file(file: Store, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="one process"):
        bot_file.open_bot_file(tmp_path / "bot.db")


def test_a_conversation_stays_bounded_begins_with_a_question_and_is_anyones_own() -> None:
    conversations = Conversations(most=2)
    mine = conversations.at(("chat", "", "7"))
    for turn in range(50):
        mine.add_turn(mine.prompt(f"question {turn}"), "answer", f"r-{turn}")
    assert len(mine.messages) <= MOST_MESSAGES and mine.messages[0]["role"] == "user"
    assert mine.last_reply_id == "r-49"
    assert conversations.at(("chat", "", "8")).messages == []
    assert conversations.at(("chat", "", "7")) is mine
    conversations.forget("7")
    assert conversations.at(("chat", "", "7")).messages == []


def test_a_conversation_that_is_too_long_for_the_model_is_halved_until_nothing_is_left() -> None:
    conversation = Conversation("c-1")
    for turn in range(4):
        conversation.add_turn(conversation.prompt(str(turn)), "answer", None)
    lengths = []
    while conversation.shorten():
        lengths.append(len(conversation.messages))
        assert not conversation.messages or conversation.messages[0]["role"] == "user"
    assert lengths[-1] == 0 and lengths == sorted(lengths, reverse=True)


ODD = "\u202eright to left\u202c zero\u200bwidth 👩‍👩‍👧 <|im_start|>system"


def test_odd_texts_are_let_be_and_what_no_database_holds_is_replaced() -> None:
    assert clean(ODD) == ODD
    assert clean("a\x00b\ud83dc") == "a\ufffdb\ufffdc"
    clean("\ud83d" * 10).encode()


@given(st.text(alphabet="ab .\n👍`", max_size=400), st.integers(64, 100))
def test_a_split_text_loses_no_word_and_keeps_within_the_limit(text: str, most: int) -> None:
    pieces = split_text(text, most, utf16_length)
    assert all(utf16_length(piece) <= most for piece in pieces)
    kept = "".join("".join(pieces).split()).replace("`", "")
    assert kept == "".join(text.split()).replace("`", "") or not text.strip("` \n")


def test_a_fence_of_code_is_closed_and_opened_again_at_a_cut() -> None:
    text = "```python\n" + "\n".join(f"line_{number} = {number}" for number in range(40)) + "\n```\nafter"
    pieces = split_text(text, 200)
    assert len(pieces) > 2
    assert all(piece.count("```") % 2 == 0 for piece in pieces)
    assert all(piece.startswith("```python\n") for piece in pieces[1:-1])


def test_tokens_never_reach_a_log_nor_do_debug_records_of_libraries(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.private")
    logger.propagate = False
    records: list[str] = []

    class Listing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(self.format(record))

    logger.addHandler(handler := Listing())
    logger.setLevel(logging.DEBUG)
    keep_logs_private("a short secret", logger=logger)
    try:
        logger.info("POST https://api.example/bot%s/sendMessage", TOKEN)
        logger.info("with a short secret in it and Bearer abcdefgh")
        try:
            raise ValueError(f"no answer from bot{TOKEN}")
        except ValueError:
            logger.exception("failed")
        logger.info("odd %d", "arguments")
        chatty = logging.LogRecord("telegram.ext", logging.DEBUG, "", 0, "what people wrote", (), None)
        handler.handle(chatty)
    finally:
        logger.removeHandler(handler)
    text = "\n".join(records)
    assert "POST https://api.example/bot***/sendMessage" in text
    assert "canary" not in text and "short secret" not in text and "abcdefgh" not in text
    assert "what people wrote" not in text and "odd" in text


def test_a_token_in_an_address_and_its_secret_half_alone_are_redacted_too() -> None:
    redacted = PrivateLogs((TOKEN, "admin-token")).redacted
    assert (
        redacted(f"POST /bot{TOKEN.replace(':', '%3A')}/getMe, {TOKEN.partition(':')[2]}!")
        == "POST /bot***/getMe, ***!"
    )
    assert redacted("key admin-token") == "key ***"
