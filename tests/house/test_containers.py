"""Images, compose files, units and the Kubernetes example hold what they promise, as far as reading them can tell."""

import ast
import configparser
import importlib.metadata
import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, ClassVar

import click
import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from thumbwise.cli import main
from thumbwise.config import PLACES, PREFIX, SECRETS, SECTIONS, load_settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
IMAGES = ("bot", "trainer", "serving", "all")
OF_OTHERS = {"postgres", "vllm"}
"""Images that are not ours: their commands are not looked up."""
SECRET_WORDS = re.compile(r"TOKEN|SECRET|PASSWORD|RATER_KEY|API_KEY|STORE_URL")
IMAGE_ENVIRONMENT = {  # of the images, for the bots' part of the lock
    "python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux", "platform_system": "Linux",
    "platform_machine": "x86_64", "os_name": "posix", "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}  # fmt: skip


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


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_nobody_special_looks_at_its_health_and_starts_a_command_of_ours(image: str) -> None:
    instructions = stages()[image]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last(instructions, "USER")), "a number: Kubernetes can tell it is not 0"
    words = [kind for kind, _ in instructions]
    assert "RUN" not in words[len(words) - words[::-1].index("USER") :], "nothing is made after the user was changed"
    part = {"bot": "bot", "trainer": "trainer"}.get(image, "server")
    assert last(instructions, "HEALTHCHECK").endswith(f'CMD ["python", "/opt/thumbwise/healthy.py", "{part}"]')
    assert last(instructions, "ENTRYPOINT") == '["thumbwise"]'
    is_a_command(yaml.safe_load(last(instructions, "CMD")))


def test_an_image_holds_no_secret_and_no_variable_that_nobody_knows() -> None:
    for name in IMAGES:
        text = " ".join(rest for kind, rest in stages()[name] if kind in ("ENV", "ARG"))
        assert not SECRET_WORDS.search(text)
        assert all(is_known_variable(variable) for variable in re.findall(r"\bTHUMBWISE_\w+", text))


def test_what_root_made_may_be_read_by_the_user_that_runs() -> None:
    fetched = [rest for kind, rest in stages()["packages"] if "fetch_model.py /opt/models" in rest and kind == "RUN"]
    assert [rest.endswith("&& chmod -R a+rX /opt/models") for rest in fetched] == [True]
    copies = [rest for kind, rest in stages()["ground"] if kind == "COPY"]
    assert all(rest.startswith("--chmod=") for rest in copies), "a file of a private checkout is its owner's alone"


def test_base_images_are_named_by_version_and_never_by_latest() -> None:
    named = re.findall(r"^ARG \w+_IMAGE=(\S+)", DOCKERFILE, re.MULTILINE)
    named += [its["image"] for name, its in SERVICES.items() if "build" not in its]
    assert named
    for image in named:
        tag = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", image).rpartition(":")[2]
        assert re.search(r"\d", tag) and "latest" not in tag, image
    assert {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM")} <= {
        "${PYTHON_IMAGE}",
        *stages(),
    }


def test_packages_come_from_the_lock_with_their_hashes() -> None:
    installs = re.findall(r"pip install ([^\n\\&;]+)", DOCKERFILE)
    assert {"--no-deps --require-hashes -r server.lock", "--no-deps --require-hashes -r bot.lock"} <= {
        line.strip() for line in installs
    }
    others = [line for line in installs if "--require-hashes" not in line and "--no-build-isolation ." not in line]
    assert [line.strip() for line in others] == ["torch==2.13.0"]


def test_whatever_an_image_copies_is_there_and_sent_to_the_engine() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in [word for word in line.split() if not word.startswith("--")][:-1]:
            assert (ROOT / source).exists() and source in sent, source


def needs_of(extras: str) -> set[str]:
    """The packages that thumbwise with these extras needs in an image, by what the installed packages' metadata say."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [Requirement(line) for line in (*project["dependencies"], f"thumbwise[{extras}]")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        if name == "thumbwise":
            todo += [Requirement(line) for extra in wanted.extras for line in project["optional-dependencies"][extra]]
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another Python than this one; it stands in the list all the same
        for need in map(Requirement, needs):
            given = [*wanted.extras, ""]
            if need.marker is None or any(need.marker.evaluate({**IMAGE_ENVIRONMENT, "extra": it}) for it in given):
                todo.append(need)
    return {name for name, _ in seen} - {"thumbwise"}


def listed_in(image: str) -> set[str]:
    listed: set[str] = program("part_of_lock").names_of((DOCKER / f"{image}.packages").read_text())
    return listed


@pytest.mark.parametrize(("image", "extras"), [("bot", "bot,command"), ("server", "all,telemetry")])
def test_an_images_packages_are_what_its_extras_ask_for(image: str, extras: str) -> None:
    # torch is installed by itself, and brings companions for its machine that no lock knows.
    beside = {name for name in needs_of(extras) if name.startswith(("torch", "triton", "nvidia-", "cuda-"))}
    assert image == "server" or not beside
    assert listed_in(image) == needs_of(extras) - beside | {"setuptools"}, f"correct docker/{image}.packages"


def test_whatever_our_packages_import_is_in_the_server_image() -> None:
    whose = importlib.metadata.packages_distributions()
    optional = {"ray", "bitsandbytes"}  # extras of their own, not in the image; what needs them says so
    missing = set()
    for package in ("bot", "feedback_store", "serving", "thumbwise", "trainer"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for name in {name.partition(".")[0] for name in names} - optional:
                    owners = {canonicalize_name(one) for one in whose.get(name, [])} - {"thumbwise"}
                    if owners and not owners & (listed_in("server") | {"torch"}):
                        missing.add(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def test_the_bots_start_with_no_package_beyond_their_part_of_the_lock() -> None:
    listed = listed_in("bot")
    ours = {"thumbwise", "bot", "feedback_store", "serving", "trainer"}
    absent = sorted(
        name
        for name, whose in importlib.metadata.packages_distributions().items()
        if name not in ours and not {canonicalize_name(one) for one in whose} & listed
    )
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1:]))\n"  # None: as if it were not installed
        "import thumbwise.cli, thumbwise.config, bot.telegram.process, bot.discord.process"
    )
    done = subprocess.run([sys.executable, "-c", code, *absent], cwd=ROOT, capture_output=True, text=True, check=False)
    assert {"torch", "transformers", "trl"} <= set(absent)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_part_of_the_lock_keeps_every_hash_and_names_what_is_not_locked(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    wanted = tmp_path / "list"
    wanted.write_text("click  # a comment\nrich\n")
    command = [sys.executable, DOCKER / "part_of_lock.py", wanted, ROOT / "requirements.lock"]
    part = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(\w+)==", part, re.MULTILINE) == ["click", "rich"]
    assert part.count("--hash=sha256:") == sum(
        entry.count("--hash=") for entry in re.split(r"\n(?=[a-z0-9])", lock) if re.match(r"(click|rich)==", entry)
    )
    with pytest.raises(ValueError, match="not in the lock: nonesuch"):
        program("part_of_lock").part_of(lock, {"nonesuch"})


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_cannot_write_its_root_has_no_rights_and_a_look_at_its_health(name: str) -> None:
    its = SERVICES[name]
    assert its["read_only"] is True and its["cap_drop"] == ["ALL"]
    assert its["security_opt"] == ["no-new-privileges:true"]
    assert its["tmpfs"][0].startswith("/tmp")
    assert "privileged" not in its and its.get("network_mode") != "host"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", its.get("user", "")) or "build" in its
    assert "healthcheck" in its or "build" in its
    assert its["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_alone(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files_and_every_variable_of_ours_is_known(name: str) -> None:
    environment: dict[str, Any] = SERVICES[name].get("environment", {})
    given = {f"/run/secrets/{secret}" for secret in SERVICES[name].get("secrets", [])}
    for variable, value in environment.items():
        if SECRET_WORDS.search(variable):
            assert variable.endswith("_FILE") and value in given, f"{variable} is no file of a secret of this service"
        if variable.startswith(PREFIX):
            assert is_known_variable(variable), variable
    assert not re.search(r"://[^/\s]*:[^/\s]*@", yaml.safe_dump(SERVICES[name])), "a password in an address"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_ours_is_built_from_a_target_and_runs_a_command_that_exists(name: str) -> None:
    its = SERVICES[name]
    if "build" not in its:
        assert name.rpartition(":")[2] in {"database", "vllm"}
        return
    assert its["build"]["target"] in IMAGES
    if "command" in its:
        is_a_command(its["command"])


def test_what_a_service_names_is_declared_and_its_networks_keep_strangers_out() -> None:
    for name, its in APART["services"].items():
        for kind in ("secrets", "networks"):
            assert set(its.get(kind, [])) <= set(APART[kind]), name
        volumes = [re.sub(r"^\$\{\w+:-(\w+)\}", r"\1", volume).partition(":")[0] for volume in its.get("volumes", [])]
        assert set(volumes) <= set(APART["volumes"]), name
    with_way_out = {name for name, its in APART["services"].items() if "front" in its["networks"]}
    assert with_way_out == {"serving", "telegram", "discord"}
    assert APART["networks"]["store"] == APART["networks"]["drawing"] == {"internal": True}


def test_the_gpu_file_changes_services_that_are_there() -> None:
    over = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())["services"]
    assert set(over) <= set(APART["services"])
    assert all(its["build"]["args"]["DEVICE"] == "cuda" for its in over.values())


def test_the_settings_of_the_containers_are_good_and_the_bots_name_for_the_server_is_allowed(tmp_path: Path) -> None:
    files = {"apart": (DOCKER / "thumbwise.toml").read_text(), "kubernetes": OBJECTS[0]["data"]["thumbwise.toml"]}
    for name, text in files.items():
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        assert load_settings(tmp_path, path, environ={}).serving.allowed_hosts == ("serving",)
    assert APART["services"]["telegram"]["environment"]["THUMBWISE_URL"] == "http://serving:8080"


def test_secrets_are_made_once_and_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = []
    for _ in range(2):
        subprocess.run([DOCKER / "make_secrets.sh", folder], check=True, capture_output=True)
        made.append({path.name: path.read_text() for path in folder.iterdir()})
    before, after = made
    assert before == after
    assert folder.stat().st_mode & 0o777 == 0o700
    assert set(before) == set(APART["secrets"]) - {"telegram_token", "discord_token"}
    assert len(set(before.values())) == len(before)
    environ = {f"{PREFIX}{name.upper()}_FILE": str(folder / name) for name in before if name != "database_password"}
    settings = load_settings(tmp_path, environ=environ)
    assert settings.admin_token is not None and len(settings.admin_token) == 64
    assert before["database_password"].strip() in str(settings.store.url)
    assert (
        subprocess.run(
            ["git", "check-ignore", "-q", DOCKER / "secrets" / "admin_token"], cwd=ROOT, check=False
        ).returncode
        == 0
    )


class Answering(BaseHTTPRequestHandler):
    status: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self.send_response(self.status.get(self.path, 404))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answering) as listening:
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_health_is_what_the_server_says(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = program("healthy")
    monkeypatch.setattr(healthy, "OWN_SERVER", server)
    monkeypatch.setattr(Answering, "status", {"/readyz": 200, "/healthz": 503})
    assert healthy.trouble_of("server", {}) is None
    assert healthy.trouble_of("bot", {"THUMBWISE_URL": server}) == "/healthz answers 503"
    monkeypatch.setattr(Answering, "status", {"/readyz": 503, "/healthz": 200})
    assert healthy.trouble_of("server", {}) == "/readyz answers 503"
    assert healthy.trouble_of("bot", {"THUMBWISE_URL": server + "/"}) is None


def test_a_trainer_is_well_while_its_database_takes_connections_and_no_password_is_said(tmp_path: Path) -> None:
    healthy = program("healthy")
    with socket.create_server(("127.0.0.1", 0)) as database:
        url = f"postgresql://anna:hunter2@127.0.0.1:{database.getsockname()[1]}/thumbwise"
        (tmp_path / "url").write_text(url + "\n")
        assert healthy.trouble_of("trainer", {"THUMBWISE_STORE_URL_FILE": str(tmp_path / "url")}) is None
    said = healthy.trouble_of("trainer", {"THUMBWISE_STORE_URL": url})
    assert said == "no connection (ConnectionRefusedError)"
    assert (
        healthy.trouble_of("trainer", {"THUMBWISE_STORE_URL": "postgresql://a:hunter2@db:x/y"})
        == "the address cannot be read"
    )
    assert healthy.trouble_of("trainer", {}) is None, "SQLite has nobody to ask"


def test_an_unknown_part_is_refused_by_the_program() -> None:
    done = subprocess.run([sys.executable, DOCKER / "healthy.py", "cook"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "wanted server, trainer or bot" in done.stderr


@pytest.mark.parametrize("part", PODS)
def test_a_pod_has_no_rights_no_token_of_the_cluster_and_secrets_as_files(part: str) -> None:
    pod = PODS[part]
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "readinessProbe" in container and "limits" in container["resources"]
    is_a_command(container["args"])
    (mounted,) = [volume["secret"]["items"] for volume in pod["volumes"] if "secret" in volume]
    files = {f"/run/secrets/thumbwise/{item['path']}" for item in mounted}
    named = {entry["value"] for entry in container["env"] if SECRET_WORDS.search(entry["name"])}
    assert named == files, "each secret that is mounted is used, and each that is used is mounted"
    assert all(is_known_variable(entry["name"]) for entry in container["env"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_kubernetes_example_asks_for_claims_and_settings_that_it_makes() -> None:
    made = {(it["kind"], it["metadata"]["name"]) for it in OBJECTS}
    for pod in PODS.values():
        for volume in pod["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in made
            if settings := volume.get("configMap"):
                assert ("ConfigMap", settings["name"]) in made
    assert not [it for it in OBJECTS if it["kind"] == "Secret"], "secrets are never in a file of the tree"
    (service,) = [it for it in OBJECTS if it["kind"] == "Service"]
    assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


class Repeated(dict[str, Any]):
    """A key that stands there twice is a list in systemd: its values are kept, a line each."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            value = [*self[key], *value]
        super().__setitem__(key, value)


class UnitParser(configparser.ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr  # capital letters count


def unit(path: Path) -> configparser.ConfigParser:
    parser = UnitParser(strict=False, interpolation=None, dict_type=Repeated)
    parser.read(path, encoding="utf-8")
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists_without_rights_and_without_secrets(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] == "thumbwise" and service["CapabilityBoundingSet"] == ""
    assert service["NoNewPrivileges"] == "yes" and service["ProtectSystem"] == "strict"
    words = shlex.split(service["ExecStart"])
    assert words[0].endswith("/thumbwise")
    for instance in ("telegram", "discord") if "bot" in path.name else ("up", "serve", "train"):
        is_a_command([instance if word == "%i" else word for word in words[1:]])
    for assignment in service["Environment"].splitlines():
        name = assignment.partition("=")[0]
        assert not SECRET_WORDS.search(name)
        assert not name.startswith(PREFIX) or is_known_variable(name), name
    drain_s = load_settings(ROOT, ROOT / "docker" / "thumbwise.toml", environ={}).serving.drain_timeout_s
    assert float(service["TimeoutStopSec"]) > drain_s


def test_the_scripts_of_containers_can_be_run() -> None:
    script = DOCKER / "make_secrets.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
