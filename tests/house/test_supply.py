"""What others wrote and we install: the audit of the lock against known weaknesses, and the bill of materials."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scripts.audit import Unreachable, Weakness, accepted_of, weaknesses_of
from scripts.locked import LOCK, Package, locked_packages, read_locked
from scripts.sbom import sbom

ROOT = Path(__file__).parents[2]
PROJECT = 'serving = ["torch==2.13.0"]'
TOLD = {
    "id": "GHSA-1",
    "aliases": ["CVE-2026-1"],
    "summary": "A body of any size is read.",
    "affected": [
        {
            "package": {"name": "Fast.API"},
            "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]},
                {"type": "GIT", "events": [{"fixed": "0123abc"}]},
            ],
        },
        {"package": {"name": "other"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "9"}]}]},
    ],
}


class Database(BaseHTTPRequestHandler):
    """The two routes of OSV that are asked."""

    asked: ClassVar[list[Any]] = []
    answer: ClassVar[bytes | None] = None

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(question)
        hit = [{"vulns": [{"id": "GHSA-1"}]} if one["version"] == "2.0" else {} for one in question["queries"]]
        self.reply(self.answer or json.dumps({"results": hit}).encode())

    def do_GET(self) -> None:
        assert self.path == "/v1/vulns/GHSA-1"
        self.reply(json.dumps(TOLD).encode())

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def database() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    Database.asked, Database.answer = [], None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_entry_of_the_lock_is_a_package_with_hashes_and_torch_stands_beside_them() -> None:
    packages = read_locked()
    assert len(packages) == len(re.findall(r"^[a-z0-9].*==", LOCK.read_text(), re.MULTILINE)) + 1
    assert [one.name for one in packages if not one.sha256] == ["torch"]
    assert {"sqlalchemy", "fastapi", "transformers"} <= {one.name for one in packages}
    with pytest.raises(ValueError, match="pins nothing"):
        locked_packages("fastapi>=1 \\\n    --hash=sha256:" + "0" * 64, PROJECT)
    with pytest.raises(ValueError, match="no torch"):
        locked_packages("a==1", "")


def test_a_known_weakness_is_named_with_the_version_that_mends_it(database: str) -> None:
    packages = [Package("fast-api", "2.0"), Package("safe", "1.0")]
    assert weaknesses_of(packages, database) == [
        Weakness(packages[0], "GHSA-1", ("CVE-2026-1",), "A body of any size is read.", "2.1")
    ]
    assert Database.asked == [
        {"queries": [
            {"package": {"ecosystem": "PyPI", "name": "fast-api"}, "version": "2.0"},
            {"package": {"ecosystem": "PyPI", "name": "safe"}, "version": "1.0"},
        ]}
    ]  # fmt: skip


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"results": []}', b'{"results": [7]}', b"[" * 100_000])
def test_an_answer_that_is_none_is_no_clean_bill(database: str, answer: bytes) -> None:
    Database.answer = answer
    with pytest.raises(Unreachable):
        weaknesses_of([Package("safe", "1.0")], database)


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--must-reach"], 2)])
def test_without_a_network_the_audit_says_that_nothing_was_checked(options: list[str], code: int) -> None:
    command = [sys.executable, "-m", "scripts.audit", "--url", "http://127.0.0.1:9", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "NOTHING WAS CHECKED" in done.stdout


def test_what_is_accepted_has_a_reason() -> None:
    assert accepted_of("# none\n\nGHSA-1 # no such header is read; look again in 2027\n") == {
        "GHSA-1": "no such header is read; look again in 2027"
    }
    with pytest.raises(ValueError, match="without a reason"):
        accepted_of("GHSA-1\n")
    accepted_of((ROOT / "scripts" / "audit-accepted.txt").read_text(encoding="utf-8"))


def told(version: str, *lines: tuple[str, str]) -> Message:
    message = Message()
    for name, value in (("Version", version), *lines):
        message[name] = value
    return message


def test_the_bill_names_version_hashes_licence_and_needs() -> None:
    installed = {
        "a": told("1.0", ("License-Expression", "MIT OR Apache-2.0"), ("Requires-Dist", "B_b>=1; python_version>'3'"),
                  ("Requires-Dist", "c ; extra == 'all'")),
        "b-b": told("2.0+cpu", ("Classifier", "License :: OSI Approved :: BSD License"), ("License", "x" * 500)),
        "c": told("9.9", ("License", "MIT")),
    }  # fmt: skip

    def read(name: str) -> Message:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    packages = [
        Package("a", "1.0", sha256=("0" * 64,)),
        Package("b-b", "2.0"),
        Package("c", "3.0"),
        Package("d", "4", "os == 'x'"),
    ]
    found = sbom(packages, read)
    by_name = {one["name"]: one for one in found["components"]}
    assert by_name["a"]["hashes"] == [{"alg": "SHA-256", "content": "0" * 64}]
    assert by_name["a"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert by_name["b-b"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert "licenses" not in by_name["c"], "another version is installed, which may say something else"
    assert by_name["d"]["scope"] == "optional" and by_name["d"]["properties"][0]["value"] == "os == 'x'"
    needs = {one["ref"]: one["dependsOn"] for one in found["dependencies"]}
    assert needs["pkg:pypi/a@1.0"] == ["pkg:pypi/b-b@2.0"] and len(needs["thumbwise"]) == 4
    assert sbom(packages, read) == found
    assert sbom(packages[:3], read)["serialNumber"] != found["serialNumber"]


def test_the_bill_of_this_lock_is_in_the_form_that_cyclonedx_asks_for() -> None:
    """The rules of the 1.6 schema for the parts that we write (scripts/sbom.py was held to the whole schema once)."""
    found = json.loads(json.dumps(sbom(read_locked())))
    assert found["bomFormat"] == "CycloneDX" and found["specVersion"] == "1.6" and found["version"] == 1
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"])
    refs = [one["bom-ref"] for one in found["components"]]
    assert len(set(refs)) == len(refs) > 150
    for one in found["components"]:
        assert one["type"] == "library" and one["name"] and one["version"] and one["scope"] in ("required", "optional")
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[A-Za-z0-9.%]+", one["purl"])
        assert all(re.fullmatch(r"[0-9a-f]{64}", entry["content"]) for entry in one.get("hashes", ()))
        for licence in one.get("licenses", ()):
            assert licence.keys() in ({"expression"}, {"license"})
            assert licence.get("expression") or licence["license"].keys() == {"name"}
    assert {one["ref"] for one in found["dependencies"]} == {*refs, "thumbwise"}
    assert all(len(set(one["dependsOn"])) == len(one["dependsOn"]) for one in found["dependencies"])
    assert all(set(one["dependsOn"]) <= set(refs) for one in found["dependencies"])
    assert sum("licenses" in one for one in found["components"]) > 100
