"""The dashboard asked over HTTP, without a browser: a person of a role is a client with a session."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from bot.web import mount_web_chat
from feedback_store.access import sessions, users
from feedback_store.access.roles import Role
from feedback_store.dashboard import DashboardParts, mount_dashboard
from feedback_store.dashboard.visit import cookie_name
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from serving.api import ApiContext, create_app
from tests.databases import url_of
from tests.web.running import ADMIN_TOKEN, dashboard_parts
from tests.web.scripted_engine import ScriptedEngine

URL = "http://127.0.0.1:8080"
OURS = {"origin": URL}
"""What a browser says of a form that stood on a page of ours."""


@dataclass(slots=True)
class House:
    """The application and what is behind it."""

    app: FastAPI
    store: Store
    parts: DashboardParts


@dataclass(slots=True)
class Person:
    """Somebody who is signed in, or nobody."""

    client: TestClient
    csrf: str

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, follow_redirects=False, **options)

    def post(self, path: str, **fields: Any) -> Any:
        """Send a form as a page of ours does."""
        data = {"csrf": self.csrf, **fields} if self.csrf else fields
        return self.client.post(path, data=data, headers=OURS, follow_redirects=False)


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    with Store.open(url_of(tmp_path)) as store:
        store.write(bootstrap, "invented-base")
        context = ApiContext(
            store=store, engine=ScriptedEngine(), rater_key=b"k" * 32, admin_token=ADMIN_TOKEN, data_dir=tmp_path,
            close_parts=False,
        )  # fmt: skip
        app = create_app(context)
        mount_web_chat(app)
        parts = dashboard_parts(context)
        mount_dashboard(app, parts)
        yield House(app, store, parts)


@pytest.fixture
def person(house: House) -> Iterator[Callable[..., Person]]:
    """Somebody of a role, in a browser of their own: `person("operator")`; `person(None)` is nobody."""
    with ExitStack() as clients:

        def of_role(role: Role | None, name: str = "") -> Person:
            client = clients.enter_context(TestClient(house.app, base_url=URL, raise_server_exceptions=False))
            if role is None:
                return Person(client, "")
            name = name or f"a-{role}"
            found = house.store.read(users.by_name, name) or house.store.write(users.add_user, name, role)
            token = house.store.write(sessions.begin_session, found.user_id, 1.0)
            client.cookies.set(cookie_name(house.parts), token)
            session = house.store.read(sessions.find_session, token)
            assert session is not None
            return Person(client, session.csrf_token)

        yield of_role
