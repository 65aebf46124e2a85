"""`thumbwise demo`: the whole loop with simulated raters, on a server of its own."""

import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from thumbwise.cli.say import Failure, to_stdout

if TYPE_CHECKING:
    from thumbwise.demo.crowd import Labels


DUEL_REPLIES = 640
"""Replies of 320 duels: less the ties that is over the 200 choices that DPO asks."""


@click.command("demo")
@click.option("--seed", default=0, show_default=True, help="Of the crowd, its prompts and its votes.")
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1, 20))
@click.option("--replies", type=click.IntRange(20), help="Replies that are rated before each round.")
@click.option(
    "--votes",
    type=click.Choice(["thumbs", "duels"]),
    default="thumbs",
    show_default=True,
    help="duels: the crowd chooses between two replies each time, for DPO or a reward model.",
)
@click.option(
    "--method",
    type=click.Choice(["kto", "dpo", "ppo", "grpo"]),
    help="Of its rounds. Without it: KTO from thumbs, DPO from duels.",
)
@click.option("--raters", type=click.IntRange(1), help="People in the crowd.")
@click.option(
    "--control",
    type=click.Choice(["shuffled", "inverted"]),
    help="shuffled: the same votes, dealt at random; inverted: a crowd that likes long replies. "
    "Candidates are then promoted by force, so that they are measured whatever the gate found.",
)
@click.option(
    "--poison",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    metavar="SHARE",
    help="Share of raters, 5 times as active, who vote for a phrase alone and talk the bot into saying it.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="Torch threads of the server.")
@click.option("--set", "pairs", multiple=True, metavar="SECTION.KEY=VALUE", help="A setting of the demo's server.")
@click.option("--base-model", help="Directory or cached Hugging Face id, instead of the bundled model.")
@click.option(
    "--data", "data_dir", type=click.Path(file_okay=False, path_type=Path),
    help="Empty folder for the demo's server, kept afterwards. Without it: one that is removed.",
)  # fmt: skip
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), help="Without it: thumbwise-demo-SEED.png, here."
)
@click.option("--json", "json_out", type=click.Path(dir_okay=False, path_type=Path), help="Write the results here too.")
def demo(
    seed: int,
    rounds: int,
    replies: int | None,
    votes: str,
    method: str | None,
    raters: int | None,
    control: str | None,
    poison: float,
    threads: int | None,
    pairs: tuple[str, ...],
    base_model: str | None,
    data_dir: Path | None,
    picture: Path | None,
    json_out: Path | None,
) -> None:
    """Show that votes teach: a simulated crowd chats, rates, and is served better, measured before and after.

    The crowd likes short, finished, plain replies, and says so in thumbs alone, or by choosing between two. It uses the
    HTTP API like anybody.
    """  # fmt: skip
    from thumbwise.demo.plan import DemoPlan
    from thumbwise.demo.run import run_demo

    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    settings = dict(_pair(text) for text in pairs)
    if base_model is not None:
        settings["policy.base_model"] = base_model
    labels = cast("Labels", control or "votes")
    usual = DemoPlan()
    plan = replace(
        usual,
        seed=seed,
        rounds=rounds,
        crowd=replace(usual.crowd, labels=labels, poison_share=poison, raters=raters or usual.crowd.raters),
        replies_a_round=replies or (usual.replies_a_round if votes == "thumbs" else DUEL_REPLIES),
        votes=cast("Literal['thumbs', 'duels']", votes),
        method=method or ("kto" if votes == "thumbs" else "dpo"),
        force_promotion=control is not None,
        threads=threads,
        settings={**usual.settings, **settings},
    )
    with tempfile.TemporaryDirectory(prefix="thumbwise-demo-") as scratch:
        run_demo(
            plan,
            (data_dir or Path(scratch)).absolute(),
            console=to_stdout(),
            models_dir=_models_dir(),
            picture=picture or Path(f"thumbwise-demo-{seed}.png"),
            json_out=json_out,
        )


def _end(number: int, frame: object) -> None:
    """Told to end, or the terminal was closed: leave as from any error, so that the demo's server ends too."""
    sys.exit(128 + number)


def _models_dir() -> Path:
    """Share one copy of the bundled model with `thumbwise up`, whose data folder is ./data."""
    from thumbwise.config import models_dir_of

    return models_dir_of(Path("data")).absolute()


def _pair(text: str) -> tuple[str, str | int | float | bool]:
    """Read SECTION.KEY=VALUE as a TOML line would; a bare word is a text."""
    import tomllib

    name, sign, value = text.partition("=")
    if not sign or name.count(".") != 1:
        raise Failure(f"--set is {text!r}; wanted SECTION.KEY=VALUE, for example training.epochs=2")
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        read = value
    if not isinstance(read, str | int | float | bool):
        raise Failure(f"--set {name} is {value!r}; wanted a text, a number, true or false")
    return name.strip(), read
