"""The long form of the faults prints every count, and fails when one promise is broken."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks._away_storm import AwayReport
from benchmarks._full_disk import FullDiskReport
from benchmarks._vote_check import VoteCheck
from benchmarks.report import Row

VOTES = VoteCheck(acknowledged=900, stored=900, lost=0, doubled=0, unasked=0)
AWAY = AwayReport(
    VOTES,
    refused=40,
    failures=0,
    delivered=1999,
    without_receipt=100,
    failed_replies=1,
    longest_vote_s=10.1,
    longest_reply_s=10.2,
    acknowledged_while_away=0,
    green_while_away=False,
    ready_again=True,
    back_s=0.4,
)
DISK = FullDiskReport(100, VOTES, delivered=300, failed_replies=0, green=0, longest_back_s=0.1, whole=True)


@pytest.mark.parametrize(
    ("away", "disk", "broken"),
    [
        (AWAY, DISK, None),
        (replace(AWAY, votes=replace(VOTES, lost=1)), DISK, "refuse: no acknowledged vote lost or doubled"),
        (replace(AWAY, failed_replies=20), DISK, "99.9% of replies delivered"),
        (replace(AWAY, back_s=float("inf")), DISK, "silence: back within 10 s"),
        (replace(AWAY, refused=0), DISK, "it was away"),
        (replace(AWAY, green_while_away=True), DISK, "refuse: readiness red, and green again"),
        (replace(AWAY, failures=1), DISK, "refusals are 503"),
        (AWAY, replace(DISK, votes=replace(VOTES, doubled=1)), "full disk: no acknowledged vote lost or doubled"),
        (AWAY, replace(DISK, longest_back_s=5.1), "stored again within 5 s"),
        (AWAY, replace(DISK, whole=False), "the database is whole"),
        (AWAY, replace(DISK, green=1), "readiness red"),
    ],
)
def test_one_broken_promise_fails_the_benchmark_and_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, away: AwayReport, disk: FullDiskReport, broken: str | None
) -> None:
    for small in (None, disk):  # where nothing may be mounted, and where it is the small file system that fails
        if small is not None and broken is not None:
            broken = broken.replace("full disk:", "full file system:")
        run_main(monkeypatch, tmp_path, away, disk, small, broken)


def run_main(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    away: AwayReport,
    disk: FullDiskReport,
    small: FullDiskReport | None,
    broken: str | None,
) -> None:
    told: list[Row] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["faults"])
    monkeypatch.setattr(
        faults, "measure", lambda *_: ({"refuse": away, "silence": away}, DISK if small else disk, small and disk)
    )
    monkeypatch.setattr(faults, "report", lambda name, rows, notes, seed: told.extend(rows))
    if broken is None:
        faults.main()
    else:
        with pytest.raises(SystemExit, match=broken):
            faults.main()
    assert {row.case: row.ours for row in told}["disk full"] == 100
    assert "database is silent for 60 s: acknowledged votes" in [row.case for row in told]
    assert (small is not None) == ("small file system full" in [row.case for row in told])
