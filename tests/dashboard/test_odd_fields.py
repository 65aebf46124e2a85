"""Fields of forms and addresses that no page of ours would send: each form of each page, each field, odd values."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.mount import MODULES
from scripts.seed_store import seed_store
from tests.dashboard.conftest import House, Person

ODD = (
    "9" * 5_000,
    str(2**63),
    "-1",
    "1e999",
    "nan",
    "[[[",
    "'; --",
    "../../x",
    "\u202eon",
    "٣",
    "true",
    "\0",
    "x" * 30_000,
)
A_PAGE = 3
"""Odd values a field, taken in turn: every value meets every kind of field somewhere."""
KNOWN = {
    "rater_id": "0" * 32, "user_id": "1", "key_id": "ab", "topic": "rounds", "reply_id": "seeded-1",
    "provider": "github", "audit_id": "1", "round_id": "1", "version": "2", "path": "nothing",
}  # fmt: skip


def forms() -> Iterator[tuple[str, type[Form]]]:
    """Each route with the form, of its body or its address, that its handler reads."""
    for module in MODULES:
        for route, handler in module.routes.handlers.items():
            for name in re.findall(r"visit\.(?:form|query)\((\w+)\)", inspect.getsource(handler)):
                yield route, getattr(importlib.import_module(handler.__module__), name)


def path_of(route: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: KNOWN.get(found[1], "1"), route.split(" ")[1])


def plausible(annotation: Any) -> str:
    """A value that a field of this kind would take."""
    if get_origin(annotation) in (Union, UnionType, tuple):
        return plausible(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return str(get_args(annotation)[0])
    return {int: "1", float: "0.5", bool: "on"}.get(annotation, "word")


def test_no_odd_field_of_a_form_or_an_address_makes_a_page_fail(house: House, person: Callable[..., Person]) -> None:
    seed_store(house.store, replies=40, events=80)
    admin = person("admin")
    asked, wrong = 0, []
    for route, form in forms():
        usual = {name: plausible(field.annotation) for name, field in form.model_fields.items()}
        for name in usual:
            for _ in range(A_PAGE):
                value = ODD[asked % len(ODD)]
                fields = usual | {name: value}
                path = path_of(route)
                answer = admin.get(path, params=fields) if route.startswith("GET ") else admin.post(path, **fields)
                asked += 1
                if answer.status_code >= 500:
                    wrong.append((route, name, value[:20], answer.status_code))
    assert asked > 200
    assert wrong == []


def test_every_form_is_read_by_a_handler_that_is_asked() -> None:
    declared = {
        found
        for module in MODULES
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Form) and found is not Form
    }
    read = {form for _, form in forms()}
    assert {form for form in declared - read if not form.__subclasses__()} == set()
