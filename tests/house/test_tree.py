"""What may stand in the tree: nothing large, nothing of one machine, no address of a package registry."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST_BYTES = 1_000_000
OTHERS_TEXTS = {"LICENSE"}
"""Verbatim texts, which say what they say."""

# Written in parts, so that this file passes its own test.
FOREIGN = [
    "pypi" + r"\.org",
    "python" + r"hosted\.org",
    "npm" + r"js\.(org|com)",
    "deb" + r"ian\.org",
    "pytorch" + r"\.org/whl",
    r"(?<![\w.])/wor" + r"k/",
    r"(?<![\w.])/ro" + r"ot/",
    r"/home/" + r"[a-z]+/",
]


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_is_over_a_megabyte() -> None:
    large = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked_files()}
    assert not {name: size for name, size in large.items() if size > LARGEST_BYTES}


def test_no_weights_databases_or_secrets_are_kept_in_the_tree() -> None:
    kinds = {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".db", ".sqlite", ".key", ".token", ".whl"}
    assert not [path.name for path in tracked_files() if path.suffix in kinds]


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    found = []
    for path in tracked_files():
        if path.name in OTHERS_TEXTS:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for pattern in FOREIGN if (hit := re.search(pattern, text))]
    assert not found


@pytest.mark.parametrize("script", ["scripts/set_up.sh", "scripts/browser.sh", "scripts/postgres.sh", ".ci/run"])
def test_scripts_can_be_run_and_bash_reads_them(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111, f"{script} is not executable"
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_set_up_says_clearly_that_no_python_is_new_enough(tmp_path: Path) -> None:
    old = tmp_path / "python-of-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "set_up.sh", tmp_path / "venv"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no Python of 3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_the_lock_pins_everything_with_a_hash_and_leaves_torch_to_set_up() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text().strip())
    assert all("==" in entry.splitlines()[0] and "--hash=sha256:" in entry for entry in entries)
    assert not [entry for entry in entries if entry.startswith(("torch==", "nvidia-"))]
    pinned = re.search(r'"(torch==[0-9.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pinned is not None
    assert f'torch_pin="{pinned[1]}"' in (ROOT / "scripts" / "set_up.sh").read_text()
    assert pinned[1] in (ROOT / "docker" / "Dockerfile").read_text()


def test_the_browser_script_prints_only_the_path_of_a_browser_that_runs(tmp_path: Path) -> None:
    browser = tmp_path / "chromium of ours"
    browser.write_text("#!/bin/sh\necho Chromium 1\n")
    browser.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "browser.sh"],
        env={"PATH": "/usr/bin:/bin", "THUMBWISE_CHROMIUM": str(browser)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{browser}\n"


def test_make_help_says_what_every_target_is_for() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE))


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """An installed Thumbwise (a container, say) has its pages, migrations and texts, as the checkout has."""
    source = tmp_path / "source"
    packages = ("bot", "feedback_store", "serving", "thumbwise", "trainer")
    tracked = [path.relative_to(ROOT) for path in tracked_files()]
    wanted = {str(path) for path in tracked if path.parts[0] in packages}
    for path in [*wanted, "pyproject.toml", "README.md", "LICENSE"]:
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["-w", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("thumbwise-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert wanted - set(archive.namelist()) == set()
