"""kill -9 of the bot's process, again and again: nothing confirmed is lost, nothing counts twice, no secret is logged.

The full storm is `make bench-telegram_kills`.
"""

import re
from pathlib import Path

import pytest

from benchmarks._telegram_storm import run_storm
from tests.telegram.wire import TOKEN


@pytest.mark.timeout(300)
def test_no_confirmed_update_is_lost_or_counts_twice_however_often_the_bot_is_killed(tmp_path: Path) -> None:
    found = run_storm(tmp_path, kills=3, updates=240, seed=1)
    assert found.clean, found
    assert found.updates >= 240 and found.votes > 150 and found.messages > 5
    logged = b"".join(path.read_bytes() for path in [tmp_path / "bot.log", *(tmp_path / "bot").rglob("*.log")])
    assert b"telegram bot is up" in logged  # DEBUG was on, and something was written
    for secret in (TOKEN, TOKEN.partition(":")[2], "hello again", "word-server"):
        assert secret.encode() not in logged, f"{secret!r} is in the log"
    kept = b"".join(path.read_bytes() for path in (tmp_path / "bot" / "bots").iterdir())
    assert not re.search(rb"hello|Somebody", kept), "what people wrote, or their names, stay in the bot's file"
