"""The clock asks for rounds, and does nothing else."""

from datetime import datetime, time

import pytest

from feedback_store import rounds
from tests.trainer.parts import EASY_ROUNDS, MakeHouse, ask, fill_with_feedback
from trainer.schedule import REQUESTED_BY, RoundClock, is_quiet, latest_due, parse_quiet_hours
from trainer.settings import RoundSettings


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


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        ("0 3 * * *", "2026-11-21T02:59+01:00", None),
        ("0 3 * * *", "2026-11-21T03:00+01:00", "2026-11-21T03:00"),
        ("0 3 * * *", "2026-11-21T02:00+00:00", "2026-11-21T03:00"),
        ("0 3 * * *", "2026-11-21T03:59+01:00", "2026-11-21T03:00"),
        ("0 3 * * *", "2026-11-21T04:00+01:00", None),
        ("*/10 * * * *", "2026-11-21T03:59+01:00", "2026-11-21T03:50"),
        # The night when the hour from 02:00 comes twice: the first time counts, the second has nothing due any more.
        ("30 2 * * *", "2026-10-25T00:31+00:00", "2026-10-25T02:30"),
        ("30 2 * * *", "2026-10-25T01:31+00:00", None),
        ("0 3 * * *", "2026-10-25T02:01+00:00", "2026-10-25T03:00"),
        # The night when the hour from 02:00 is missing: due right after.
        ("30 2 * * *", "2026-03-29T01:29+00:00", None),
        ("30 2 * * *", "2026-03-29T01:31+00:00", "2026-03-29T02:30"),
        ("0 3 * * *", "2026-03-29T01:01+00:00", "2026-03-29T03:00"),
    ],
)
def test_the_due_time_is_the_newest_wall_clock_time_of_the_last_hour(schedule: str, now: str, due: str | None) -> None:
    found = latest_due(schedule, "Europe/Berlin", datetime.fromisoformat(now), 3600)
    assert (found and found.isoformat(timespec="minutes")) == due


class Hands:
    """A clock that shows what it is told."""

    def __init__(self, text: str) -> None:
        self.show(text)

    def show(self, text: str) -> None:
        self.now = datetime.fromisoformat(f"2026-01-01T{text}+00:00")

    def __call__(self) -> datetime:
        return self.now


NIGHTLY = {"schedule": "0 3 * * *", "timezone": "UTC"}


def nightly_rounds(**changes: object) -> RoundSettings:
    return EASY_ROUNDS.model_copy(update=NIGHTLY | changes)


def test_a_due_time_gets_one_round_whoever_looks_and_however_the_clock_jumps(make_house: MakeHouse) -> None:
    house = make_house(rounds=nightly_rounds())
    house.store.write(fill_with_feedback, 1)
    hands, asked = Hands("02:59"), []
    clocks = [RoundClock(house.context, lambda: asked.append(True), hands) for _ in range(2)]

    def look() -> set[str]:
        return {clock.tick() for clock in clocks}

    assert look() == {"nothing is due"}
    hands.show("03:20")  # set forward past it
    assert look() == {"2026-01-01T03:00: round 1 requested"}
    hands.show("02:50")  # set back
    assert look() == {"nothing is due"}
    hands.show("03:00")
    house.store.write(rounds.cancel_round, 1, "anna")
    assert look() == {"2026-01-01T03:00: round 1 requested"}
    assert RoundClock(house.context, clock=hands).tick() == "2026-01-01T03:00: round 1 requested"  # a restart
    found = house.store.read(rounds.list_rounds)
    assert [(wish.requested_by, wish.method) for wish in found] == [(REQUESTED_BY, "kto")]
    assert asked == [True]


def test_a_due_time_waits_for_an_open_round_within_its_hour(make_house: MakeHouse) -> None:
    house = make_house(rounds=nightly_rounds())
    house.store.write(fill_with_feedback, 1)
    hands = Hands("03:00")
    clock = RoundClock(house.context, clock=hands)
    by_hand = ask(house)
    assert "is open" in clock.tick()
    house.store.write(rounds.cancel_round, by_hand, "anna")
    hands.show("03:50")
    assert clock.tick() == "2026-01-01T03:00: round 2 requested"


def test_a_due_time_without_enough_feedback_is_skipped_for_good(make_house: MakeHouse) -> None:
    house = make_house(rounds=nightly_rounds())
    hands = Hands("03:00")
    clock = RoundClock(house.context, clock=hands)
    assert "not ready" in clock.tick()
    house.store.write(fill_with_feedback, 1)
    hands.show("03:30")
    assert "not ready" in clock.tick()
    assert house.store.read(rounds.list_rounds) == []


def test_the_clock_is_silent_in_quiet_hours(make_house: MakeHouse) -> None:
    house = make_house(rounds=nightly_rounds(quiet_hours="02:00-22:00"))
    house.store.write(fill_with_feedback, 1)
    assert RoundClock(house.context, clock=Hands("03:00")).tick() == "2026-01-01T03:00: quiet hours"
    assert house.store.read(rounds.list_rounds) == []


def test_the_clock_starts_and_stops(make_house: MakeHouse) -> None:
    clock = RoundClock(make_house(rounds=RoundSettings(schedule="0 3 * * *")).context)
    clock.start()
    clock.close()


@pytest.mark.parametrize(
    "wrong",
    [
        RoundSettings(schedule="at night"),
        RoundSettings(quiet_hours="at night"),
        RoundSettings(schedule="0 3 * * *", timezone="the night"),
    ],
)
def test_a_schedule_that_cannot_be_read_stops_the_start(make_house: MakeHouse, wrong: RoundSettings) -> None:
    clock = RoundClock(make_house(rounds=wrong).context)
    with pytest.raises(ValueError, match=r"night"):
        clock.start()
    clock.close()
