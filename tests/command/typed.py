"""What somebody types, run in this process, and what they read."""

import json
import os
from typing import Any

from click.testing import CliRunner, Result

from thumbwise.cli import main


def thumbwise(*arguments: str, stdin: str | None = None, **environ: str | None) -> Result:
    """Run the command; variables of the machine that runs the tests do not count."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("THUMBWISE_")}
    return CliRunner().invoke(main, list(arguments), input=stdin, env={**clean, **environ})


def told(result: Result) -> dict[str, Any]:
    """What a command that did its work printed with --json."""
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found
