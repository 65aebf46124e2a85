"""`thumbwise doctor` says what is unsafe about a set-up, and what to do, without repeating a secret."""

import os
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest

from benchmarks._postgres import postgres_programs, running_postgres
from thumbwise.cli import examine_limits as limits
from thumbwise.cli import examine_safety as look
from thumbwise.cli.examine import examine
from thumbwise.cli.finding import Finding
from thumbwise.config import Settings, load_settings

STRONG = "pV3x_8Kq0Zr-mB5tY1wLnD7c"


def settings_of(data: Path, toml: str = "", **environment: str) -> Settings:
    data.mkdir(exist_ok=True)
    (data / "thumbwise.toml").write_text(toml)
    return load_settings(data, environ={f"THUMBWISE_{name}": value for name, value in environment.items()})


def states(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.what: finding.state for finding in findings}


@pytest.mark.parametrize(
    ("toml", "state"),
    [
        ("", "ok"),
        ('[serving]\nhost = "::1"', "ok"),
        ('[serving]\nhost = "localhost"', "ok"),
        ('[serving]\nhost = "0.0.0.0"', "bad"),
        ('[serving]\nhost = "::"', "bad"),
        ('[serving]\nhost = "192.168.1.7"', "bad"),
        ('[serving]\nhost = "0.0.0.0"\n[access]\nbehind_tls = true', "ok"),
    ],
)
def test_an_address_that_others_reach_without_tls_is_bad(tmp_path: Path, toml: str, state: str) -> None:
    found = look.bind(settings_of(tmp_path, toml))
    assert found.state == state
    assert (state == "bad") == bool(found.do)


def test_a_webhook_that_others_reach_beside_its_proxy_is_noted(tmp_path: Path) -> None:
    toml = '[telegram]\nwebhook_url = "https://bot.example/hook"\nwebhook_host = "0.0.0.0"'
    assert states(look.webhook(settings_of(tmp_path, toml))) == {"webhook": "note"}
    assert not list(look.webhook(settings_of(tmp_path)))


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("hunter2", "has 7 characters"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "different characters"),
        ("abababababababababababab", "different characters"),
        ("thumbwise-admin-secret", "words that everybody tries"),
        ("ChangeMe-Password-123456", "words that everybody tries"),
        ("0123456789-postgres", "words that everybody tries"),
        (STRONG, None),
        ("correct-horse-battery-staple", None),
    ],
)
def test_a_secret_that_can_be_guessed_is_said_without_being_repeated(secret: str, said: str | None) -> None:
    found = look.weakness(secret)
    assert (found is None) if said is None else (found is not None and said in found and secret not in found)


def test_every_secret_is_looked_at_wherever_it_comes_from(tmp_path: Path) -> None:
    url = "postgresql://anna:postgres@db/x"
    weak = settings_of(tmp_path, ADMIN_TOKEN="changeme", RATER_KEY="aaaaaaaaaaaaaaaaaa", STORE_URL=url)
    found = list(look.secrets(weak, tmp_path))
    assert states(found) == dict.fromkeys(
        ("admin token's strength", "rater key's strength", "database password's strength"), "bad"
    )
    assert not [one for one in found if "changeme" in one.found + one.do or "aaaa" in one.found]
    (tmp_path / "admin.token").write_text(STRONG + "\n")
    assert states(look.secrets(settings_of(tmp_path), tmp_path)) == {"admin token's strength": "ok"}


def test_files_that_others_can_read_are_named_with_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "bots").mkdir()
    private = [tmp_path / "rater.key", tmp_path / "thumbwise.db", tmp_path / "bots" / "telegram.db"]
    for path in private:
        path.write_text("x")
        path.chmod(0o600)
    assert states(look.private_files(tmp_path, {})) == {"private file": "ok"}
    for path in private:
        path.chmod(0o640)
    assert [one.do for one in look.private_files(tmp_path, {})] == [f"chmod 600 {path}" for path in private]


def test_a_secrets_file_and_a_data_folder_that_others_can_read_are_noted(tmp_path: Path) -> None:
    mounted = tmp_path / "token"
    mounted.write_text(STRONG)
    mounted.chmod(0o444)
    tmp_path.chmod(0o755)
    found = list(look.private_files(tmp_path, {"THUMBWISE_ADMIN_TOKEN_FILE": str(mounted), "PATH": "/bin"}))
    assert [one.state for one in found] == ["note", "note"]
    assert "THUMBWISE_ADMIN_TOKEN_FILE" in found[0].found and STRONG not in found[0].found


def test_an_old_sqlite_is_noted_and_a_new_one_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback_store.looking.sqlite_version", lambda: (3, 51, 2))
    assert look.sqlite().state == "note" and "3.51.3" in look.sqlite().found
    monkeypatch.setattr("feedback_store.looking.sqlite_version", lambda: (3, 51, 3))
    assert look.sqlite().state == "ok"


def test_a_clock_that_is_lost_or_differs_from_the_file_systems_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(look.clock(tmp_path)) == {"clock": "ok"}
    assert not list(tmp_path.iterdir())  # it leaves nothing behind
    present = time.time()
    monkeypatch.setattr(time, "time", lambda: present + 60)
    (found,) = look.clock(tmp_path)
    assert found.state == "bad" and "-60 s" in found.found
    monkeypatch.setattr(time, "time", lambda: 3_600.0)
    assert states(look.clock(tmp_path)) == {"clock": "bad"}


def test_a_clock_is_plausible_where_nothing_can_be_written(tmp_path: Path) -> None:
    assert look.file_system_skew_s(tmp_path / "missing") is None
    assert states(look.clock(tmp_path / "missing")) == {"clock": "ok"}


def test_versions_that_were_never_tried_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        metadata, "requires", lambda name: ["torch==2.13.0; extra == 'serving'", "transformers>=5.2,<6"]
    )
    present = {"torch": "2.13.0+cpu", "transformers": "5.23.0"}
    monkeypatch.setattr(metadata, "version", present.__getitem__)
    assert states(look.versions()) == {"versions": "ok"}
    present["transformers"] = "4.57.0"
    (found,) = look.versions()
    assert found.state == "bad" and "transformers is 4.57.0" in found.found and "torch" not in found.found


def test_a_disk_that_is_almost_full_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr("thumbwise.cli.examine.shutil.disk_usage", lambda place: usage)
    found = {finding.what: finding for finding in examine(tmp_path, None)}
    assert found["disk"].state == "bad" and "2 GiB" in found["disk"].do
    assert found["address"].state == "ok"  # safety is looked at in the same breath


def test_a_database_that_is_not_there_is_said_within_seconds(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, STORE_URL=f"postgresql://anna@/x?host={tmp_path}")
    assert states(look.postgres(settings)) == {"database": "bad"}


@pytest.mark.postgres
@pytest.mark.skipif(postgres_programs() is None, reason="no PostgreSQL server's programs on this machine")
def test_a_database_says_its_version_and_what_could_lose_votes(tmp_path: Path) -> None:
    with running_postgres() as server:  # it is started without fsync, for speed
        found = states(look.postgres(settings_of(tmp_path, STORE_URL=server.format(database="postgres"))))
    assert found["database"] == "ok" and found["database's disk"] == "bad" and found["database's user"] == "note"
    assert "database's clock" not in found and "way to the database" not in found


def test_the_environment_is_not_changed_by_looking(tmp_path: Path) -> None:
    before = dict(os.environ)
    list(look.examine_safety(tmp_path, settings_of(tmp_path), {}))
    assert dict(os.environ) == before and [path.name for path in tmp_path.iterdir()] == ["thumbwise.toml"]


VLLM = '[policy]\nengine = "vllm"\n[vllm]\nreplicas = ["http://{}:8000"]'


@pytest.mark.parametrize(
    ("host", "key", "found"),
    [
        ("127.0.0.1", None, {}),
        ("10.0.0.5", None, {"vLLM key": "note"}),
        ("10.0.0.5", "changeme", {"vLLM key's strength": "bad"}),
        ("10.0.0.5", STRONG, {}),
    ],
)
def test_a_vllm_that_others_could_use_is_told(tmp_path: Path, host: str, key: str | None, found: dict) -> None:
    settings = settings_of(tmp_path, VLLM.format(host), **({"VLLM_API_KEY": key} if key else {}))
    assert states(limits.vllm_key(settings)) == found
    assert not list(limits.vllm_key(settings_of(tmp_path)))


def test_fewer_files_than_connections_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, "[serving]\nmax_connections = 1000")
    monkeypatch.setattr("serving.api.server.files_allowed", lambda: 1000)
    assert limits.open_files(settings).state == "note" and "744 connections" in limits.open_files(settings).found
    monkeypatch.setattr("serving.api.server.files_allowed", lambda: 1256)
    assert limits.open_files(settings).state == "ok"
    monkeypatch.setattr("serving.api.server.files_allowed", lambda: None)
    assert limits.open_files(settings).state == "ok"


def test_votes_without_limit_are_noted_where_others_reach_the_server(tmp_path: Path) -> None:
    endless = "[serving]\nvotes_per_minute = 0\n"
    assert not list(limits.vote_rate(settings_of(tmp_path, endless)))
    assert states(limits.vote_rate(settings_of(tmp_path, endless + 'host = "0.0.0.0"'))) == {"votes": "note"}
    assert not list(limits.vote_rate(settings_of(tmp_path, '[serving]\nhost = "0.0.0.0"')))


def test_running_as_root_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert states(limits.user()) == {"user": "note"}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not list(limits.user())
