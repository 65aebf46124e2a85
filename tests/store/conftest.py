"""A store to test against: on SQLite always, on PostgreSQL where the machine has a server's programs."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from benchmarks._postgres import postgres_programs
from feedback_store import feedback, raters, replies, versions
from feedback_store.records import Comparison, FeedbackAck, NewFeedback, Reply, Sampling
from feedback_store.schema import metadata
from feedback_store.store import Store
from feedback_store.writer import forget
from tests.databases import SERVER, Choice, url_of

BASE_MODEL = "tiny-base"
PROMPT = ({"role": "user", "content": "What is a lighthouse for?"},)


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The URL of the databases of the throw-away server of this run."""
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL server's programs on this machine (Debian: apt-get install postgresql)")
    return SERVER.address


def new_postgres_database(server: str) -> str:
    """Make an empty database on it and return its URL."""
    assert server == SERVER.address
    return SERVER.new()


BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=BACKENDS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once on each backend."""
    if request.param == "postgresql":
        return new_postgres_database(request.getfixturevalue("postgres_server"))
    return f"sqlite:///{tmp_path}/data/thumbwise.db"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed SQLite store with version 1 live, to copy: quicker than making the tables for every test."""
    path = tmp_path_factory.mktemp("template") / "thumbwise.db"
    with Store.open(f"sqlite:///{path}") as opened:
        opened.write(versions.bootstrap, BASE_MODEL)
    return path


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> str:
    """One database, which the tests use one after another: a database is 300 files."""
    return new_postgres_database(postgres_server)


@pytest.fixture(scope="session")
def postgres_store(postgres_url: str) -> Iterator[Store]:
    """An open store on it."""
    with Store.open(postgres_url) as opened:
        yield opened


def begin_again(connection: Connection) -> None:
    """Take every row out, let numbers begin at 1 again, and make version 1."""
    connection.exec_driver_sql(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY")
    forget(connection)
    versions.bootstrap(connection, BASE_MODEL)


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest) -> Store:
    """An open store with version 1 live, once on each backend."""
    if request.param == "postgresql":
        opened: Store = request.getfixturevalue("postgres_store")
        opened.write(begin_again)
        return opened
    opened = request.getfixturevalue("sqlite_store")
    return opened


@pytest.fixture
def new_url(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Make a store with version 1 live, on the database of this run, and return its URL."""
    numbers = count(1)

    def make() -> str:
        folder = tmp_path / f"store-{next(numbers)}"
        if Choice.postgres:
            url = url_of(folder)
            with Store.open(url) as opened:
                opened.write(versions.bootstrap, BASE_MODEL)
            return url
        folder.mkdir()
        shutil.copy(request.getfixturevalue("sqlite_template"), folder / "thumbwise.db")
        return url_of(folder)

    return make


@pytest.fixture
def one_url(new_url: Callable[[], str]) -> str:
    """The URL of a store with version 1 live, on the database of this run: for what need not run on both each time."""
    return new_url()


@pytest.fixture
def one_store(one_url: str) -> Iterator[Store]:
    """An open store with version 1 live, on the database of this run."""
    with Store.open(one_url) as opened:
        yield opened


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a store on SQLite with version 1 live."""
    shutil.copy(sqlite_template, tmp_path / "thumbwise.db")
    return f"sqlite:///{tmp_path}/thumbwise.db"


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    """An open store on SQLite with version 1 live."""
    with Store.open(sqlite_url) as opened:
        yield opened


def make_reply(reply_id: str = "reply-1", **changes: Any) -> Reply:
    """A reply of version 1 with its texts, changed as asked."""
    values: dict[str, Any] = {
        "reply_id": reply_id,
        "policy_version": 1,
        "adapter_sha256": None,
        "channel": "web",
        "rater_id": None,
        "conversation_id": None,
        "messages": PROMPT,
        "rendered_prompt": "<|im_start|>user…",
        "text": f"the text of {reply_id}",
        "finish_reason": "stop",
        "sampling": Sampling(temperature=0.7, top_p=0.95, stop=("\n",), seed=3),
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "logprob_nats": -6.5,
        "latency_ms": 12.25,
    }
    return Reply(**(values | changes))


@dataclass
class Scene:
    """Short hands for tests that need people, replies and acts before they begin."""

    store: Store
    keys: Iterator[int] = field(default_factory=lambda: count(1))

    def rater(self, *names: str) -> None:
        for name in names:
            self.store.write(raters.ensure_rater, name, "web")

    def reply(self, *names: str, **changes: Any) -> None:
        for name in names:
            self.store.write(replies.add_reply, make_reply(name, **changes))

    def comparison(self, name: str, reply_ids: tuple[str, ...], **changes: Any) -> None:
        for position, reply_id in enumerate(reply_ids):
            self.reply(reply_id, comparison_id=name, shown_position=position, **changes)
        rater_id = changes.get("rater_id")
        self.store.write(replies.add_comparison, Comparison(name, reply_ids, rater_id, None, "web"))

    def act(self, kind: str, rater_id: str, **fields: Any) -> FeedbackAck:
        channel = fields.pop("channel", "web")
        act = NewFeedback(kind, rater_id, channel, **fields)  # type: ignore[arg-type]
        return self.store.write(feedback.add_feedback, act)


@pytest.fixture
def scene(store: Store) -> Scene:
    return Scene(store)


@pytest.fixture
def one_scene(one_store: Store) -> Scene:
    """For what is decided before a database is asked."""
    return Scene(one_store)
