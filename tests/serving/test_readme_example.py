"""The README's program for host bots, run as it stands against a real server."""

import re
from pathlib import Path

from feedback_store.feedback import history

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_program_chats_and_rates(base_url, store):
    (program,) = re.findall(
        r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert program.count("http://127.0.0.1:8080") == 2
    said = {}
    exec(compile(program.replace("http://127.0.0.1:8080", base_url), "README.md", "exec"), said)
    said["chat"].close()
    (vote,) = store.read(history, reply_id=said["reply"].id)
    assert vote.act.thumb == "up"
