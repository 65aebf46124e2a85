"""The command against a real server over a tiny model: what people type, what they read, and how it ends."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.command.conftest import Running, start_server, stop_server
from tests.databases import ask, url_of
from tests.waiting import until
from thumbwise.cli import main
from thumbwise.cli.gate_table import print_gate
from thumbwise.cli.versions import _print_move
from thumbwise.client import Deployment


def thumbwise(*arguments: str, stdin: str | None = None, **environ: str | None) -> Result:
    """Run the command; variables of the machine that runs the tests do not count."""
    clean: dict[str, str | None] = dict.fromkeys(("THUMBWISE_URL", "THUMBWISE_DATA", "THUMBWISE_ADMIN_TOKEN"))
    return CliRunner().invoke(main, list(arguments), input=stdin, env={**clean, **environ})


def test_help_names_every_command() -> None:
    result = thumbwise("--help")
    names = (
        "up", "serve", "train", "chat", "round", "version", "readiness", "feedback", "candidates", "raters", "packs",
        "demo", "config", "doctor", "backup", "restore", "migrate", "retention", "keys",
    )  # fmt: skip
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in names)


def test_up_keeps_everything_under_its_data_folder_and_its_secrets_private(running: Running) -> None:
    token = running.data_dir / "admin.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text().strip() in running.printed.read_text()
    assert running.url in running.printed.read_text()
    assert ask(url_of(running.data_dir), "SELECT count(*) FROM policy_versions WHERE state = 'live'") == [(1,)]


def test_chat_streams_a_reply_and_keeps_a_thumb(running: Running) -> None:
    data = str(running.data_dir)
    result = thumbwise(
        "chat", "--data", data, "--max-tokens", "8", stdin="hello\n/down too short\n/undo\n/what\n/quit\n"
    )
    assert result.exit_code == 0, result.output
    assert "👎 kept" in result.output and "taken back" in result.output and "version 1" in result.output
    once = thumbwise("chat", "--data", data, "--once", "hello", "--max-tokens", "4")
    assert once.exit_code == 0


def test_lists_are_tables_for_people_and_json_for_programs(running: Running) -> None:
    data = str(running.data_dir)
    assert "live" in thumbwise("version", "list", "--data", data).stdout
    (base,) = json.loads(thumbwise("version", "list", "--json", "--data", data).stdout)
    assert (base["version"], base["state"], base["adapter_sha256"]) == (1, "live", None)
    assert json.loads(thumbwise("round", "list", "--json", "--data", data).stdout) == []
    assert json.loads(thumbwise("readiness", "--json", "--data", data).stdout)["ready"] is False
    said = thumbwise("readiness", "--data", data).stdout
    assert "200 more thumbs, 50 of them down" in said and "agreement: not known" in said


def test_the_live_version_cannot_be_a_canary_and_what_did_not_begin_cannot_stop(running: Running) -> None:
    data = str(running.data_dir)
    refused = thumbwise("version", "canary", "1", "--share", "0.2", "--data", data)
    assert refused.exit_code == 1 and "version 1 is live" in refused.stderr
    nothing = thumbwise("version", "canary-stop", "--data", data)
    assert nothing.exit_code == 1 and "no version is a canary" in nothing.stderr
    assert thumbwise("version", "canary", "2", "--share", "1", "--data", data).exit_code == 2


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("canary", "version 3 answers 12.5 % of the conversations beside version 2"),
        ("canary_stop", "version 3 is no canary any more; version 2 answers everybody"),
        ("promote", "version 3 is live; before it was version 2"),
    ],
)
def test_every_move_is_told_in_words(action: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    move = Deployment(7, action, 3, 2, share=0.125 if action == "canary" else None)
    _print_move(move, as_json=False)
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_round_without_feedback_is_refused_with_what_is_missing(running: Running) -> None:
    result = thumbwise("round", "start", "--data", str(running.data_dir))
    assert result.exit_code == 1
    assert "too little feedback" in result.stderr and "raters" in result.stderr
    assert "Traceback" not in result.output


def test_there_is_nothing_to_roll_back_to_before_the_first_promotion(running: Running) -> None:
    data = str(running.data_dir)
    assert thumbwise("version", "rollback", "--data", data).exit_code == 1
    moved = thumbwise("version", "promote", "1", "--data", data, "--expected-live", "7")
    assert moved.exit_code == 1 and "7" in moved.stderr


def test_feedback_leaves_and_comes_back_unchanged_in_number(running: Running, tmp_path: Path) -> None:
    data = str(running.data_dir)
    row = {
        "prompt": [{"role": "user", "content": "Name a bird."}],
        "completion": [{"role": "assistant", "content": "Robin."}],
        "label": True,
    }
    lines = tmp_path / "in.jsonl"
    lines.write_text(json.dumps(row) + "\n")
    assert thumbwise("feedback", "import", str(lines), "--data", data).exit_code == 0
    for name in ("out.jsonl", "out.parquet"):
        out = tmp_path / name
        result = thumbwise("feedback", "export", "--out", str(out), "--channel", "import", "--data", data)
        assert result.exit_code == 0, result.output
        assert "1 rows written" in result.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text())["completion"][0]["content"] == "Robin."
    again = thumbwise("feedback", "import", str(tmp_path / "out.jsonl"), "--data", data, "--json")
    assert again.exit_code == 0, again.output
    assert thumbwise("feedback", "export", "--out", "x.csv", "--data", data).exit_code == 2


def test_a_wrong_token_is_refused_in_words(running: Running) -> None:
    result = thumbwise("round", "list", "--data", str(running.data_dir), THUMBWISE_ADMIN_TOKEN="wrong")
    assert result.exit_code == 1 and "token" in result.stderr


def test_a_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    result = thumbwise("version", "list", "--url", "http://127.0.0.1:9", "--data", str(tmp_path))
    assert result.exit_code == 1 and "Is the server up?" in result.stderr


def test_doctor_finds_the_running_server_and_says_what_is_wrong(running: Running) -> None:
    result = thumbwise("doctor", "--json", "--data", str(running.data_dir))
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert findings["server"]["state"] == "ok"
    assert findings["admin token"]["state"] == "ok"
    assert result.exit_code == 0


def test_doctor_without_anything_advises_to_begin(tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("x")
    (tmp_path / "admin.token").chmod(0o644)
    (tmp_path / "thumbwise.toml").write_text("[serving]\nprot = 1\n")
    result = thumbwise("doctor", "--data", str(tmp_path))
    assert result.exit_code == 1
    assert "chmod 600" in result.stdout and "serving.port" in result.stdout


def test_config_show_says_where_a_value_came_from_and_hides_a_password(tmp_path: Path) -> None:
    (tmp_path / "thumbwise.toml").write_text("[lora]\nrank = 4\n")
    url = "postgresql://anna:hunter2@db/x"
    result = thumbwise("config", "show", "--data", str(tmp_path), THUMBWISE_STORE_URL=url)
    assert "rank = 4" in result.stdout and "line 2" in result.stdout
    assert "hunter2" not in result.stdout
    shown = json.loads(thumbwise("config", "show", "--json", "--data", str(tmp_path)).stdout)
    assert shown["settings"]["lora"]["rank"] == 4


def test_what_config_show_prints_is_a_settings_file(tmp_path: Path) -> None:
    shown = thumbwise("config", "show", "--data", str(tmp_path)).stdout
    (tmp_path / "thumbwise.toml").write_text(shown)
    assert thumbwise("config", "check", "--data", str(tmp_path)).exit_code == 0


def test_config_check_says_every_mistake(tmp_path: Path) -> None:
    (tmp_path / "thumbwise.toml").write_text("[lora]\nrnak = 4\n[serving]\nport = -1\n")
    result = thumbwise("config", "check", "--data", str(tmp_path))
    assert result.exit_code == 1
    assert "lora.rank" in result.stderr and "serving.port is -1" in result.stderr


@pytest.mark.sqlite("several servers over one PostgreSQL are welcome")
def test_two_servers_over_one_folder_are_refused_in_words(running: Running) -> None:
    result = thumbwise("up", "--port", "0", "--data", str(running.data_dir))
    assert result.exit_code == 1 and "Is another server running" in result.stderr


def test_a_taken_port_is_said_before_anything_is_loaded(running: Running, tmp_path: Path) -> None:
    port = running.url.rpartition(":")[2]
    result = thumbwise("up", "--port", port, "--data", str(tmp_path))
    assert result.exit_code == 1 and "--port" in result.stderr


def test_a_token_that_is_there_is_kept_and_not_shown_and_a_stopped_server_leaves_no_note(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    (tmp_path / "admin.token").write_text("the-token-of-before\n")
    server = start_server(tmp_path, tiny_model_dir)
    assert "the-token-of-before" not in server.printed.read_text()
    assert thumbwise("version", "list", "--data", str(tmp_path)).exit_code == 0
    assert stop_server(server) == 0
    assert not (tmp_path / "server.json").exists()
    assert "Traceback" not in server.printed.read_text()


def test_a_gates_report_is_a_table_and_says_in_words_what_did_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [
        {"name": "kl_live", "value": 3.25, "interval": [3, 4], "threshold": 8, "hard": True, "outcome": "pass"},
        {"name": "short", "value": None, "interval": None, "threshold": [0, 1], "outcome": "fail", "reason": "too [b]"},
    ]
    print_gate({"outcome": "fail", "checks": checks})
    printed = capsys.readouterr().out
    assert "gate: fail" in printed and "[3, 4]" in printed and "blocks" in printed
    assert "short: too [b]" in printed


def test_a_demo_that_is_told_to_end_takes_its_server_with_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "demo"
    command = [sys.executable, "-m", "thumbwise", "demo", "--base-model", str(tiny_model_dir), "--data", str(data)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo:
        until(lambda: (data / "server.json").exists() or demo.poll() is not None, "the server to start")
        server = json.loads((data / "server.json").read_text())["pid"]
        demo.terminate()
        assert demo.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
