"""What must stay light stays light. (Who may import whom is import-linter's affair: `make lint`.)"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "matplotlib"}
LIGHT = {
    "thumbwise.client": HEAVY | {"sqlalchemy", "pydantic", "fastapi", "numpy"},
    "thumbwise.rating.cards": HEAVY | {"sqlalchemy", "pydantic", "fastapi", "numpy", "telegram", "discord"},
    "thumbwise.telegram": HEAVY | {"sqlalchemy", "pydantic", "fastapi", "numpy", "starlette", "discord"},
    "thumbwise.discord": HEAVY | {"sqlalchemy", "pydantic", "fastapi", "numpy", "starlette", "telegram"},
    "bot.telegram.process": HEAVY | {"serving", "trainer"},
    "bot.discord.process": HEAVY | {"serving", "trainer", "telegram"},
    "thumbwise.cli": HEAVY | {"sqlalchemy", "fastapi"},
    "thumbwise.config": HEAVY | {"sqlalchemy"},
    "feedback_store.store": HEAVY,
    "feedback_store.exports": HEAVY,
    "feedback_store.dashboard": HEAVY,
    "serving.engine": HEAVY,
    "serving.api": HEAVY,
    "bot.web": HEAVY,
}
"""Module → what importing it must not load."""


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_light_module_loads_nothing_heavy(module: str) -> None:
    ask = f"import sys, {module}; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = LIGHT[module] & set(done.stdout.split())
    assert not loaded
