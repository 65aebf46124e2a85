"""Settings: file, environment and flags in their order; and errors that a person can act on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from thumbwise import config
from thumbwise.config import ConfigError, load_settings, models_dir_of, without_password


def written(data_dir: Path, text: str) -> Path:
    path = data_dir / "thumbwise.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(data_dir: Path, environ: dict[str, str] | None = None, text: str = "", **flags: object) -> list[str]:
    written(data_dir, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(data_dir, environ=environ or {}, flags=flags)
    return caught.value.problems


def test_without_anything_the_defaults_are_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECKOUT", tmp_path / "packages")
    settings = load_settings(tmp_path, environ={})
    assert settings.serving.port == 8080
    assert settings.models_dir == tmp_path / "models"
    assert settings.origins == {}


def test_a_model_that_make_has_fetched_is_found_and_one_in_the_data_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CHECKOUT", tmp_path / "checkout")
    own, of_make = tmp_path / "data" / "models", tmp_path / "checkout" / ".models"
    assert models_dir_of(tmp_path / "data", {}) == own
    of_make.mkdir(parents=True)
    assert models_dir_of(tmp_path / "data", {}) == of_make
    assert load_settings(tmp_path / "data", environ={}).models_dir == of_make
    own.mkdir(parents=True)
    assert models_dir_of(tmp_path / "data", {}) == own
    assert models_dir_of(tmp_path / "data", {"THUMBWISE_MODELS_DIR": "/models"}) == Path("/models")


def test_a_section_within_a_section_is_read_from_file_and_environment(tmp_path: Path) -> None:
    written(tmp_path, '[sign_in.github]\nclient_id = "Iv1.abc"\n')
    environ = {
        "THUMBWISE_GITHUB_CLIENT_SECRET": "hush",
        "THUMBWISE_SIGN_IN_DISCORD_CLIENT_ID": "42",
        "THUMBWISE_DISCORD_CLIENT_SECRET": "hush too",
    }
    settings = load_settings(tmp_path, environ=environ)
    assert (settings.sign_in_github.client_id, settings.github_client_secret) == ("Iv1.abc", "hush")
    assert (settings.sign_in_discord.client_id, settings.discord_client_secret) == ("42", "hush too")
    assert settings.section("sign_in.github") == settings.sign_in_github
    assert settings.origins["sign_in.github.client_id"].endswith("thumbwise.toml line 2")
    assert settings.origins["sign_in.discord.client_id"] == "THUMBWISE_SIGN_IN_DISCORD_CLIENT_ID"
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "environ", "wanted"),
    [
        ("[sign_in.github]\nclient_id = 'a'", {}, "THUMBWISE_GITHUB_CLIENT_SECRET (or …_FILE) is not"),
        ("", {"THUMBWISE_DISCORD_CLIENT_SECRET": "x"}, "sign_in.discord.client_id is not"),
        ("[sign_in.gitlab]\nclient_id = 'a'", {}, "unknown section [sign_in.gitlab]; did you mean [sign_in.github]?"),
        ("[sign_in]\nclient_id = 'a'", {}, "sign_in.client_id stands in no section; did you mean sign_in."),
        ("[sign_in.github]\nclient_di = 'a'", {}, "did you mean sign_in.github.client_id?"),
        ("[sign_in.github]\nurl = 'http://github.example'", {}, "wanted: an address that begins with https://"),
        ("[sign_in.discord]\nclient_id = 42", {}, "wanted: a valid string"),
    ],
)
def test_a_sign_in_that_cannot_work_is_said_at_the_start(
    tmp_path: Path, text: str, environ: dict[str, str], wanted: str
) -> None:
    (problem,) = problems_of(tmp_path, environ, text)
    assert wanted in problem


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    written(tmp_path, "[serving]\nport = 1\nmax_batch = 4\nqueue_limit = 9\n")
    environ = {"THUMBWISE_SERVING_PORT": "2", "THUMBWISE_SERVING_MAX_BATCH": "5"}
    settings = load_settings(tmp_path, environ=environ, flags={"serving.port": 3, "serving.host": None})
    assert (settings.serving.port, settings.serving.max_batch, settings.serving.queue_limit) == (3, 5, 9)
    assert settings.origins["serving.port"] == "--port"
    assert settings.origins["serving.max_batch"] == "THUMBWISE_SERVING_MAX_BATCH"
    assert settings.origins["serving.queue_limit"].endswith("thumbwise.toml line 4")


def test_an_unknown_key_names_the_nearest_known_one_and_its_line(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, text="# mine\n[serving]\nhost = 'localhost'\nprot = 80\n")
    assert "thumbwise.toml line 4: unknown key serving.prot; did you mean serving.port?" in problem


def test_a_key_of_another_section_is_pointed_to_its_own(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, text="[serving]\nbase_model = 'x'\n")
    assert "did you mean policy.base_model?" in problem


def test_an_unknown_section_and_a_key_in_none_are_named(tmp_path: Path) -> None:
    first, second = problems_of(tmp_path, text="port = 80\n\n[servin]\nport = 80\n")
    assert "line 1: port stands in no section; did you mean serving.port?" in first
    assert "line 3: unknown section [servin]; did you mean [serving]?" in second


def test_an_unknown_variable_names_the_nearest_known_one(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, {"THUMBWISE_SERVING_PROT": "80"})
    assert problem == "unknown variable THUMBWISE_SERVING_PROT; did you mean THUMBWISE_SERVING_PORT?"


def test_variables_of_tests_and_of_other_programs_are_let_be(tmp_path: Path) -> None:
    load_settings(tmp_path, environ={"THUMBWISE_CHROMIUM": "/bin/true", "PATH": "/bin", "THUMBWISE_URL": "http://h"})


def test_a_value_out_of_range_names_value_wanted_and_origin(tmp_path: Path) -> None:
    found = problems_of(tmp_path, {"THUMBWISE_SERVING_PORT": "99999"}, "[lora]\nrank = 0\n[policy]\ndtype = 'int1'\n")
    assert any(
        "THUMBWISE_SERVING_PORT: serving.port is '99999'; wanted: less than or equal to 65535" in p for p in found
    )
    assert any("line 2: lora.rank is 0; wanted: greater than or equal to 1" in p for p in found)
    assert any("line 4: policy.dtype is 'int1'; wanted: 'auto', 'float32'" in p for p in found)


def test_broken_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, text="[serving]\nport = = 1\n")
    assert "line 2" in problem


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load_settings(tmp_path, tmp_path / "absent.toml", environ={})


def test_lists_come_from_the_environment_between_commas(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={"THUMBWISE_LORA_TARGET_MODULES": "q_proj, v_proj"})
    assert settings.lora.target_modules == ("q_proj", "v_proj")
    settings = load_settings(tmp_path, environ={"THUMBWISE_WEB_EXAMPLES": '["Short, please.", "Why?"]'})
    assert settings.web.examples == ("Short, please.", "Why?")
    (problem,) = problems_of(tmp_path, {"THUMBWISE_WEB_EXAMPLES": "[oh"})
    assert problem.startswith("THUMBWISE_WEB_EXAMPLES: web.examples is '[oh'; wanted:")


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-long-admin-token\n")
    settings = load_settings(tmp_path, environ={"THUMBWISE_ADMIN_TOKEN_FILE": str(tmp_path / "secret")})
    assert settings.admin_token == "a-long-admin-token"
    assert "a-long-admin-token" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"THUMBWISE_ADMIN_TOKEN": "x", "THUMBWISE_ADMIN_TOKEN_FILE": "y"}, "keep one of them"),
        ({"THUMBWISE_ADMIN_TOKEN_FILE": "/no/such/file"}, "cannot be read"),
        ({"THUMBWISE_ADMIN_TOKEN": ""}, "is empty"),
        ({"THUMBWISE_RATER_KEY": "short"}, "at least 16"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    (problem,) = problems_of(tmp_path, environ)
    assert message in problem


def test_a_password_in_the_file_is_refused_and_one_from_the_environment_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql://anna:hunter2@db/thumbwise"
    (problem,) = problems_of(tmp_path, text=f"[store]\nurl = '{url}'\n")
    assert "THUMBWISE_STORE_URL_FILE" in problem and "hunter2" not in problem
    written(tmp_path, "")
    settings = load_settings(tmp_path, environ={"THUMBWISE_STORE_URL": url})
    assert settings.store.url == url
    assert without_password(url) == "postgresql://anna:***@db/thumbwise"


def test_vllm_without_an_address_is_refused_and_its_addresses_are_plain(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, {"THUMBWISE_POLICY_ENGINE": "vllm"})
    assert problem.startswith("policy.engine is 'vllm', but vllm.replicas is empty")
    for address in ("10.0.0.5:8000", "ftp://host", "http://host:port", "http://host/v1", "http://host?x=1"):
        (problem,) = problems_of(tmp_path, {"THUMBWISE_VLLM_REPLICAS": address})
        assert "vllm.replicas" in problem
    settings = load_settings(tmp_path, environ={"THUMBWISE_VLLM_REPLICAS": "http://a:1/, https://b/prefix"})
    assert settings.vllm.replicas == ("http://a:1", "https://b/prefix")


def test_a_name_that_a_server_answers_to_is_a_name_alone(tmp_path: Path) -> None:
    for name in ("https://chat.example", "chat.example:443", "*.example", "a b", "/"):
        (problem,) = problems_of(tmp_path, {"THUMBWISE_SERVING_ALLOWED_HOSTS": name})
        assert "wanted: names alone" in problem
    settings = load_settings(tmp_path, environ={"THUMBWISE_SERVING_ALLOWED_HOSTS": "chat.example, serving"})
    assert settings.serving.allowed_hosts == ("chat.example", "serving")


def test_the_server_is_told_the_names_that_it_answers_to(tmp_path: Path) -> None:
    from thumbwise.cli.compose import _context

    environ = {"THUMBWISE_SERVING_ALLOWED_HOSTS": "chat.example", "THUMBWISE_RATER_KEY": "k" * 16}
    part: Any = SimpleNamespace(pointer_moved=None, prepare=None)
    context = _context(load_settings(tmp_path, environ=environ), part, part, part, "token")
    assert context.extra_hosts == ("chat.example",)


def test_a_kind_of_adapter_that_could_not_be_trained_or_served_is_refused(tmp_path: Path) -> None:
    vllm = {"THUMBWISE_POLICY_ENGINE": "vllm", "THUMBWISE_VLLM_REPLICAS": "http://a:1"}
    (problem,) = problems_of(tmp_path, vllm | {"THUMBWISE_LORA_KIND": "dora"})
    assert "vLLM does not serve" in problem
    assert load_settings(tmp_path, environ=vllm | {"THUMBWISE_LORA_KIND": "rslora"}).lora.kind == "rslora"
    (problem,) = problems_of(tmp_path, {"THUMBWISE_LORA_FOUR_BIT_BASE": "true", "THUMBWISE_POLICY_DEVICE": "cpu"})
    assert "for CUDA alone" in problem


def test_no_secret_of_the_vllm_servers_is_shown(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, {"THUMBWISE_VLLM_REPLICAS": "http://anna:hunter2@host"})
    assert "hunter2" not in problem and "THUMBWISE_VLLM_API_KEY" in problem
    (problem,) = problems_of(tmp_path, {"THUMBWISE_VLLM_API_KEY": "hunter2\nx"})
    assert "hunter2" not in problem
    settings = load_settings(tmp_path, environ={"THUMBWISE_VLLM_API_KEY": "hunter2"})
    assert settings.vllm_api_key == "hunter2" and "hunter2" not in repr(settings)
