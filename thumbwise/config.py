"""Settings: one TOML file, the environment over it, flags over both; every role's own models put together.

A key that nobody knows is an error that names the nearest known one and where it stands, because a misspelt setting
that is silently dropped is the slowest of all bugs. All problems are reported at once. Where each value came from is
remembered, for `thumbwise config show`. Secrets come from the environment, each also as a file's name (`…_FILE`).
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from bot.settings import DiscordSettings, TelegramSettings
from bot.web.settings import WebSettings
from feedback_store.settings import (
    AccessSettings,
    DiscordSignInSettings,
    GithubSignInSettings,
    PrivacySettings,
    RetentionSettings,
    StoreSettings,
    TrustSettings,
)
from serving.settings import DuelSettings, PolicySettings, ServingSettings, VllmSettings
from trainer.method_settings import OnlineSettings, RewardSettings
from trainer.settings import CanarySettings, GateSettings, LoraSettings, RoundSettings, TrainingSettings

SECTIONS: dict[str, type[BaseModel]] = {
    "policy": PolicySettings,
    "serving": ServingSettings,
    "duels": DuelSettings,
    "vllm": VllmSettings,
    "web": WebSettings,
    "telegram": TelegramSettings,
    "discord": DiscordSettings,
    "store": StoreSettings,
    "privacy": PrivacySettings,
    "retention": RetentionSettings,
    "access": AccessSettings,
    "sign_in.github": GithubSignInSettings,
    "sign_in.discord": DiscordSignInSettings,
    "rounds": RoundSettings,
    "canary": CanarySettings,
    "training": TrainingSettings,
    "lora": LoraSettings,
    "gate": GateSettings,
    "reward": RewardSettings,
    "online": OnlineSettings,
    "trust": TrustSettings,
}
PREFIX = "THUMBWISE_"
SECRETS = (
    "ADMIN_TOKEN", "RATER_KEY", "STORE_URL", "VLLM_API_KEY", "JUDGE_KEY", "TELEGRAM_TOKEN", "DISCORD_TOKEN",
    "GITHUB_CLIENT_SECRET", "DISCORD_CLIENT_SECRET",
)  # fmt: skip
"""Each may be given as THUMBWISE_NAME or, as a file's name, THUMBWISE_NAME_FILE."""
PLACES = ("DATA", "CONFIG", "URL", "MODELS_DIR")
"""Variables of the command that are no settings: the data folder, the file, the server's URL, the models' folder."""
OF_OTHERS = ("CHROMIUM", "TEST_", "BENCH_")
"""Beginnings of variables that tests and benchmarks read; not ours to refuse."""
CONFIG_NAME = "thumbwise.toml"
CHECKOUT = Path(__file__).parent.parent
"""Where this code lies: a checkout, in which `make` keeps the bundled model in `.models`, or a folder of packages."""
MAY_HOLD_A_PASSWORD = ("store.url", "vllm.replicas")
"""Settings whose value no error repeats."""


class ConfigError(ValueError):
    """The configuration cannot be used; `problems` says each reason in a sentence of its own."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. `origins` maps "section.key" to where its value came from, defaults left out."""

    data_dir: Path
    models_dir: Path
    store: StoreSettings
    privacy: PrivacySettings
    retention: RetentionSettings
    access: AccessSettings
    sign_in_github: GithubSignInSettings
    sign_in_discord: DiscordSignInSettings
    policy: PolicySettings
    serving: ServingSettings
    duels: DuelSettings
    vllm: VllmSettings
    web: WebSettings
    telegram: TelegramSettings
    discord: DiscordSettings
    rounds: RoundSettings
    canary: CanarySettings
    training: TrainingSettings
    lora: LoraSettings
    gate: GateSettings
    reward: RewardSettings
    online: OnlineSettings
    trust: TrustSettings
    admin_token: str | None = field(default=None, repr=False)
    """From the environment; None: DATA/admin.token, made when it is missing."""
    rater_key: bytes | None = field(default=None, repr=False)
    """From the environment; None: DATA/rater.key, made when it is missing."""
    former_rater_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """From the environment, below `rater_key`, one a line: what it was before."""
    vllm_api_key: str | None = field(default=None, repr=False)
    """From the environment; None: the replicas ask for no key."""
    telegram_token: str | None = field(default=None, repr=False)
    """The bot's token, from the environment."""
    discord_token: str | None = field(default=None, repr=False)
    """The bot's token, from the environment."""
    github_client_secret: str | None = field(default=None, repr=False)
    """Of the OAuth app that [sign_in.github] names, from the environment."""
    discord_client_secret: str | None = field(default=None, repr=False)
    """Of the application that [sign_in.discord] names, from the environment."""
    config_file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def store_url(self) -> str:
        """The database in use: without store.url, SQLite in the data folder."""
        return self.store.url or f"sqlite:///{self.data_dir / 'thumbwise.db'}"

    def section(self, name: str) -> BaseModel:
        """Return the settings of one section of the file."""
        section: BaseModel = getattr(self, name.replace(".", "_"))
        return section


def load_settings(
    data_dir: Path,
    config_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Put the settings together; `flags` maps "section.key" to a value, None standing for a flag not given.

    Without `config_file`, DATA/thumbwise.toml is read if it is there. Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    found: dict[str, tuple[Any, str]] = {}
    path = config_file or data_dir / CONFIG_NAME
    if config_file is not None or path.is_file():
        found.update(_from_file(path, problems))
    found.update(_from_environment(environ, problems))
    for name, value in (flags or {}).items():
        if value is not None:
            found[name] = (value, "--" + name.partition(".")[2].replace("_", "-"))
    secrets = {name: _secret(environ, name, problems) for name in SECRETS}
    if secrets["STORE_URL"] is not None:
        found["store.url"] = (secrets["STORE_URL"], PREFIX + "STORE_URL")
    sections = {name: _section(name, model, found, problems) for name, model in SECTIONS.items()}
    rater_keys = _rater_keys(secrets["RATER_KEY"], problems)
    _check_header_value("VLLM_API_KEY", secrets["VLLM_API_KEY"], problems)
    problems += _at_odds(sections) + _halves_of_sign_in(sections, secrets)
    if problems:
        raise ConfigError(problems)
    return Settings(
        data_dir=data_dir,
        models_dir=models_dir_of(data_dir, environ),
        admin_token=secrets["ADMIN_TOKEN"],
        rater_key=rater_keys[0] if rater_keys else None,
        former_rater_keys=rater_keys[1:],
        vllm_api_key=secrets["VLLM_API_KEY"],
        telegram_token=secrets["TELEGRAM_TOKEN"],
        discord_token=secrets["DISCORD_TOKEN"],
        github_client_secret=secrets["GITHUB_CLIENT_SECRET"],
        discord_client_secret=secrets["DISCORD_CLIENT_SECRET"],
        config_file=path if path.is_file() else None,
        origins={name: origin for name, (_, origin) in found.items()},
        **{name.replace(".", "_"): section for name, section in sections.items()},
    )


def models_dir_of(data_dir: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the bundled model is kept: the environment's folder, else the first that is there of DATA/models and
    the checkout's `.models`, else DATA/models. So what `make` fetched is not fetched again by a command beside it."""
    if named := environ.get(PREFIX + "MODELS_DIR"):
        return Path(named)
    own, of_make = data_dir / "models", CHECKOUT / ".models"
    return of_make if of_make.is_dir() and not own.is_dir() else own


def without_password(url: str) -> str:
    """Return a database URL with its password, if it has one, replaced by three stars."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = f"{parts.username}:***@" if parts.username else ":***@"
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=user + host).geturl()


def _from_file(path: Path, problems: list[str]) -> dict[str, tuple[Any, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = tomllib.loads(text)
    except OSError as error:
        problems.append(f"{path}: {error.strerror}; give an existing file with --config, or leave the flag out")
        return {}
    except ValueError as error:  # both what TOML and what UTF-8 forbid
        problems.append(f"{path}: {error}")
        return {}
    found: dict[str, tuple[Any, str]] = {}
    for section, values in _sections_of(tree):
        if section not in SECTIONS or not isinstance(values, dict):
            where = f"{path} line {_line_of(text, section, None)}"
            if isinstance(values, dict):
                problems.append(f"{where}: unknown section [{section}]{_nearest(section, list(SECTIONS), '[{}]')}")
            else:
                problems.append(
                    f"{where}: {section} stands in no section{_nearest_setting(section.rpartition('.')[2])}"
                )
            continue
        for key, value in values.items():
            where = f"{path} line {_line_of(text, section, key)}"
            if key not in SECTIONS[section].model_fields:
                problems.append(f"{where}: unknown key {section}.{key}{_nearest_setting(key, section)}")
            elif section == "store" and key == "url" and isinstance(value, str) and urlsplit(value).password:
                problems.append(
                    f"{where}: store.url holds a password; give it as {PREFIX}STORE_URL or {PREFIX}STORE_URL_FILE"
                )
            else:
                found[f"{section}.{key}"] = (value, where)
    return found


def _sections_of(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each section of the file with its values; a section within one is named with a dot: "sign_in.github"."""
    outer = {name.partition(".")[0] for name in SECTIONS if "." in name}
    for section, values in tree.items():
        if section in outer and isinstance(values, dict):
            yield from ((f"{section}.{inner}", its) for inner, its in values.items())
        else:
            yield section, values


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[Any, str]]:
    known = {
        f"{section}_{key}".replace(".", "_").upper(): f"{section}.{key}"
        for section, model in SECTIONS.items()
        for key in model.model_fields
    }
    others = {*SECRETS, *(name + "_FILE" for name in SECRETS), *PLACES}
    found: dict[str, tuple[Any, str]] = {}
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(PREFIX)
        if not variable.startswith(PREFIX) or name in others or name.startswith(OF_OTHERS):
            continue
        if name not in known:
            nearest = _nearest(name, [*known, *others], PREFIX + "{}")
            problems.append(f"unknown variable {variable}{nearest}")
            continue
        section, _, key = known[name].rpartition(".")
        is_list = get_origin(SECTIONS[section].model_fields[key].annotation) is tuple
        found[known[name]] = (_listed(value) if is_list else value, variable)
    return found


def _listed(value: str) -> Any:
    """Read a list from a variable: items between commas, or a JSON list where an item holds a comma."""
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value  # not a list: refused by its model, with the variable named
    return [item.strip() for item in value.split(",") if item.strip()]


def _secret(environ: Mapping[str, str], name: str, problems: list[str]) -> str | None:
    variable, file_variable = PREFIX + name, f"{PREFIX}{name}_FILE"
    value, file_name = environ.get(variable), environ.get(file_variable)
    if value is not None and file_name is not None:
        problems.append(f"both {variable} and {file_variable} are set; keep one of them")
        return None
    source = variable
    if file_name is not None:
        source = file_variable
        try:
            value = Path(file_name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{file_variable} is {file_name!r}, which cannot be read: {error}")
            return None
    if value is not None and not value:
        problems.append(f"{source} is empty; unset it, or give a value")
        return None
    return value


def _rater_keys(value: str | None, problems: list[str]) -> tuple[bytes, ...]:
    """One key a line, the newest first. One too short to be secret would let anyone hash names and find raters."""
    keys = [line.strip() for line in (value or "").splitlines() if line.strip()]
    for key in keys:
        if len(key) < 16:
            problems.append(f"{PREFIX}RATER_KEY has {len(key)} characters; wanted at least 16, kept secret")
    return tuple(key.encode() for key in keys)


def _check_header_value(name: str, value: str | None, problems: list[str]) -> None:
    """A key that no header can carry would be spelt out in the error of whoever tries to send it."""
    if value is not None and not re.fullmatch(r"[!-~]+", value):
        problems.append(f"{PREFIX}{name} holds a space or a character beyond ASCII; wanted the key alone")


def _section(name: str, model: type[BaseModel], found: dict[str, tuple[Any, str]], problems: list[str]) -> Any:
    values = {key: found[f"{name}.{key}"][0] for key in model.model_fields if f"{name}.{key}" in found}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            key = ".".join(str(part) for part in problem["loc"])
            origin = found.get(f"{name}.{problem['loc'][0]}" if problem["loc"] else name, (None, "settings"))[1]
            wanted = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            shown = "" if f"{name}.{key}".startswith(MAY_HOLD_A_PASSWORD) else f" is {problem['input']!r}"
            problems.append(f"{origin}: {name}.{key}{shown}; wanted: {wanted}")
        return None


def _at_odds(sections: Mapping[str, Any]) -> list[str]:
    """Say which settings of different sections cannot stand together; a section that is None has had its say."""
    policy, vllm, lora = sections["policy"], sections["vllm"], sections["lora"]
    found: list[str] = []
    if policy is not None and lora is not None and lora.four_bit_base and policy.device in ("cpu", "mps"):
        found.append(f"lora.four_bit_base is for CUDA alone, and policy.device is {policy.device!r}; switch it off")
    if policy is None or policy.engine != "vllm":
        return found
    if vllm is not None and not vllm.replicas:
        found.append(
            "policy.engine is 'vllm', but vllm.replicas is empty; name the address of at least one vLLM server"
        )
    if lora is not None and lora.kind == "dora":
        found.append(
            "lora.kind is 'dora', which vLLM does not serve, and policy.engine is 'vllm'; wanted: lora or rslora"
        )
    return found


def _halves_of_sign_in(sections: Mapping[str, Any], secrets: Mapping[str, str | None]) -> list[str]:
    """A client id without its secret, or the other way round, would show a button that leads nowhere."""
    problems = []
    for provider in ("github", "discord"):
        settings, secret = sections[f"sign_in.{provider}"], f"{provider.upper()}_CLIENT_SECRET"
        if settings is None:
            continue
        if settings.client_id and secrets[secret] is None:
            problems.append(f"sign_in.{provider}.client_id is set, but {PREFIX}{secret} (or …_FILE) is not")
        elif secrets[secret] is not None and not settings.client_id:
            problems.append(f"{PREFIX}{secret} is set, but sign_in.{provider}.client_id is not")
    return problems


def _nearest(word: str, known: list[str], form: str) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {form.format(close[0])}?" if close else f"; known are {', '.join(map(form.format, known))}"


def _nearest_setting(key: str, section: str | None = None) -> str:
    """Suggest a key of the same section, else the same key of another one, else the section's list."""
    own = list(SECTIONS[section].model_fields) if section else []
    if close := difflib.get_close_matches(key, own, n=1, cutoff=0.6):
        return f"; did you mean {section}.{close[0]}?"
    keys = {name: f"{other}.{name}" for other, model in SECTIONS.items() for name in model.model_fields}
    if close := difflib.get_close_matches(key, list(keys), n=1, cutoff=0.7):
        return f"; did you mean {keys[close[0]]}?"
    return f"; [{section}] knows {', '.join(own)}" if own else ""


def _line_of(text: str, section: str, key: str | None) -> int:
    """The line of a section's header, or of a key in it, or 1 where TOML was written in another form."""
    current, header_line = "", 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            current = header[1].strip("\"'")
            if current == section:
                header_line = number
                if key is None:
                    return number
            continue
        named = re.match(r"\s*[\"']?([^\s=\"'.]+)[\"']?\s*(\.|=)", line)
        if named and (current, named[1]) in {(section, key), ("", section)}:
            return number
    return header_line
