"""The long form of the kill storm goes on where it was interrupted, and counts everything once."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import kills
from benchmarks._kill_storm import run_storm
from benchmarks.kills import Stretch, ended, plan
from tests.store.conftest import new_postgres_database


@pytest.mark.parametrize(("asked", "stretch"), [((500, 1_000_000), 25), ((7, 10), 3), ((5, 0), 0), ((1, 1), 25)])
def test_stretches_add_up_to_what_was_asked_for(asked: tuple[int, int], stretch: int) -> None:
    parts = plan(*asked, stretch)
    assert tuple(map(sum, zip(*parts, strict=True))) == asked
    assert all(size <= (stretch or asked[0]) for size, _ in parts)


def test_a_storm_that_was_interrupted_goes_on_behind_its_last_whole_stretch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, ran = tmp_path / "progress.jsonl", []

    def stretch(store: str, server: str, seed: int, asked: int, votes: int) -> Stretch:
        ran.append(seed)
        return Stretch(store, seed, asked, votes, asked, votes + 1, 0, 0, 0, 0, 1.0)

    monkeypatch.setattr(kills, "_stretch", stretch)
    first = Stretch("sqlite", 0, 2, 20, 2, 21, 0, 0, 0, 0, 1.0)
    other = Stretch("postgresql", 1, 2, 20, 2, 21, 0, 0, 0, 0, 1.0)
    lines = [json.dumps(asdict(one)) + "\n" for one in (first, other)]
    progress.write_text("".join(lines) + lines[0][:30])  # the third was being written when the machine went away
    command = ["kills", "--kills", "6", "--votes", "60", "--stretch", "2", "--progress", str(progress)]
    told: dict[str, float] = {}
    monkeypatch.setattr(
        kills, "report", lambda name, rows, notes, seed: told.update({row.case: row.ours for row in rows})
    )
    monkeypatch.setattr("sys.argv", command)
    kills.main()
    assert ran == [1, 2]
    assert (told["kill -9 of the server"], told["acknowledged votes"]) == (6, 63)
    assert [one.seed for one in ended(progress)] == [0, 1, 1, 2]
    kills.main()
    assert ran == [1, 2]


@pytest.mark.postgres
@pytest.mark.timeout(90)
def test_no_acknowledged_vote_is_lost_or_doubled_over_postgresql(postgres_server: str, tmp_path: Path) -> None:
    found = run_storm(tmp_path, 2, seed=0, url=new_postgres_database(postgres_server), votes=300)
    assert (found.votes.lost, found.votes.doubled, found.votes.unasked) == (0, 0, 0)
    assert found.votes.acknowledged == found.votes.stored >= 300
    assert found.repeats > 0  # the kills hit votes under way, else this showed nothing
