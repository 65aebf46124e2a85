"""A test that failed once is looked at again, alone; what is broken stays red."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.test_tree import ROOT

ONCE = """
from pathlib import Path
def test_busy():
    been = Path(__file__).with_name("been")
    first = not been.exists()
    been.touch()
    assert not first
"""
LEFT_BEHIND = """
from pathlib import Path
import pytest
@pytest.fixture
def left():
    yield
    been = Path(__file__).with_name("been")
    first = not been.exists()
    been.touch()
    assert not first
def test_leaves_something(left): pass
"""
MANY = ONCE.replace(
    "def test_busy():", "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_busy(n):"
).replace('"been"', 'f"been{n}"')


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        pytest.param("def test_well(): pass", 0, "1 passed", id="all well"),
        pytest.param(ONCE, 0, "PASSED AT THE SECOND LOOK ONLY", id="fails once"),
        pytest.param("def test_broken(): assert False", 1, "A second look", id="broken"),
        pytest.param(LEFT_BEHIND, 1, "1 error", id="leaves something behind"),
        pytest.param(MANY, 1, "6 failed", id="too many"),
    ],
)
def test_only_a_few_tests_that_failed_once_are_forgiven(tmp_path: Path, program: str, status: int, said: str) -> None:
    (tmp_path / "test_one.py").write_text(program, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.run_tests", "-q"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert said in ran.stdout
    assert ("PASSED AT" in ran.stdout) == (program == ONCE)
