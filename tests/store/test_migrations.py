"""The schema's history ends in the schema that the queries are written for, on both databases."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, inspect, text

import feedback_store.migrations
from feedback_store import versions
from feedback_store.errors import StoreError
from feedback_store.schema import REVISION, metadata
from feedback_store.store import Store
from tests.databases import Choice
from tests.store.conftest import BASE_MODEL

FOLDER = Path(feedback_store.migrations.__file__).parent


def is_a_table_of_ours(name: str | None, kind: str, parents: object) -> bool:
    """The index of words is no table that both databases know: `inbox_news.py` makes it."""
    return kind != "table" or not str(name).startswith("inbox_words")


def test_a_migrated_database_has_the_schema_that_the_queries_use(store_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        opts = {"compare_type": True, "compare_server_default": True, "include_name": is_a_table_of_ours}
        context = MigrationContext.configure(connection, opts=opts)
        return list(compare_metadata(context, metadata))

    def checks(connection: Connection) -> dict[str, set[str]]:
        return {
            name: {str(check["name"]) for check in inspect(connection).get_check_constraints(name)}
            for name in metadata.tables
        }

    with Store.open(store_url) as store:
        assert store.read(differences) == []
        found = store.read(checks)
    wanted = {
        name: {str(one.name) for one in table.constraints if isinstance(one, CheckConstraint)}
        for name, table in metadata.tables.items()
    }
    prefixed = {name: {f"ck_{name}_{check}" for check in names} for name, names in wanted.items()}
    assert found in (prefixed, wanted)


def test_the_newest_revision_is_the_one_that_a_start_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [REVISION]
    assert len(list(script.walk_revisions())) == len(list((FOLDER / "versions").glob("revision_*.py")))


def test_opening_again_changes_nothing(store_url: str) -> None:
    for _ in range(2):
        with Store.open(store_url) as store:
            store.write(versions.bootstrap, BASE_MODEL)
            assert store.read(versions.pointer_revision) == 1


def test_an_upgrade_keeps_the_pointer_and_the_log_and_goes_on_counting(
    store_url: str,
) -> None:
    """From revision 0001, as a store of the first release has it, with two moves in its log."""
    with Store.open(store_url) as store:
        store.write(_back_to_the_first_revision)
    with Store.open(store_url) as store:
        assert store.read(versions.live_version).version == 2
        assert store.read(versions.pointer_revision) == 5
        log = store.read(versions.deployments)
        assert [(move.deployment_id, move.action, move.share) for move in log] == [
            (2, "promote", None),
            (1, "bootstrap", None),
        ]
        moved = store.write(versions.start_canary, 1, 0.5, actor="a", reason="r")
        assert (moved.deployment_id, moved.share) == (3, 0.5)


def _back_to_the_first_revision(connection: Connection) -> None:
    connection.execute(text("DROP TABLE inbox_words"))
    for table in reversed(metadata.sorted_tables):
        connection.execute(text(f"DROP TABLE {table.name}"))
    connection.execute(text("DROP TABLE alembic_version"))
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    at = "'2026-01-02 03:04:05'"
    for statement in (
        f"INSERT INTO policy_versions VALUES (1, 'retired', 'b', NULL, NULL, NULL, NULL, NULL, '{{}}', {at})",
        f"INSERT INTO policy_versions VALUES (2, 'live', 'b', 'aa', 1, 'kto', NULL, NULL, '{{}}', {at})",
        "INSERT INTO live_pointer VALUES (1, 2, 5)",
        "INSERT INTO deployments (action, version, from_version, actor, reason, forced, at)"
        f" VALUES ('bootstrap', 1, NULL, 'a', 'r', false, {at}), ('promote', 2, 1, 'a', 'r', false, {at})",
    ):
        connection.execute(text(statement))


def test_a_database_of_a_newer_program_is_left_alone(store_url: str) -> None:
    with Store.open(store_url) as store:
        store.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(StoreError, match="is at schema revision '9999', this program knows up to"):
        Store.open(store_url)


def test_a_start_on_a_database_that_is_up_to_date_does_not_load_alembic(one_url: str) -> None:
    heavy = {"alembic", "pyarrow", "numpy", "torch", "psycopg"} - ({"psycopg"} if Choice.postgres else set())
    program = (
        "import sys; from feedback_store.store import Store; from feedback_store import exports\n"
        f"Store.open({one_url!r}).close()\n"
        f"heavy = {heavy!r} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
