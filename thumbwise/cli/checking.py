"""`thumbwise config show|check` and `thumbwise doctor`: is it set up as you think?"""

import json
from pathlib import Path
from typing import Any

import click

from thumbwise.cli.connection import data_option, json_option
from thumbwise.cli.examine import examine
from thumbwise.cli.finding import Finding
from thumbwise.cli.say import FriendlyGroup, escaped, print_json, to_stderr, to_stdout

SIGNS = {"ok": "[green]✓[/]", "note": "[yellow]•[/]", "bad": "[red]✗[/]"}


def config_option(function: Any) -> Any:
    """Add `--config FILE`."""
    return click.option(
        "--config",
        "config_file",
        envvar="THUMBWISE_CONFIG",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Settings file. Without it: DATA/thumbwise.toml, if it is there.",
    )(function)


@click.group("config", cls=FriendlyGroup)
def config() -> None:
    """Look at the settings and check them."""


@config.command("show")
@data_option
@config_option
@json_option
def show(data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Print every setting that is in force, and where it came from."""
    from thumbwise.config import SECTIONS, load_settings, without_password

    settings = load_settings(data_dir, config_file)
    values = {name: settings.section(name).model_dump(mode="json") for name in SECTIONS}
    if values["store"]["url"]:
        values["store"]["url"] = without_password(values["store"]["url"])
    if as_json:
        print_json({"settings": values, "origins": dict(settings.origins)})
        return
    out = to_stdout()
    for section, keys in values.items():
        out.print(f"[bold]\\[{section}][/]")
        for key, value in keys.items():
            origin = settings.origins.get(f"{section}.{key}")
            line = "# " * (value is None) + f"{key} = {_toml(value)}"
            out.print(f"{escaped(line)}  [dim]# {escaped(origin)}[/]" if origin else escaped(line), soft_wrap=True)
        out.print()


@config.command("check")
@data_option
@config_option
def check(data_dir: Path, config_file: Path | None) -> None:
    """Check the settings and say every mistake, without starting anything."""
    from thumbwise.config import load_settings

    settings = load_settings(data_dir, config_file)
    where = settings.config_file or "no file: defaults and environment"
    to_stderr().print(f"The settings are good ({where}); {len(settings.origins)} differ from their defaults.")


@click.command("doctor")
@data_option
@config_option
@json_option
def doctor(data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Look at the machine, the settings, the data folder and the server, and say what is wrong and what to do."""
    findings = examine(data_dir, config_file)
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            _print_finding(finding)
    if any(finding.state == "bad" for finding in findings):
        raise SystemExit(1)


def _print_finding(finding: Finding) -> None:
    out = to_stdout()
    out.print(f"{SIGNS[finding.state]} {escaped(finding.what)}: {escaped(finding.found)}", soft_wrap=True)
    if finding.do:
        out.print(f"    {escaped(finding.do)}", soft_wrap=True)


def _toml(value: Any) -> str:
    """A value as TOML writes it; JSON's forms of text, numbers, booleans and lists are TOML's too."""
    return '""' if value is None else json.dumps(value, ensure_ascii=False)
