"""Every route of the application against the one declared table, and every role at every route."""

import re
from collections.abc import Callable

import pytest

from feedback_store.access.keys import add_key
from feedback_store.access.roles import ROLES, SCOPES, reaches
from feedback_store.access.rules import ANYONE, RULES, rule_of, scope_of
from feedback_store.dashboard.routes import Routes
from serving.api.server import refuse_undeclared
from tests.dashboard.conftest import House, Person
from tests.web.running import ADMIN_TOKEN

VALUES = {
    "rater_id": "0" * 32, "user_id": "999", "key_id": "ab", "topic": "rounds", "reply_id": "r", "conversation_id": "c",
    "provider": "github", "audit_id": "999", "model": "thumbwise", "bundle": "b", "file": "f", "path": "nothing",
}  # fmt: skip


def routes_of(house: House) -> set[str]:
    return {
        f"{method} {getattr(route, 'path', '')}"
        for route in house.app.routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }


def path_of(route: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: VALUES.get(found[1], "1"), route.split(" ")[1])


def test_the_table_names_every_route_of_the_application_and_no_other(house: House) -> None:
    assert routes_of(house) == set(RULES)
    refuse_undeclared(house.app)  # also that each is a plain route: a folder of files has no methods to be listed by


def test_every_rule_says_who_in_words_that_are_known() -> None:
    known = {ANYONE, *ROLES, *(f"key:{scope}" for scope in SCOPES), "key:people or owner"}
    assert {route: rule for route, rule in RULES.items() if rule not in known} == {}


def test_a_route_that_nobody_declared_does_not_start() -> None:
    with pytest.raises(LookupError, match=r"GET /dashboard/secret.*rules\.py"):
        Routes().on("GET /dashboard/secret")


def test_each_page_is_refused_to_every_role_below_its_rule_and_to_nobody_above(
    house: House, person: Callable[..., Person]
) -> None:
    pages = {route: rule for route, rule in RULES.items() if rule == ANYONE or rule in ROLES}
    wrong = []
    for role in (None, *ROLES):
        for route, rule in sorted(pages.items()):
            if route in ("POST /v1/chat/completions", "GET /dashboard/live/{topic}"):
                continue  # the one is asked in tests/serving; the other is a stream, and asked below
            somebody = person(role)  # a new one each time: signing out is one of the routes
            method, path = route.split(" ")[0], path_of(route)
            answer = somebody.get(path) if method == "GET" else somebody.post(path)
            to_sign_in = answer.is_redirect and answer.headers["location"].startswith("/dashboard/sign-in?next")
            refused = to_sign_in or (answer.status_code in (401, 403) and "message" in answer.text)
            allowed = rule == ANYONE or (role is not None and rule in ROLES and reaches(role, rule))
            if route == "POST /dashboard/set-up":
                allowed = not refused  # without the admin token it is refused to everybody
            if refused == allowed or answer.status_code == 500:
                wrong.append((role, route, answer.status_code))
    assert wrong == []


def test_a_live_topic_has_a_role_of_its_own(person: Callable[..., Person]) -> None:
    assert person("annotator").get("/dashboard/live/rounds").status_code == 403
    assert person("operator").get("/dashboard/live/nothing").status_code == 404
    assert person(None).get("/dashboard/live/rounds").is_redirect


def test_each_closed_route_of_the_api_takes_the_admin_token_and_the_right_key_alone(
    house: House, person: Callable[..., Person]
) -> None:
    texts: dict[str, str] = {scope: house.store.write(add_key, scope, (scope,), "anna")[1] for scope in SCOPES}
    nobody, admin = person(None).client, person("admin").client
    wrong = []
    for route in RULES:
        if not rule_of(route).startswith("key:"):
            continue
        method, path = route.split(" ")[0], path_of(route)
        body: dict[str, str] | None = None
        if rule_of(route).endswith("or owner"):
            # Of the web's own histories, whoever knows the name is the owner.
            body = {"rater": "anna", "channel": "telegram"} if method == "POST" else None
            path += "?rater=anna&channel=telegram" if method == "GET" else ""
        statuses = {"nobody": nobody.request(method, path, json=body).status_code}
        origin = {"origin": "http://127.0.0.1:8080"}
        statuses["a cookie"] = admin.request(method, path, json=body, headers=origin).status_code
        for name, text in [("token", ADMIN_TOKEN), ("guess", "guess"), *texts.items()]:
            headers = {"authorization": f"Bearer {text}"}
            statuses[name] = nobody.request(method, path, json=body, headers=headers).status_code
        opened = {name for name, status in statuses.items() if status not in (401, 403)}
        if opened != {"token", scope_of(route)} or 500 in statuses.values():
            wrong.append((route, statuses))
    assert wrong == []
