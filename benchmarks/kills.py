"""100 times kill -9 of the server during a click storm: acknowledged votes lost, acknowledged votes doubled.

The long form: `--kills 500 --votes 1000000 --stretch 25 --progress data/kills.jsonl`, the same with `--postgres`. It
runs as stretches, each over a fresh database and checked by itself; one that ended is a line of the progress file.
After an interruption the same command goes on behind the last one.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._kill_storm import CLICKERS, run_storm
from benchmarks._postgres import running_postgres
from benchmarks.report import Row, report


@dataclass(frozen=True, slots=True)
class Stretch:
    """One storm that ended, as it stands in the progress file: what was asked for, and what was found."""

    store: str
    seed: int
    asked_kills: int
    asked_votes: int
    kills: int
    acknowledged: int
    lost: int
    doubled: int
    repeats: int
    already_stored: int
    took_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--votes", type=int, default=0, help="acknowledged in all, at least; 0: as they come")
    parser.add_argument("--stretch", type=int, default=0, help="kills of one stretch; 0: all in one")
    parser.add_argument("--postgres", action="store_true", help="over a throw-away PostgreSQL instead of SQLite")
    parser.add_argument("--progress", type=Path, help="file of the stretches that ended, to go on from")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    stretches = _run(arguments)
    name = "kills_postgres" if arguments.postgres else "kills"
    report(name, _rows(stretches), _notes(arguments, stretches), seed=arguments.seed)
    if any(one.lost or one.doubled for one in stretches):
        raise SystemExit(1)


def plan(kills: int, votes: int, stretch: int) -> list[tuple[int, int]]:
    """Kills and votes of every stretch; they add up to what was asked for."""
    size = stretch or kills
    parts = [min(size, kills - begun) for begun in range(0, kills, size)]
    shares = [votes * part // kills for part in parts]
    shares[-1] += votes - sum(shares)
    return list(zip(parts, shares, strict=True))


def ended(progress: Path | None) -> list[Stretch]:
    """The stretches of a progress file. A last line that was cut off is a stretch that did not end."""
    if progress is None or not progress.exists():
        return []
    whole = [line for line in progress.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [Stretch(**json.loads(line)) for line in whole]


def _run(arguments: argparse.Namespace) -> list[Stretch]:
    store = "postgresql" if arguments.postgres else "sqlite"
    known = {(one.store, one.seed, one.asked_kills, one.asked_votes): one for one in ended(arguments.progress)}
    found = []
    with _server(arguments.postgres) as server:
        for number, (kills, votes) in enumerate(plan(arguments.kills, arguments.votes, arguments.stretch)):
            seed = arguments.seed + number
            stretch = known.get((store, seed, kills, votes))
            if stretch is None:
                stretch = _stretch(store, server, seed, kills, votes)
                _note(arguments.progress, stretch)
            found.append(stretch)
            print(f"stretch {number + 1}: {stretch.kills} kills, {stretch.acknowledged} votes, {stretch.lost} lost, "
                  f"{stretch.doubled} doubled, {stretch.took_s:.0f} s", flush=True)  # fmt: skip
    return found


def _stretch(store: str, server: str, seed: int, kills: int, votes: int) -> Stretch:
    Path("data").mkdir(exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir="data", prefix="bench-kills-") as folder, _database(server, seed) as url:
        found = run_storm(Path(folder).resolve(), kills, seed, url=url, votes=votes)
    checked = found.votes
    return Stretch(
        store, seed, kills, votes, found.kills, checked.acknowledged, checked.lost, checked.doubled, found.repeats,
        found.already_stored, round(time.monotonic() - begun, 1),
    )  # fmt: skip


def _note(progress: Path | None, stretch: Stretch) -> None:
    if progress is None:
        return
    progress.parent.mkdir(parents=True, exist_ok=True)
    present = progress.read_text(encoding="utf-8") if progress.exists() else ""
    kept = "".join(line for line in present.splitlines(keepends=True) if line.endswith("\n"))
    scratch = progress.with_name(progress.name + ".new")
    scratch.write_text(kept + json.dumps(asdict(stretch)) + "\n", encoding="utf-8")
    scratch.replace(progress)


@contextmanager
def _server(postgres: bool) -> Iterator[str]:
    if not postgres:
        yield ""
        return
    with running_postgres() as server:
        yield server


@contextmanager
def _database(server: str, seed: int) -> Iterator[str]:
    """The URL of a fresh database, dropped at the end; "" for SQLite."""
    if not server:
        yield ""
        return
    import psycopg

    def run(statement: Any) -> None:
        with psycopg.connect(server.format(database="postgres"), autocommit=True) as connection:
            connection.execute(statement)

    run(f"CREATE DATABASE storm_{seed}")
    try:
        yield server.format(database=f"storm_{seed}")
    finally:
        run(f"DROP DATABASE storm_{seed} WITH (FORCE)")


def _rows(stretches: list[Stretch]) -> list[Row]:
    def total(field: str) -> int:
        return sum(getattr(one, field) for one in stretches)

    return [
        Row("kill -9 of the server", total("kills"), unit="kills"),
        Row("acknowledged votes", total("acknowledged"), unit="votes"),
        Row("… lost", total("lost"), unit="votes"),
        Row("… doubled", total("doubled"), unit="votes"),
        Row("sent again because no answer came", total("repeats"), unit="votes"),
        Row("… of which the killed server had stored them", total("already_stored"), unit="votes"),
    ]


def _notes(arguments: argparse.Namespace, stretches: list[Stretch]) -> str:
    said = f"{CLICKERS} clients vote without pause over HTTP, and repeat an unanswered vote with its Idempotency-Key."
    if arguments.postgres:
        said += " Over PostgreSQL."
    return said + (f" In {len(stretches)} stretches, each over a fresh database." if len(stretches) > 1 else "")


if __name__ == "__main__":
    main()
