"""`thumbwise keys`: new secrets in place of old ones, and what is said about them."""

import json
from pathlib import Path

import pytest

from bot.button_keys import button_secrets
from feedback_store import audit, raters
from feedback_store.access.sessions import begin_session
from feedback_store.access.users import add_user
from feedback_store.store import Store
from tests.command.typed import thumbwise
from thumbwise.cli.compose import open_store
from thumbwise.cli.data_folder import rater_keys
from thumbwise.config import ConfigError, load_settings
from thumbwise.rating.buttons import Act, Button, ButtonRefused, ButtonSigner


def test_a_rotated_rater_key_is_made_before_the_former_one_which_goes_when_it_is_dropped(tmp_path: Path) -> None:
    first = raters.load_or_create_key(tmp_path / "rater.key")
    result = thumbwise("keys", "rotate", "rater", "--data", str(tmp_path))
    assert result.exit_code == 0 and "Restart every server" in result.output
    newest, former = rater_keys(load_settings(tmp_path, environ={}))
    assert former == first != newest
    assert thumbwise("keys", "drop", "rater", "--data", str(tmp_path)).exit_code == 0
    assert rater_keys(load_settings(tmp_path, environ={})) == (newest,)


def test_keys_of_the_environment_are_a_line_each_and_nobody_elses_to_change(tmp_path: Path) -> None:
    both = {"THUMBWISE_RATER_KEY": "n" * 32 + "\n" + "k" * 32 + "\n"}
    assert rater_keys(load_settings(tmp_path, environ=both)) == (b"n" * 32, b"k" * 32)
    with pytest.raises(ConfigError, match="RATER_KEY has 5 characters"):
        load_settings(tmp_path, environ={"THUMBWISE_RATER_KEY": "n" * 32 + "\nshort"})
    result = thumbwise("keys", "rotate", "rater", "--data", str(tmp_path), **both)
    assert result.exit_code == 1 and "put the new key on a line above the former one" in result.output


def test_a_rotated_admin_token_is_another_one_for_its_owner_alone(tmp_path: Path) -> None:
    token = tmp_path / "admin.token"
    token.write_text("the token before\n")
    assert thumbwise("keys", "rotate", "admin", "--data", str(tmp_path)).exit_code == 0
    assert len(token.read_text()) > 40 and token.stat().st_mode & 0o777 == 0o600


def test_buttons_signed_before_a_rotation_work_for_the_days_that_were_said(tmp_path: Path) -> None:
    scope, token, button = "telegram:1", "1:token", Button(Act.THUMB_UP, "reply")

    def signer() -> ButtonSigner:
        return ButtonSigner(button_secrets(tmp_path / "bots", token), scope)

    of_the_token = ButtonSigner(token, scope).data(button, 7)
    before = signer().data(button, 7)
    assert signer().read(of_the_token, 7, 5) == button, "signed before there was a key of its own"
    assert "work until" in thumbwise("keys", "rotate", "buttons", "--data", str(tmp_path)).output
    assert signer().read(before, 7, 5) == button
    thumbwise("keys", "rotate", "buttons", "--grace-days", "0", "--data", str(tmp_path))
    assert signer().read(before, 7, 5) == button, "its own days are not over"
    thumbwise("keys", "drop", "buttons", "--data", str(tmp_path))
    with pytest.raises(ButtonRefused):
        signer().read(before, 7, 5)


def test_everybody_is_signed_out_and_the_log_says_so(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/thumbwise.db") as store:
        store.write(begin_session, store.write(add_user, "anna", "admin").user_id, 1.0)
        while_it_runs = thumbwise("keys", "rotate", "sign-ins", "--data", str(tmp_path))
        assert while_it_runs.exit_code == 1 and "already written by process" in while_it_runs.output
    assert "1 sign-ins are ended" in thumbwise("keys", "rotate", "sign-ins", "--data", str(tmp_path)).output
    with open_store(load_settings(tmp_path, environ={})) as store:
        assert [line.action for line in store.read(audit.entries)] == ["session.end_all"]


def test_the_list_says_where_each_secret_is_and_shows_none(tmp_path: Path) -> None:
    key = raters.load_or_create_key(tmp_path / "rater.key")
    thumbwise("keys", "rotate", "rater", "--data", str(tmp_path))
    result = thumbwise("keys", "list", "--json", "--data", str(tmp_path), THUMBWISE_ADMIN_TOKEN="a-secret-token-here")
    found = {row["name"]: row for row in json.loads(result.stdout)}
    assert found["rater"]["former keys"] == "until dropped"
    assert found["admin"]["where"] == "THUMBWISE_ADMIN_TOKEN"
    assert "made at the first start" in found["buttons"]["where"]
    assert "a-secret-token-here" not in result.output and key.hex() not in result.output
