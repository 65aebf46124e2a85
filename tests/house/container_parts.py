"""What the tests of images and containers read, and what they ask of it: a command of ours, a variable of ours?"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import yaml  # type: ignore[import-untyped]

from thumbwise.cli import main
from thumbwise.config import PLACES, PREFIX, SECRETS, SECTIONS

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
IMAGES = ("bot", "trainer", "serving", "all")
SECRET_WORDS = re.compile(r"TOKEN|SECRET|PASSWORD|RATER_KEY|API_KEY|STORE_URL")


def program(name: str) -> ModuleType:
    """A file of docker/, which is no package: a folder named like the library `docker` must not be one."""
    spec = importlib.util.spec_from_file_location(f"container_{name}", DOCKER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, those of the stages that it stands on included."""
    found: dict[str, list[tuple[str, str]]] = {}
    stage = ""
    for line in re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, stage = rest.partition(" AS ")
            found[stage] = [*found.get(base, [])]
        elif word and stage:
            found[stage].append((word, rest.strip()))
    return found


def last(instructions: list[tuple[str, str]], word: str) -> str:
    """What the last instruction of a kind says: it is the one that counts."""
    return next(rest for kind, rest in reversed(instructions) if kind == word)


def services(*files: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        found.update(
            {f"{file}:{name}": its for name, its in yaml.safe_load((DOCKER / file).read_text())["services"].items()}
        )
    return found


SERVICES = services("compose.yaml", "compose.apart.yaml")
APART = yaml.safe_load((DOCKER / "compose.apart.yaml").read_text())
OBJECTS = list(yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text()))
PODS = {it["metadata"]["name"]: it["spec"]["template"]["spec"] for it in OBJECTS if it["kind"] == "Deployment"}
UNITS = sorted((DOCKER / "systemd").glob("*.service"))


def is_a_command(words: list[str]) -> None:
    """Fail unless `thumbwise WORDS` is a command with these options."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group):
        assert rest and rest[0] in command.commands, f"no such command: thumbwise {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    options = {name for option in command.params for name in option.opts}
    assert {word for word in rest if word.startswith("--")} <= options, words


def is_known_variable(name: str) -> bool:
    settings = {
        f"{section}_{key}".replace(".", "_").upper() for section in SECTIONS for key in SECTIONS[section].model_fields
    }
    return name.removeprefix(PREFIX) in settings | set(PLACES) | {*SECRETS, *(secret + "_FILE" for secret in SECRETS)}
