"""`thumbwise migrate` and `thumbwise retention` as somebody types them."""

from datetime import UTC, datetime
from pathlib import Path

from feedback_store import replies, versions
from feedback_store.store import Store
from tests.command.typed import thumbwise, told
from tests.store.conftest import make_reply
from tests.store.test_migrations_with_data import make_store


def test_an_older_store_is_upgraded_by_hand_where_that_is_wanted(tmp_path: Path) -> None:
    make_store(f"sqlite:///{tmp_path}/thumbwise.db", "0003")
    by_hand = {"THUMBWISE_STORE_UPGRADE": "by_hand"}
    due = thumbwise("migrate", "--check", "--data", str(tmp_path), **by_hand)
    assert due.exit_code == 1 and "is at revision 0003, this program wants" in due.output
    assert "thumbwise migrate" in thumbwise("doctor", "--data", str(tmp_path), **by_hand).output
    done = thumbwise("migrate", "--data", str(tmp_path), **by_hand)
    assert done.exit_code == 0 and "was at revision 0003" in done.output
    assert "nothing to do" in thumbwise("migrate", "--check", "--data", str(tmp_path)).output


def test_what_is_too_old_is_said_beside_a_running_server_and_deleted_without_one(tmp_path: Path) -> None:
    (tmp_path / "thumbwise.toml").write_text("[retention]\nunrated_text_days = 1\n")
    long_ago = make_reply("old", created_at=datetime(2025, 1, 1, tzinfo=UTC))
    with Store.open(f"sqlite:///{tmp_path}/thumbwise.db") as store:
        store.write(versions.bootstrap, "tiny")
        store.write(replies.add_reply, long_ago)
        planned = told(thumbwise("retention", "--dry-run", "--json", "--data", str(tmp_path)))
        assert (planned["unrated_texts"], planned["dry_run"]) == (1, True)
        refused = thumbwise("retention", "--data", str(tmp_path))
        assert refused.exit_code == 1 and "A running trainer deletes at retention.at: 04:30" in refused.output
    done = thumbwise("retention", "--data", str(tmp_path))
    assert done.exit_code == 0 and "1 deleted: replies that nobody rated" in done.output
    with Store.open(f"sqlite:///{tmp_path}/thumbwise.db") as store:
        assert store.read(replies.get_reply, "old").text is None
