"""docs/operations.md and docs/threat-model.md name what there is: commands, metrics, settings, errors and tests."""

import re
import shlex
from pathlib import Path

import click
import pytest

from scripts import capacity, measured
from serving.api.metrics import ApiMetrics
from serving.engine.figures import EngineFigures
from thumbwise.cli import main
from thumbwise.config import SECTIONS

ROOT = Path(__file__).parents[2]
OPERATIONS = capacity.OPERATIONS.read_text(encoding="utf-8")
THREATS = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
PAGES = {"operations.md": OPERATIONS, "threat-model.md": THREATS}


def in_code(text: str) -> list[str]:
    """What stands between backticks, fenced blocks left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_sentence_names_exists_and_takes_what_it_is_given(page: str) -> None:
    for code in in_code(PAGES[page]):
        words = shlex.split(code) if code.startswith("thumbwise ") else []
        command: click.Command = main
        rest = words[1:]
        while rest and isinstance(command, click.Group):
            assert rest[0] in command.commands, code
            command = command.commands[rest.pop(0)]
        if words and not isinstance(command, click.Group):
            with command.make_context(code, rest):
                pass  # read, not run: an argument that is missing or unknown is an error here


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_a_sentence_names_exists(page: str) -> None:
    for code in in_code(PAGES[page]):
        section, _, key = code.partition(" ")[0].rpartition(".")
        if section in SECTIONS and "." in code and not code.endswith((".py", ".md", ".toml")):
            assert key in SECTIONS[section].model_fields, code


def test_every_metric_to_watch_exists() -> None:
    metrics = ApiMetrics()
    metrics._engine_figures.figures = EngineFigures()
    kinds = re.findall(r"^# TYPE (\w+) ", metrics.render().decode(), flags=re.MULTILINE)
    named = {code for code in in_code(OPERATIONS) if code.startswith("thumbwise_")}
    assert len(named) > 8
    assert named <= set(kinds), named - set(kinds)


def test_every_error_that_has_a_remedy_is_one_that_the_api_gives() -> None:
    api = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "serving" / "api").glob("*.py"))
    found = re.findall(r"\b[45]\d\d `(\w+)`", OPERATIONS)
    assert len(found) >= 4
    assert not [code for code in found if f'"{code}"' not in api]


def test_every_threat_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", THREATS))
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(named) > 60
    assert named <= {name for text in texts for name in re.findall(r"def (test_\w+)", text)}
    rows = re.findall(r"^\| (?!threat|---|asset)(.*) \|$", THREATS.partition("## Threats")[2], flags=re.MULTILINE)
    assert not [row for row in rows if "`test_" not in row], (
        "a mitigation that no test holds is accepted, or no mitigation"
    )


def test_the_capacity_table_is_what_the_results_give() -> None:
    assert capacity.filled(OPERATIONS, measured.results()) == OPERATIONS, (
        "run `make docs` and commit docs/operations.md"
    )


def test_capacity_is_arithmetic_and_what_was_not_measured_stays_empty() -> None:
    rows = [{"case": "16 streams; transformers generate, adapter merged", "ours": 640.0}]
    lines = capacity.table([{"name": "serving", "rows": rows}]).splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.rstrip(" |").split(" | ")[1:] for line in lines[2:]}
    # 640 tokens a second are 10 replies; half of them 5: 300 people with one a minute, 5 · 3600 / 1.5 people a day.
    assert cells["… planned with: half of it"] == ["5", "–", "–"]
    assert cells["people who chat at the same time"] == ["300", "–", "–"]
    assert cells["people a day"] == cells["votes a day"] == ["12,000", "–", "–"]
    assert cells["hours until a round has its 200 thumbs"] == ["0.4", "–", "–"]
