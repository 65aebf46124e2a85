"""`thumbwise backup` and `thumbwise restore` as somebody types them, with a real server at the end."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks._adapters_made import sealed_policy
from feedback_store import raters, versions
from feedback_store.store import Store
from serving.engine.base_model import fingerprint
from tests.command.conftest import start_server, stop_server
from tests.command.typed import thumbwise, told


@pytest.fixture
def data(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """A data folder in which version 2 is live, as a stopped server leaves it."""
    folder = tmp_path / "data"
    base_model = fingerprint(tiny_model_dir)
    with Store.open(f"sqlite:///{folder}/thumbwise.db") as store:
        store.write(versions.bootstrap, base_model)
        policy = sealed_policy(folder, tiny_model_dir, version=2, seed=1)
        made: dict[str, Any] = {"base_model": base_model, "adapter_sha256": policy.adapter_sha256, "parent": 1}
        made |= {"method": "kto", "round_id": None, "gate_report": None, "metrics": {}}
        store.write(lambda connection: versions.add_candidate(connection, **made))
        store.write(versions.promote, 2, actor="test", reason="")
        store.write(
            raters.ensure_rater, raters.rater_id_of(raters.load_or_create_key(folder / "rater.key"), "web", "a"), "web"
        )
    (folder / "admin.token").write_text("a-token-of-the-test-0123456789\n")
    (folder / "thumbwise.toml").write_text("[serving]\nthreads = 1\n")
    return folder


def test_what_was_backed_up_serves_its_live_version_on_another_machine(
    data: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    made = told(thumbwise("backup", "--data", str(data), "--out", str(tmp_path / "safe"), "--json"))
    assert made["live_version"] == 2 and made["adapters"] == 1
    assert made["secret"] == ["keys/admin.token", "keys/rater.key"]
    assert "thumbwise.toml" in made["files"]
    new = tmp_path / "new"
    back = told(thumbwise("restore", made["file"], "--data", str(new), "--json"))
    assert back["placed"] == ["rater.key", "admin.token", "thumbwise.toml"]
    assert (new / "rater.key").read_bytes() == (data / "rater.key").read_bytes()
    server = start_server(new, tiny_model_dir)
    try:
        said = thumbwise("chat", "--data", str(new), "--max-tokens", "4", stdin="sing\n/quit\n")
        shown = told(thumbwise("version", "show", "2", "--data", str(new), "--json"))
    finally:
        assert stop_server(server) == 0
    assert said.exit_code == 0 and "version 2" in said.output
    assert shown["state"] == "live"
    assert "cannot be served" not in server.printed.read_text()


def test_a_backup_is_looked_at_without_restoring_it(data: Path, tmp_path: Path) -> None:
    thumbwise("backup", "--data", str(data), "--out", str(tmp_path / "a.backup"), "--without-keys")
    result = thumbwise("restore", str(tmp_path / "a.backup"), "--check")
    assert result.exit_code == 0, result.output
    assert "live version 2; 1 adapters" in result.output and "secret" not in result.output
    again = thumbwise("backup", "--data", str(data), "--out", str(tmp_path / "a.backup"))
    assert again.exit_code == 1 and "is there already" in again.output


def test_only_the_newest_backups_are_kept_and_only_ours_are_deleted(data: Path) -> None:
    folder = data / "backups"
    folder.mkdir()
    for name in ("thumbwise-20250101-000000.backup", "thumbwise-20250102-000000.backup", "mine.backup"):
        (folder / name).touch()
    made = told(thumbwise("backup", "--data", str(data), "--keep", "2", "--json"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "mine.backup", "thumbwise-20250102-000000.backup", Path(made["file"]).name,
    ]  # fmt: skip
    assert (Path(made["file"]).stat().st_mode & 0o777, made["deleted"]) == (
        0o600, [str(folder / "thumbwise-20250101-000000.backup")],
    )  # fmt: skip


def test_another_key_in_the_environment_is_refused_before_anything_is_touched(data: Path, tmp_path: Path) -> None:
    thumbwise("backup", "--data", str(data), "--out", str(tmp_path / "a.backup"))
    result = thumbwise(
        "restore", str(tmp_path / "a.backup"), "--data", str(tmp_path / "new"), THUMBWISE_RATER_KEY="k" * 32
    )
    assert result.exit_code == 1 and "another key than the backup's" in result.output
    assert not (tmp_path / "new").exists()


def test_settings_that_name_a_store_wait_for_somebodys_hand(data: Path, tmp_path: Path) -> None:
    (data / "thumbwise.toml").write_text(f'[store]\nurl = "sqlite:///{data}/thumbwise.db"\n')
    thumbwise("backup", "--data", str(data), "--out", str(tmp_path / "a.backup"))
    new = tmp_path / "new"
    back = told(thumbwise("restore", str(tmp_path / "a.backup"), "--data", str(new), "--json"))
    assert "thumbwise.toml.restored" in back["placed"] and not (new / "thumbwise.toml").exists()


def test_a_live_version_without_its_adapter_is_no_backup(data: Path, tmp_path: Path) -> None:
    (data / "adapters").rename(tmp_path / "elsewhere")
    result = thumbwise("backup", "--data", str(data))
    assert result.exit_code == 1 and "version 2 is live, and its adapter" in result.output
    assert list((data / "backups").iterdir()) == []
    assert told(thumbwise("backup", "--data", str(data), "--without-adapters", "--json"))["adapters"] == 0
