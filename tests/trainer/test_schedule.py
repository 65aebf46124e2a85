"""The clock asks for rounds, and does nothing else."""

from datetime import UTC, datetime, time

import pytest

from feedback_store import rounds
from tests.trainer.parts import EASY_ROUNDS, MakeHouse, fill_with_feedback
from trainer.schedule import REQUESTED_BY, RoundClock, is_quiet, parse_quiet_hours
from trainer.settings import RoundSettings

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "moment", "quiet"),
    [
        ("", "12:00", False),
        ("08:00-22:00", "07:59", False),
        ("08:00-22:00", "08:00", True),
        ("08:00-22:00", "21:59", True),
        ("08:00-22:00", "22:00", False),
        ("22:00-06:30", "23:00", True),
        ("22:00-06:30", "06:29", True),
        ("22:00 - 06:30", "06:30", False),
        ("00:00-00:00", "12:00", True),
    ],
)
def test_quiet_hours_begin_inside_and_may_pass_midnight(span: str, moment: str, quiet: bool) -> None:
    assert is_quiet(time.fromisoformat(moment), parse_quiet_hours(span)) is quiet


@pytest.mark.parametrize("span", ["8-22", "08:00", "08:00-25:00", "quiet"])
def test_quiet_hours_that_cannot_be_read_are_named(span: str) -> None:
    with pytest.raises(ValueError, match=r"rounds\.quiet_hours"):
        parse_quiet_hours(span)


def test_the_clock_asks_once_when_there_is_enough_feedback(make_house: MakeHouse) -> None:
    house = make_house()
    asked: list[bool] = []
    clock = RoundClock(house.context, lambda: asked.append(True))
    assert "not ready" in clock.tick(NOON)
    house.store.write(fill_with_feedback, 1)
    assert clock.tick(NOON) == "round 1 requested"
    assert "is open" in clock.tick(NOON)
    found = house.store.read(rounds.list_rounds)
    assert [(wish.requested_by, wish.method, wish.state) for wish in found] == [(REQUESTED_BY, "kto", "requested")]
    assert asked == [True]


def test_the_clock_is_silent_in_quiet_hours(make_house: MakeHouse) -> None:
    house = make_house(rounds=EASY_ROUNDS.model_copy(update={"quiet_hours": "08:00-22:00"}))
    house.store.write(fill_with_feedback, 1)
    assert RoundClock(house.context).tick(NOON) == "quiet hours"
    assert house.store.read(rounds.list_rounds) == []


def test_the_clock_starts_and_stops(make_house: MakeHouse) -> None:
    clock = RoundClock(make_house(rounds=RoundSettings(schedule="0 3 * * *")).context)
    clock.start()
    clock.close()


@pytest.mark.parametrize("wrong", [RoundSettings(schedule="at night"), RoundSettings(quiet_hours="at night")])
def test_a_schedule_that_cannot_be_read_stops_the_start(make_house: MakeHouse, wrong: RoundSettings) -> None:
    clock = RoundClock(make_house(rounds=wrong).context)
    with pytest.raises(ValueError, match=r"night"):
        clock.start()
    clock.close()
