"""The command `thumbwise`. Its modules import only click and rich at first; what is heavy is imported by who needs it.

`up`, `serve`, `train`, `bot`, `packs`, `config`, `doctor`, `backup`, `restore`, `migrate`, `retention`, `keys` and
`demo` work here; every other command speaks HTTP to a running server, so that what a person can do by hand, a program
can do too.
"""

import click

import thumbwise
from thumbwise.cli.backups import backup, restore
from thumbwise.cli.bots import bot_group
from thumbwise.cli.candidates import candidates
from thumbwise.cli.chatting import chat
from thumbwise.cli.checking import config, doctor
from thumbwise.cli.demonstrating import demo
from thumbwise.cli.feedback_files import feedback
from thumbwise.cli.keys import keys
from thumbwise.cli.migrating import migrate
from thumbwise.cli.oversight import raters
from thumbwise.cli.packs import packs
from thumbwise.cli.retaining import retention
from thumbwise.cli.rounds import readiness, round_group
from thumbwise.cli.running import serve, train, up
from thumbwise.cli.say import FriendlyGroup
from thumbwise.cli.versions import version_group


@click.group(cls=FriendlyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(thumbwise.__version__, package_name="thumbwise", message="thumbwise %(version)s")
def main() -> None:
    """Chat bots that learn from their users' thumbs, and prove it before they serve it.

    Begin with `thumbwise up`; it prints where to chat and how to look behind it.
    """


for command in (
    up, serve, train, chat, round_group, version_group, readiness, feedback, candidates, raters, bot_group, packs, demo,
    config, doctor, backup, restore, migrate, retention, keys,
):  # fmt: skip
    main.add_command(command)
