"""The search for tokens and texts in the bots' logs finds what is there: else its silence would say nothing."""

import logging
from pathlib import Path

import pytest

from tests import canaries

TOKEN = "123456789:AAcanary-canary-canary-canary-cana1"


@pytest.mark.parametrize("leak", ["a sentence that somebody wrote", "half-of-a-token"])
def test_a_text_or_a_secret_in_a_log_is_found_and_not_repeated(tmp_path: Path, leak: str) -> None:
    with (
        pytest.raises(AssertionError, match=r"whole-run\.log:2") as found,
        canaries.searched_logs(tmp_path, tmp_path / "none", (TOKEN,), ("half-of-a-token",)),
    ):
        canaries.said("echo: a sentence that somebody wrote")
        logging.getLogger("bot.some.module").debug("here it stands: %s", leak)
    assert leak not in str(found.value)


def test_a_log_of_a_process_is_searched_and_a_redacted_token_is_no_leak(tmp_path: Path) -> None:
    (tmp_path / "host.log").write_text("a sentence that\nsomebody else wrote\n")
    with (
        pytest.raises(AssertionError, match=r"\['host\.log:1'\]"),
        canaries.searched_logs(tmp_path, tmp_path, (TOKEN,), ()),
    ):
        canaries.said("a sentence that\nsomebody else wrote")
        logging.getLogger("httpx").info("POST /bot%s/getMe", TOKEN)
