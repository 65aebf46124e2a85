"""What the tests of both bots stand on: a server whose model is scripted, and a bot that runs in a thread."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback_store.store import Store
from feedback_store.versions import bootstrap
from serving.api import ApiContext
from serving.settings import ServingSettings
from tests.databases import url_of
from tests.serving.conftest import serving_on_a_port
from tests.web.parts import Site
from tests.web.running import ADMIN_TOKEN, dashboard_parts
from tests.web.scripted_engine import ScriptedEngine


@contextmanager
def scripted_site(folder: Path) -> Iterator[Site]:
    """A server whose replies the messages write themselves (see ScriptedEngine)."""
    engine = ScriptedEngine()
    with Store.open(url_of(folder)) as store:
        store.write(bootstrap, "scripted")
        context = ApiContext(
            store=store,
            engine=engine,
            rater_key=b"k" * 32,
            admin_token=ADMIN_TOKEN,
            data_dir=folder,
            serving=ServingSettings(drain_timeout_s=1),
            close_parts=False,
        )
        with serving_on_a_port(context) as url:
            yield Site(url, context, engine, dashboard_parts(context))


class RunningBot:
    """A bot in a thread with a loop of its own; `work` runs it until the event is set."""

    def __init__(self, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._begun.wait()

    def _run(self) -> None:
        async def until_stopped() -> None:
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
            self._begun.set()
            await self._work(self._stopping)

        try:
            asyncio.run(until_stopped())
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """Ask it to end, and wait."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the bot did not stop within 30 s"

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()
