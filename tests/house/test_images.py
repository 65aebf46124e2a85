"""The images hold what they promise, as far as reading the Dockerfile can tell: users, packages, commands, health."""

import ast
import importlib.metadata
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.container_parts import (
    DOCKER,
    DOCKERFILE,
    IMAGES,
    ROOT,
    SECRET_WORDS,
    SERVICES,
    is_a_command,
    is_known_variable,
    last,
    program,
    stages,
)

IMAGE_ENVIRONMENT = {  # of the images, for the bots' part of the lock
    "python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux", "platform_system": "Linux",
    "platform_machine": "x86_64", "os_name": "posix", "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}  # fmt: skip


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
    present = listed_in("server") | {"torch"}
    optional = {"ray", "bitsandbytes"}  # extras of their own, not in the image; what needs them says so
    missing = set()
    for package in ("bot", "feedback_store", "serving", "thumbwise", "trainer"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for name in {name.partition(".")[0] for name in names} - optional:
                    owners = {canonicalize_name(one) for one in whose.get(name, [])} - {"thumbwise"}
                    if owners and not owners & present:
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
    command = [sys.executable, str(DOCKER / "part_of_lock.py"), str(wanted), str(ROOT / "requirements.lock")]
    part = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(\w+)==", part, re.MULTILINE) == ["click", "rich"]
    assert part.count("--hash=sha256:") == sum(
        entry.count("--hash=") for entry in re.split(r"\n(?=[a-z0-9])", lock) if re.match(r"(click|rich)==", entry)
    )
    with pytest.raises(ValueError, match="not in the lock: nonesuch"):
        program("part_of_lock").part_of(lock, {"nonesuch"})


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
