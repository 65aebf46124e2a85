"""Documents cannot lie: what README and docs/ name exists, and what is generated is what the code says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import docs, docs_configuration, measured
from thumbwise.config import PLACES, SECRETS, SECTIONS

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[a-z]*/README.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(text: str, language: str) -> Iterator[str]:
    """Yield the content of each fenced block of `language`."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str, first: str) -> list[list[str]]:
    """Return the arguments of each `first …` command in the shell blocks of `text`, comments left out."""
    lines = [line.split(" #")[0].split() for block in fenced(text, "sh") for line in block.splitlines()]
    return [line[1:] for line in lines if line and Path(line[0]).name == first]


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing, f"{page_name(page)} links to {missing}: add the file or correct the link"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {arguments[0] for arguments in commands(page.read_text(encoding="utf-8"), "make") if arguments}
    unknown = {target for target in named - targets if not target.startswith("bench-")}
    assert not unknown, f"{page_name(page)} names make {unknown}; the Makefile has {sorted(targets)}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_thumbwise_command_that_a_page_names_exists(page: Path) -> None:
    import click

    from thumbwise.cli import main

    for arguments in commands(page.read_text(encoding="utf-8"), "thumbwise"):
        command: click.Command = main
        rest = list(arguments)
        while isinstance(command, click.Group):
            assert rest, f"{page_name(page)}: thumbwise {' '.join(arguments)} ends before a command"
            found = command.commands.get(rest.pop(0))
            assert found is not None, f"{page_name(page)}: no such command: thumbwise {' '.join(arguments)}"
            command = found
        options = {name for option in command.params for name in option.opts}
        unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]
        assert not unknown, f"{page_name(page)}: thumbwise {' '.join(arguments)} has no option {unknown}"


def test_the_readmes_python_is_whole() -> None:
    for block in fenced(README, "python"):
        compile(block, "README.md", "exec")


def test_the_readmes_file_tree_names_what_is_there() -> None:
    (tree,) = fenced(README, "text")
    folders: list[Path] = []
    named: set[str] = set()
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        path = Path(*folders[:depth], name)
        assert (ROOT / path).exists(), f"the README's tree names {path}, which is not there"
        assert (ROOT / path).is_dir() == name.endswith("/"), f"{path}: a folder ends with /, a file does not"
        folders[depth:] = [Path(name)]
        named.add(str(path))
    here = {
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and tracked(path.name)
    }
    assert here <= named, f"the README's tree leaves out {sorted(here - named)}"


def tracked(folder: str) -> bool:
    """Say whether git knows a file in `folder` (caches and data are nobody's business)."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return bool(listed.stdout)


@pytest.mark.parametrize("document", docs.DOCUMENTS, ids=page_name)
def test_generated_documents_are_up_to_date(document: Path) -> None:
    found = document.read_text(encoding="utf-8") if document.is_file() else ""
    assert found == docs.wanted(document), (
        f"{page_name(document)} is not what the code says: run `make docs` and commit it"
    )


def test_the_readmes_figures_are_those_of_the_results() -> None:
    assert measured.filled(README, measured.results()) == README, "run `make docs` and commit README.md"
    assert measured.document(measured.results()) == measured.MEASURED.read_text(encoding="utf-8"), (
        "run `make docs` and commit docs/measured.md"
    )


def test_every_setting_is_documented_once_and_in_its_own_section() -> None:
    page = docs_configuration.text()
    for section, model in SECTIONS.items():
        part = page.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
        for key in model.model_fields:
            assert part.count(f"\n| `{key}` |") == 1, f"[{section}] {key}"


def test_every_variable_of_the_environment_that_is_no_setting_is_documented() -> None:
    page = docs_configuration.text()
    assert not [name for name in (*SECRETS, *PLACES) if f"| `THUMBWISE_{name}` |" not in page]


def test_a_setting_without_a_text_below_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "silent_settings.py").write_text(
        "from pydantic import BaseModel\nclass Silent(BaseModel):\n    loud: int = 1\n    'Said.'\n    quiet: int = 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import silent_settings  # type: ignore[import-not-found]

    with pytest.raises(ValueError, match=r"Silent\.quiet has no text below it"):
        docs_configuration.meanings(silent_settings.Silent)
    sys.modules.pop("silent_settings")
