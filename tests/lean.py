"""The environment that a host's bot has: what `pip install "thumbwise[telegram]"` brings, and nothing of the server.

A folder of links to the very distributions that the extra asks for, theirs included, for a Python that is started
without its site-packages. What is not in the folder cannot be imported, however hard somebody tries; and an extra that
forgets a package shows here.
"""

import os
import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
NEVER = (
    "torch", "sqlalchemy", "alembic", "pydantic", "fastapi", "starlette", "uvicorn", "numpy", "transformers", "click",
    "rich", "pytest",
)  # fmt: skip
GUARD = f"""
import importlib.util, sys
for name in {NEVER!r}:
    assert importlib.util.find_spec(name) is None, f"{{name}} can be imported here"
import bot, serving
assert bot.OWN and serving.OWN, "the host's own modules were shadowed"
"""
"""Begins a host's program: it fails where the environment is not lean, or the plug-in hides the host's modules."""
HOSTS_OWN = ("bot", "serving", "trainer", "feedback_store")


def lean_environment(folder: Path, extra: str) -> Path:
    """Fill a folder with the plug-in and what its extra asks for; return it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    folder.mkdir()
    (folder / "thumbwise").symlink_to(ROOT / "thumbwise")
    for found in _with_theirs([Requirement(text) for text in wanted]).values():
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (folder / name).symlink_to(Path(str(found.locate_file(name))))
    return folder


def host_command(folder: Path, code: str) -> list[str]:
    """Write a host's program beside modules of its own that are named like ours; return how it is run."""
    folder.mkdir()
    for name in HOSTS_OWN:
        (folder / f"{name}.py").write_text("OWN = True\n")
    (folder / "host.py").write_text(GUARD + code, encoding="utf-8")
    # -S: without this Python's own packages. The folder of the program itself comes first, as for any host.
    return [sys.executable, "-S", "-s", str(folder / "host.py")]


def lean_variables(lean: Path, **variables: str) -> dict[str, str]:
    """Return the variables for a host's program over a lean environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("THUMBWISE_", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(lean), "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "127.0.0.1", **variables}


def _with_theirs(wanted: list[Requirement]) -> dict[str, Distribution]:
    """Return the distributions that requirements name, and those that these require."""
    found: dict[str, Distribution] = {}
    waiting = [(requirement, requirement.extras) for requirement in wanted if _applies(requirement, {""})]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, extras = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        found[name] = distribution(name)
        for text in found[name].requires or ():
            theirs = Requirement(text)
            if _applies(theirs, {"", *extras}):
                waiting.append((theirs, theirs.extras))
    return found


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
