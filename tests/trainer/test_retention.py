"""The daily run: once a day, made up for when it was missed, and log files with it."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feedback_store import replies, versions
from feedback_store.settings import RetentionSettings
from feedback_store.store import Store
from tests.databases import url_of
from tests.store.conftest import make_reply
from trainer.context import TrainerContext
from trainer.retention import RetentionClock, latest_day
from trainer.settings import RoundSettings


@pytest.mark.parametrize(
    ("now", "zone", "day"),
    [
        ("2026-03-02T04:30", "UTC", "2026-03-02"),
        ("2026-03-02T04:29", "UTC", "2026-03-01"),
        ("2026-03-02T03:30", "Europe/Berlin", "2026-03-02"),
        ("2026-03-29T02:29", "Europe/Berlin", "2026-03-28"),  # 02:00 to 03:00 is skipped: 04:29 there
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29"),
    ],
)
def test_a_day_is_due_when_the_wall_clock_says_so(now: str, zone: str, day: str) -> None:
    assert latest_day("04:30", zone, datetime.fromisoformat(now).replace(tzinfo=UTC)) == day


def test_the_daily_run_comes_once_a_day_and_takes_old_log_files_along(tmp_path: Path) -> None:
    present = [datetime.now(UTC) + timedelta(days=60)]
    (tmp_path / "logs").mkdir()
    for name, age_days in (("thumbwise.log", 99), ("thumbwise.log.1", 99), ("thumbwise.log.2", 1)):
        (tmp_path / "logs" / name).touch()
        then = datetime.now(UTC).timestamp() - age_days * 86_400
        os.utime(tmp_path / "logs" / name, (then, then))
    with Store.open(url_of(tmp_path)) as store:
        store.write(versions.bootstrap, "tiny")
        store.write(replies.add_reply, make_reply("old"))
        context = TrainerContext(
            store, tmp_path, tmp_path, "tiny", rounds=RoundSettings(timezone="UTC"),
            retention=RetentionSettings(unrated_text_days=30),
        )  # fmt: skip
        clock = RetentionClock(context, lambda: present[0])
        first = clock.look()
        assert first is not None and first.unrated_texts == 1
        assert clock.look() is None
        present[0] += timedelta(days=1)
        assert clock.look() is not None
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["thumbwise.log", "thumbwise.log.2"]
