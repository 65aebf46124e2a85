"""schemathesis over the whole document: no request gets a 500, and no answer breaks the document's word.

Bounded so that it fits into every test run: few examples a route, the same ones each time; as the admin with boundary
values too, as everybody else one of each route. The long form is benchmarks/api_fuzz.py.
"""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from benchmarks._fuzz_callers import Caller, callers_of, wrongly_answered
from benchmarks._word_engine import WordEngine
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from serving.api import ApiContext, create_app
from tests.databases import url_of
from tests.serving.conftest import ADMIN_TOKEN

EXAMPLES = 5

no_store_yet: Any = None
"""The document is read when tests are collected; the store is opened when they run."""
CONTEXT = ApiContext(
    store=no_store_yet,
    engine=WordEngine(),
    rater_key=b"k" * 32,
    admin_token=ADMIN_TOKEN,
    data_dir=Path(),
    extra_hosts=("testserver",),
    close_parts=False,
)
APP = create_app(CONTEXT)
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"deterministic": True, "no-shrink": True, "with-security-parameters": False},
        "auth": {"openapi": {"admin": {"bearer": ADMIN_TOKEN}}},
        # The document cannot say what settings limit (n, max_tokens), nor that a vote is exactly one act.
        "checks": {"positive_data_acceptance": {"enabled": False}},
    }
)
schema = schemathesis.openapi.from_asgi("/openapi.json", APP, config=CONFIG)
OTHERS = SchemathesisConfig.from_dict(
    {
        "generation": {"deterministic": True, "no-shrink": True, "with-security-parameters": False},
        "phases": {"coverage": {"enabled": False}, "examples": {"enabled": False}},
        # Who may is judged by the table of rules.
        "checks": {"positive_data_acceptance": {"enabled": False}, "ignored_auth": {"enabled": False}},
    }
)
schema_for_others = schemathesis.openapi.from_asgi("/openapi.json", APP, config=OTHERS)
callers: list[Caller] = []


@schemathesis.serializer("application/x-ndjson")
def one_line(context, value):
    return str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module", autouse=True)
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schema")
    with Store.open(url_of(folder)) as store:
        store.write(bootstrap, "words")
        CONTEXT.store = store
        callers[:] = callers_of(store, ADMIN_TOKEN)
        yield


@pytest.fixture(autouse=True)
def started():
    CONTEXT.stopping = False  # schemathesis ends the application's lifespan after each route


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says(case):
    case.call_and_validate()


@schema_for_others.parametrize()
@settings(max_examples=1, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whoever_asks_is_answered_as_the_document_and_the_rules_say(case):
    by_header = {caller.headers.get("Authorization"): caller for caller in callers}
    assert len(by_header) == 9
    for caller in callers:
        response = case.call(headers=caller.headers)
        case.validate_response(response)
        assert wrongly_answered(case.operation.label, response.status_code, caller.headers, by_header) == ""


@pytest.mark.parametrize(
    ("route", "status", "token", "said"),
    [
        ("POST /v1/rounds", 409, "of-rounds", ""),
        ("POST /v1/rounds", 403, "of-rounds", "refused with the right"),
        ("POST /v1/rounds", 403, "of-read", ""),
        ("POST /v1/rounds", 201, "of-read", "let in without the right"),
        ("POST /v1/rounds", 404, None, "let in without the right"),
        ("POST /v1/feedback", 403, None, ""),
    ],
)
def test_who_is_let_in_is_judged_by_the_rules(route, status, token, said):
    known = [Caller("rounds", "of-rounds", frozenset({"rounds"})), Caller("read", "of-read", frozenset({"read"}))]
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    by_header = {None: Caller("nobody", None)} | {caller.headers["Authorization"]: caller for caller in known}
    assert wrongly_answered(route, status, headers, by_header) == said
