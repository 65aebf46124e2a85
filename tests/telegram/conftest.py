"""The real bot over the real server; only Telegram and the model are stand-ins."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.settings import TelegramSettings
from bot.telegram.process import TelegramBot, run_until
from bot.telegram.webhook import secret_of
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from serving.api import ApiContext
from serving.settings import ServingSettings
from tests.canaries import searched_logs
from tests.serving.conftest import serving_on_a_port
from tests.telegram.wire import TOKEN, Person, Wire, wire_at_port
from tests.web.parts import Site
from tests.web.running import ADMIN_TOKEN, dashboard_parts
from tests.web.scripted_engine import ScriptedEngine

ADMIN = 900


@pytest.fixture(scope="module", autouse=True)
def _searched_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a module's last test if a token, or what somebody wrote, stands in any log of the module."""
    told, secrets = (TOKEN, ADMIN_TOKEN), (TOKEN.partition(":")[2], secret_of(TOKEN))
    with searched_logs(tmp_path_factory.mktemp("logs"), tmp_path_factory.getbasetemp(), told, secrets):
        yield


@pytest.fixture(autouse=True)
def _settled_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTB_TIMEDELTA", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def telegram_url(wire: Wire) -> Iterator[str]:
    with wire_at_port(wire) as url:
        yield url


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server whose replies the messages write themselves (see ScriptedEngine)."""
    engine = ScriptedEngine()
    with Store.open(f"sqlite:///{tmp_path / 'thumbwise.db'}") as store:
        store.write(bootstrap, "scripted")
        context = ApiContext(
            store=store,
            engine=engine,
            rater_key=b"k" * 32,
            admin_token=ADMIN_TOKEN,
            data_dir=tmp_path,
            serving=ServingSettings(drain_timeout_s=1),
            close_parts=False,
        )
        with serving_on_a_port(context) as url:
            yield Site(url, context, engine, dashboard_parts(context))


class RunningBot:
    """The bot in a thread with a loop of its own."""

    def __init__(self, bot: TelegramBot) -> None:
        self.bot = bot
        self.error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(run_until(self.bot, self._stopping))
        except BaseException as error:
            self.error = error
        finally:
            self._loop.close()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the bot did not stop within 30 s"

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()


StartBot = Callable[..., RunningBot]


@pytest.fixture
def start_bot(site: Site, telegram_url: str, tmp_path: Path) -> Iterator[StartBot]:
    """Start the bot with these settings; it is stopped after the test, and must not have failed."""
    started: list[RunningBot] = []

    def start(
        *, server_url: str | None = None, admin_token: str | None = ADMIN_TOKEN, **settings: object
    ) -> RunningBot:
        values = {"compare_share": 0.0, "draft_every_s": 0.3, "admin_ids": (ADMIN,), **settings}
        bot = TelegramBot(
            tmp_path / "bot",
            server_url or site.url,
            TelegramSettings.model_validate({"api_url": telegram_url, **values}),
            TOKEN,
            admin_token,
        )
        started.append(RunningBot(bot))
        return started[-1]

    yield start
    site.engine.gate.set()
    for running in started:
        running.stop()
        if running.error is not None:
            raise running.error


@pytest.fixture
def anna(wire: Wire) -> Person:
    return Person(wire, 7_123_456_789)


@pytest.fixture
def ben(wire: Wire) -> Person:
    return Person(wire, 42)


def decline(site: Site, *people: Person) -> None:
    """Let these people have said no, so that nobody is asked while something else is looked at."""
    import httpx

    for person in people:
        body = {"rater": str(person.user_id), "channel": "telegram", "given": False}
        assert httpx.post(f"{site.url}/v1/consent", json=body, trust_env=False).status_code == 200


def agree(site: Site, *people: Person) -> None:
    """Let these people have said yes."""
    import httpx

    for person in people:
        body = {"rater": str(person.user_id), "channel": "telegram", "given": True}
        assert httpx.post(f"{site.url}/v1/consent", json=body, trust_env=False).status_code == 200
