"""What is erased is gone from the files too: raw bytes of the database, its log and its freed pages are searched."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from feedback_store import annotation_labels as labels
from feedback_store import annotation_queues as queues
from feedback_store import erasures, inbox, overwriting, raters, replies, review, side_by_sides, versions
from feedback_store.audit import Act, audited
from feedback_store.inbox_search import InboxFilter, search
from feedback_store.overwrite_keeper import OverwriteKeeper
from feedback_store.quarantines import begin_by_hand
from feedback_store.rater_data import erase_rater
from feedback_store.raters import get_rater
from feedback_store.review import Target
from feedback_store.settings import StoreSettings
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL, Scene, make_reply
from tests.waiting import until

KINDS = ("asked", "answered", "reason", "rewrite", "note", "correction", "label", "suspicion", "echo", "long")
PLANTED = {kind: f"{kind}x{secrets.token_hex(6)}" for kind in KINDS}
"""A word for each place where something of a person may stand."""
REWRITE_BYTES = 2**28


def files_of(store: Store) -> list[Path]:
    """Every file that the database lives in. PostgreSQL's own log of changes is the server's business."""
    if store.backend == "sqlite":
        path = store.read(lambda connection: connection.execute(text("PRAGMA database_list")).one()[2])
        return sorted(Path(path).parent.glob("*"))
    store.write(_flush)
    query = "SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database"
    query += " WHERE datname = current_database()"
    folder = Path(store.read(lambda connection: connection.execute(text(query)).scalar_one()))
    return sorted(folder.iterdir())


def _flush(connection: Connection) -> None:
    connection.execute(text("CHECKPOINT"))


def found_in(store: Store) -> set[str]:
    content = [path.read_bytes() for path in files_of(store) if path.is_file()]
    return {kind for kind, word in PLANTED.items() if any(word.encode() in one for one in content)}


@pytest.fixture
def opened(store_url: str) -> Iterator[Store]:
    with Store.open(store_url, settings=StoreSettings(busy_timeout_s=5)) as store:
        store.write(versions.bootstrap, BASE_MODEL)
        yield store


def plant(store: Store) -> None:
    """Let the store know Anna in every way it can, among others whose rows share her pages."""
    scene, word = Scene(store), PLANTED
    for name in ("anna", "ben"):
        store.write(raters.ensure_rater, name, "web")
        store.write(raters.set_consent, name, "web", True, 1)
    for number in range(60):
        whose = {"rater_id": "ben", "text": f"on boats {number} " + "and sails " * (number % 7 * 20)}
        store.write(replies.add_reply, make_reply(f"other-{number}", **whose))
        if number % 6 == 0:
            prompt = ({"role": "user", "content": f"tell me of {word['asked']} please"},)
            said = f"{word['answered']} it is" + (f" {word['long']} {secrets.token_hex(4)}" * 300 if number else "")
            hers = make_reply(f"hers-{number}", rater_id="anna", conversation_id="talk", messages=prompt, text=said)
            store.write(replies.add_reply, hers)
            scene.act("thumb", "ben", reply_id=f"hers-{number}", thumb="up")
    scene.act("thumb", "ben", reply_id="other-2", thumb="up")
    scene.act("thumb", "anna", reply_id="hers-0", thumb="down", reason=word["reason"])
    theirs = scene.act("correction", "anna", reply_id="other-1", correction=f"say {word['correction']}").feedback_id
    store.write(review.note, "hers-0", f"quotes {word['note']}", actor="olga")
    while store.write(inbox.catch_up):
        pass
    (item,) = [one for one in store.read(search, InboxFilter()).items if one.reply_id == "hers-0"]
    rewrite = f"better: {word['rewrite']}"
    store.write(review.correct, Target("hers-0", item.revision), rewrite, actor="olga", reason="shorter")
    scene.comparison("pair", ("x", "y"), rater_id="anna")
    store.write(queues.ask_for_labels, "uncertain", {"pair": 1.0}, wanted=1, purpose="p", requested_by="trainer")
    given = store.write(labels.next_assignment, "ada")
    assert given is not None
    store.write(labels.save, "ada", given.label.label_id, 0, ranked=("x", "y"), note=word["label"])
    because = Act("user:olga", "rater.quarantine", "rater anna", word["suspicion"])
    store.write(audited, because, begin_by_hand, "anna", reason=word["suspicion"], begun_by="o", feedback_id=theirs)
    pair = {"prompt_reply_id": "hers-6", "prompt": None, "before": f"so {word['echo']}", "after": "and so"}
    kept = {"prompt_reply_id": "other-2", "prompt": None, "before": "one", "after": "two"}
    store.write(
        versions.add_candidate, base_model=BASE_MODEL, adapter_sha256="a" * 64, parent=1, method="kto", round_id=None,
        gate_report={"examples": [pair, kept]}, metrics={},
    )  # fmt: skip
    while store.write(inbox.catch_up):
        pass


def test_after_an_erasure_no_byte_of_what_was_said_is_left_in_the_databases_files(opened: Store) -> None:
    plant(opened)
    assert found_in(opened) == set(KINDS), "what is searched for was there"
    keeper = OverwriteKeeper(opened, REWRITE_BYTES)
    assert not keeper.overwrite(), "nobody was erased: nothing to do"
    erased = opened.write(erase_rater, "anna")
    assert erased.erasure_id is not None and found_in(opened), "a deleted row is still in the files"
    assert opened.read(erasures.get_erasure, erased.erasure_id).overwritten_at is None
    assert keeper.overwrite()
    assert found_in(opened) == set()
    assert opened.read(erasures.get_erasure, erased.erasure_id).overwritten_at is not None
    (item, *_) = opened.read(search, InboxFilter(words="boats")).items
    assert item.reply_id.startswith("other-"), "what others said is still found"
    pairs = [{one.left, one.right} for one in opened.read(side_by_sides.side_by_sides, 2, "olga")]
    assert pairs == [{""}, {"one", "two"}], "an emptied pair keeps its place, which votes name"


def test_who_still_reads_an_old_moment_is_waited_for_and_then_it_is_overwritten(
    opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overwriting, "PATIENCE_S", 0.2)
    plant(opened)
    keeper = OverwriteKeeper(opened, REWRITE_BYTES)
    with opened.reading() as connection:
        assert get_rater(connection, "anna") is not None
        number = opened.write(erase_rater, "anna").erasure_id
        assert number is not None and keeper.overwrite()
        assert opened.read(erasures.not_overwritten) == [number], "it says so only when it is true"
        opened.write(raters.ensure_rater, "late", "web")  # nobody is held up for ever
    keeper.start()
    try:
        until(lambda: not opened.read(erasures.not_overwritten))
    finally:
        keeper.close()
    assert found_in(opened) == set()
