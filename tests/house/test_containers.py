"""Compose files, units and the Kubernetes example hold what they promise, as far as reading them can tell."""

import configparser
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.house.container_parts import (
    APART,
    DOCKER,
    IMAGES,
    OBJECTS,
    PODS,
    ROOT,
    SECRET_WORDS,
    SERVICES,
    UNITS,
    is_a_command,
    is_known_variable,
)
from thumbwise.config import PREFIX, load_settings


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
