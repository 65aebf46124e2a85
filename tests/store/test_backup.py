"""What runs can be taken along whole, and comes back whole, into either database."""

import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from feedback_store import backup, feedback, inbox, raters, replies, versions
from feedback_store.backup import Archive, BackupRefused, FileToKeep
from feedback_store.backup.restoring import WAITING, restore
from feedback_store.backup.tables import LEFT_OUT
from feedback_store.databases import connect_databases
from feedback_store.errors import Conflict, StoreError
from feedback_store.migrations import upgrade_to
from feedback_store.records import NewFeedback
from feedback_store.review_schema import inbox as inbox_rows
from feedback_store.schema import audit, metadata
from feedback_store.store import Store
from tests.store.conftest import make_reply, new_postgres_database
from tests.store.every_table import ADAPTER, ROWS, fill_every_table, rows_of

Pair = tuple[str, str]
KEY = "keys/rater.key"


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """Where to take from, and an empty one to put into."""
    ours = f"sqlite:///{tmp_path}/data/thumbwise.db"
    theirs = new_postgres_database(request.getfixturevalue("postgres_server"))
    return (ours, theirs) if request.param.startswith("sqlite") else (theirs, ours)


@pytest.fixture
def sqlite_urls(tmp_path: Path) -> Pair:
    return f"sqlite:///{tmp_path}/from/thumbwise.db", f"sqlite:///{tmp_path}/to/thumbwise.db"


def back_up(url: str, target: Path, *files: FileToKeep) -> dict[str, object]:
    return backup.make_backup(url, target, lambda snapshot: files, {})


def put_back(file: Path, url: str, data_dir: Path, *, key: Path | None = None, replace: bool = False) -> None:
    with Archive(file) as archive:
        restore(archive, url, data_dir, {KEY: key} if key else {}, replace=replace)


def fill(url: str) -> None:
    with Store.open(url) as store:
        store.write(fill_every_table)


def carried(url: str) -> dict[str, object]:
    with Store.open(url) as store:
        found = store.read(rows_of)
    found["audit"] = [row for row in found["audit"] if row["action"] != "store.restore"]
    return {name: rows for name, rows in found.items() if name not in LEFT_OUT}


def test_the_rows_of_the_test_are_of_every_table() -> None:
    assert set(ROWS) == set(metadata.tables)


def test_every_row_comes_back_in_the_other_database_and_numbers_go_on(urls: Pair, tmp_path: Path) -> None:
    source, target = urls
    fill(source)
    manifest = back_up(source, tmp_path / "a.backup")
    assert manifest["live_version"] == 2
    assert manifest["rewards"] == ["cd" * 32]
    put_back(tmp_path / "a.backup", target, tmp_path / "new")
    assert carried(target) == carried(source)
    with Store.open(target) as store:
        act = NewFeedback("thumb", "rater-1", "web", reply_id="reply-1", thumb="up")
        # 9 was given out and deleted: it must not come again.
        assert store.write(feedback.add_feedback, act).feedback_id == 10
        assert store.read(rows_of)["sessions"] == []
        while store.write(inbox.catch_up):
            pass
        shown = {row["reply_id"]: (row["downs"], row["ups"], row["flagged"]) for row in store.read(rows_of)["inbox"]}
    assert shown == {"reply-1": (0, 1, True), "duel-0": (0, 0, False), "duel-1": (0, 0, False)}


def test_a_backup_taken_while_votes_are_written_holds_each_with_its_reply(urls: Pair, tmp_path: Path) -> None:
    source, target = urls
    with Store.open(source) as store:
        store.write(versions.bootstrap, "tiny")
        store.write(raters.ensure_rater, "rater-1", "web")
        written: list[int] = []
        enough, over = threading.Event(), threading.Event()

        def vote(connection: object, number: int) -> int:
            replies.add_reply(connection, make_reply(f"reply-{number}"))  # type: ignore[arg-type]
            act = NewFeedback("thumb", "rater-1", "web", reply_id=f"reply-{number}", thumb="up")
            return feedback.add_feedback(connection, act).feedback_id  # type: ignore[arg-type]

        def voter() -> None:
            while not over.is_set():
                written.append(store.write(vote, len(written)))
                if len(written) > 50:
                    enough.set()

        thread = threading.Thread(target=voter)
        thread.start()
        assert enough.wait(30)
        acknowledged = len(written)
        back_up(source, tmp_path / "a.backup")
        after = len(written)
        over.set()
        thread.join()
    put_back(tmp_path / "a.backup", target, tmp_path / "new")
    with Store.open(target) as store:
        found = store.read(rows_of)
    assert acknowledged <= len(found["feedback"]) <= after + 1
    assert {row["reply_id"] for row in found["feedback"]} == {row["reply_id"] for row in found["replies"]}


def test_a_backup_of_an_older_schema_is_upgraded_as_it_is_restored(sqlite_urls: Pair, tmp_path: Path) -> None:
    source, target = sqlite_urls
    databases = connect_databases(source, 5)
    with databases.writer.begin() as connection:
        upgrade_to(connection, "0002")
        fill_every_table(connection)
        before = rows_of(connection)
    databases.close()
    assert back_up(source, tmp_path / "a.backup")["schema_revision"] == "0002"
    put_back(tmp_path / "a.backup", target, tmp_path / "to")
    with Store.open(target) as store:
        after = store.read(rows_of)
    for table, rows in before.items():
        found = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert sorted(found, key=str) == sorted(rows, key=str), table


def test_sealed_folders_and_keys_come_along_for_their_owner_alone(sqlite_urls: Pair, tmp_path: Path) -> None:
    source, target = sqlite_urls
    fill(source)
    (tmp_path / "rater.key").write_text("11" * 32)
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 100)
    folder = f"adapters/{ADAPTER}"
    files = [FileToKeep(KEY, tmp_path / "rater.key", secret=True)]
    files += [FileToKeep(f"{folder}/{name}", tmp_path / "weights") for name in ("adapter_model.safetensors",)]
    made = back_up(source, tmp_path / "a.backup", *files)
    assert (tmp_path / "a.backup").stat().st_mode & 0o777 == 0o600
    assert [name for name, one in made["members"].items() if one.get("secret")] == [KEY]  # type: ignore[attr-defined]
    place = tmp_path / "to" / "rater.key"
    put_back(tmp_path / "a.backup", target, tmp_path / "to", key=place)
    assert place.read_text() == "11" * 32
    assert place.stat().st_mode & 0o777 == 0o600
    found = tmp_path / "to" / folder / "adapter_model.safetensors"
    assert found.read_bytes() == (tmp_path / "weights").read_bytes()
    assert not (tmp_path / "to" / WAITING).exists()


def test_a_store_that_holds_something_is_replaced_only_when_asked(sqlite_urls: Pair, tmp_path: Path) -> None:
    source, target = sqlite_urls
    fill(source)
    back_up(source, tmp_path / "a.backup")
    with Store.open(target) as store:
        store.write(versions.bootstrap, "tiny")  # a store that was only started is as good as empty
        store.write(raters.ensure_rater, "somebody", "web")
    with pytest.raises(Conflict, match=r"not empty \(it has raters\)"):
        put_back(tmp_path / "a.backup", target, tmp_path / "to")
    with Store.open(target) as store, pytest.raises(Conflict, match="already written by process"):
        put_back(tmp_path / "a.backup", target, tmp_path / "to", replace=True)
    put_back(tmp_path / "a.backup", target, tmp_path / "to", replace=True)
    assert carried(target) == carried(source)
    assert b"somebody" not in (tmp_path / "to" / "thumbwise.db").read_bytes()


def test_another_rater_key_is_put_aside_only_when_asked(sqlite_urls: Pair, tmp_path: Path) -> None:
    source, target = sqlite_urls
    fill(source)
    (tmp_path / "rater.key").write_text("11" * 32)
    back_up(source, tmp_path / "a.backup", FileToKeep(KEY, tmp_path / "rater.key", secret=True))
    place = tmp_path / "to" / "rater.key"
    place.parent.mkdir()
    place.write_text("22" * 32)
    with pytest.raises(Conflict, match="another key than the backup's"):
        put_back(tmp_path / "a.backup", target, tmp_path / "to", key=place)
    put_back(tmp_path / "a.backup", target, tmp_path / "to", key=place, replace=True)
    assert place.read_text() == "11" * 32
    assert [path.read_text() for path in place.parent.glob("rater.key.before-*")] == ["22" * 32]


def test_a_postgresql_that_somebody_uses_is_left_alone(postgres_server: str, sqlite_url: str, tmp_path: Path) -> None:
    back_up(sqlite_url, tmp_path / "a.backup")
    url = new_postgres_database(postgres_server)
    with Store.open(url), pytest.raises(Conflict, match="stop every server"):
        put_back(tmp_path / "a.backup", url, tmp_path / "to")


@pytest.mark.parametrize("moment", ["before the rows are committed", "before the files are moved"])
def test_a_restore_that_is_cut_off_leaves_the_old_or_the_new(
    sqlite_urls: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    source, target = sqlite_urls
    fill(source)
    (tmp_path / "rater.key").write_text("11" * 32)
    back_up(source, tmp_path / "a.backup", FileToKeep(KEY, tmp_path / "rater.key", secret=True))
    name = "rebuild" if moment == "before the rows are committed" else "_move"

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(f"feedback_store.backup.restoring.{name}", killed)
        put_back(tmp_path / "a.backup", target, tmp_path / "to", key=tmp_path / "to" / "rater.key")
    assert (tmp_path / "to" / WAITING).is_dir()
    with Store.open(target) as store:
        is_new = backup.finish_restore(store, tmp_path / "to")
        count = len(store.read(rows_of)["raters"])
    assert (is_new, count) == ((False, 0) if name == "rebuild" else (True, 2))
    assert (tmp_path / "to" / "rater.key").exists() == is_new
    assert not (tmp_path / "to" / WAITING).exists()


def change_a_row(parts: dict[str, bytes]) -> None:
    parts["tables/raters.jsonl"] = parts["tables/raters.jsonl"].replace(b"rater-1", b"rater-7")


def leave_one_out(parts: dict[str, bytes]) -> None:
    del parts["tables/feedback.jsonl"]


def add_a_path(parts: dict[str, bytes]) -> None:
    parts["../../etc/passwd"] = b""


def be_of_a_newer_program(parts: dict[str, bytes]) -> None:
    manifest = json.loads(parts["manifest.json"]) | {"schema_revision": "9999"}
    parts["manifest.json"] = json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_a_row, "SHA-256 differs"),
        (leave_one_out, "manifest differ: tables/feedback.jsonl"),
        (add_a_path, "manifest differ"),
        (be_of_a_newer_program, "'9999', this program knows up to"),
    ],
)
def test_a_file_that_was_changed_is_refused_before_anything_is_touched(
    sqlite_urls: Pair, tmp_path: Path, change: Callable[[dict[str, bytes]], None], reason: str
) -> None:
    source, target = sqlite_urls
    with Store.open(source) as store:
        store.write(raters.ensure_rater, "rater-1", "web")
    back_up(source, tmp_path / "a.backup")
    with zipfile.ZipFile(tmp_path / "a.backup") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    change(parts)
    with zipfile.ZipFile(tmp_path / "b.backup", "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    with pytest.raises(BackupRefused, match=reason):
        put_back(tmp_path / "b.backup", target, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_file_that_was_cut_short_is_no_backup(tmp_path: Path, sqlite_url: str) -> None:
    back_up(sqlite_url, tmp_path / "a.backup")
    whole = (tmp_path / "a.backup").read_bytes()
    (tmp_path / "b.backup").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupRefused, match="no whole backup"):
        Archive(tmp_path / "b.backup")


def test_a_backup_that_cannot_be_whole_is_not_there(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        back_up(sqlite_url, tmp_path / "a.backup", FileToKeep(KEY, tmp_path / "gone"))
    with pytest.raises(StoreError, match="there is no database"):
        back_up(f"sqlite:///{tmp_path}/none.db", tmp_path / "a.backup")
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []


def test_the_inbox_is_not_carried_but_counted_anew() -> None:
    assert inbox_rows.name in LEFT_OUT
    assert audit.name not in LEFT_OUT
