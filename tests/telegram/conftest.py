"""The real bot over the real server; only Telegram and the model are stand-ins."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.settings import TelegramSettings
from bot.telegram.process import TelegramBot, run_until
from bot.telegram.webhook import secret_of
from tests.bots import RunningBot, scripted_site
from tests.canaries import searched_logs
from tests.telegram.wire import TOKEN, Person, Wire, wire_at_port
from tests.web.parts import Site
from tests.web.running import ADMIN_TOKEN

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
    with scripted_site(tmp_path) as site:
        yield site


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
        started.append(RunningBot(lambda stopping: run_until(bot, stopping)))
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
