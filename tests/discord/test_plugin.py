"""The plug-in beside a host's own bot.py, without the server's libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_store.feedback import recent_feedback
from feedback_store.replies import recent_replies
from tests.web.parts import Site

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    "torch", "sqlalchemy", "pydantic", "fastapi", "starlette", "uvicorn", "numpy", "transformers", "click", "rich",
    "telegram",
)  # fmt: skip
BOOTSTRAP = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
sys.path[:0] = [%r]        # the host's own modules come first
sys.path.append(%r)        # where the plug-in is found; nothing else of ours may be imported from there
exec(compile(open(%r).read(), "host.py", "exec"))
"""


@pytest.mark.parametrize("mode", ["policy", "host"])
def test_the_plug_in_serves_in_somebody_elses_bot_without_torch_or_sqlalchemy(
    tmp_path: Path, site: Site, mode: str
) -> None:
    for name in ("bot", "serving", "trainer", "feedback_store"):
        (tmp_path / f"{name}.py").write_text("OWN = True\n")
    program = BOOTSTRAP % (FORBIDDEN, str(tmp_path), str(ROOT), str(Path(__file__).with_name("host_program.py")))
    environment = {**os.environ, "THUMBWISE_URL": site.url, "NO_PROXY": "127.0.0.1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, mode],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = site.store.read(recent_feedback, 10)
    assert [one.act.thumb for one in found] == ["up", "down"]
    assert found[0].act.reply_id == site.store.read(recent_replies, 1)[0].reply_id
