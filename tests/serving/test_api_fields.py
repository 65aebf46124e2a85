"""Every field of every body and every parameter, as the document lists them, with bad values: a 4xx that names it.

The fields are read from /openapi.json, so one that is added later is tested without a line here.
"""

import json

import pytest

from serving.api import ApiContext, create_app
from serving.api.openapi import BODIES
from tests.databases import url_of

CHAT = ("/v1/chat/completions", "post")
NESTED = {
    CHAT: [
        ("messages.0.role", {"messages": [{"role": "tool", "content": "x"}]}),
        ("messages.0.role", {"messages": [{"content": "x"}]}),
        ("messages.0.content", {"messages": [{"role": "user"}]}),
        ("messages.0.content", {"messages": [{"role": "user", "content": None}]}),
        ("messages.1.content", {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": 7}]}),
        ("messages.0.content.0.type", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ("messages", {"messages": []}),
        ("metadata.channel", {"metadata": {"channel": "fax"}}),
        ("metadata.conversation_id", {"metadata": {"conversation_id": "../etc"}}),
        ("metadata.compare", {"metadata": {"compare": "perhaps"}}),
        ("metadata.mood", {"metadata": {"mood": 7}}),
        ("metadata", {"metadata": {str(number): "x" for number in range(17)}}),
        ("stream_options.include_usage", {"stream_options": {"include_usage": "yes"}}),
        ("stream_options.unknown", {"stream_options": {"unknown": 1}}),
        ("n", {"n": 5}),
        ("n", {"n": 1, "metadata": {"compare": True}}),
        ("n", {"metadata": {"compare": True}}),
        ("max_tokens", {"max_tokens": 65}),
        ("max_completion_tokens", {"max_completion_tokens": 65}),
        ("temperature", {"temperature": 2.1}),
        ("temperature", {"temperature": -0.1}),
        ("top_p", {"top_p": 0}),
        ("seed", {"seed": 2**63}),
        ("stop", {"stop": ""}),
        ("stop", {"stop": ["a"] * 5}),
        ("user", {"user": ""}),
        ("user", {"user": "x" * 257}),
        ("tools", {"tools": [{"type": "function"}]}),
        ("logprobs", {"logprobs": True}),
        ("response_format.type", {"response_format": {"type": "json_object"}}),
        ("frequency_penalty", {"frequency_penalty": 0.5}),
        ("logit_bias", {"logit_bias": {"50256": -100}}),
    ],
}


def bodies():
    for (path, method), model in BODIES.items():
        schema = model.model_json_schema()
        yield path, method, schema["examples"][0], schema


def wrong_values():
    for path, method, example, schema in bodies():
        for name in schema["properties"]:
            yield pytest.param(path, method, example, name, id=f"{path}-{name}")


def is_text(schema, name):
    """Whether a text may stand in this field (as it is or as one of several forms)."""
    property_ = schema["properties"][name]
    return any(form.get("type") == "string" for form in (property_, *property_.get("anyOf", ())))


def text_fields():
    for path, method, example, schema in bodies():
        for name in schema["properties"]:
            if is_text(schema, name):
                yield pytest.param(path, method, example, name, id=f"{path}-{name}")


@pytest.fixture(scope="module")
def module_admin(tmp_path_factory):
    """One application for all these cases: none of them stores anything."""
    from starlette.testclient import TestClient

    from benchmarks._word_engine import WordEngine
    from feedback_store.store import Store
    from feedback_store.versions import bootstrap
    from serving.settings import ServingSettings
    from tests.serving.conftest import ADMIN_HEADERS, ADMIN_TOKEN

    folder = tmp_path_factory.mktemp("fields")
    with Store.open(url_of(folder)) as store:
        store.write(bootstrap, "words")
        context = ApiContext(
            store=store,
            engine=WordEngine(),
            rater_key=b"k" * 32,
            admin_token=ADMIN_TOKEN,
            data_dir=folder,
            serving=ServingSettings(max_reply_tokens=64),
        )
        yield TestClient(create_app(context), base_url="http://127.0.0.1", headers=ADMIN_HEADERS)


def send(client, path, method, raw):
    path = path.replace("{version}", "1").replace("{quarantine_id}", "1").replace("{erasure_id}", "1")
    return client.request(method, path, content=raw, headers={"content-type": "application/json"})


def assert_names(answer, name):
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == name or error["param"].startswith(f"{name}."), error
    assert error["message"] and error["type"] == "invalid_request_error"


@pytest.mark.parametrize(("path", "method", "example", "name"), [*wrong_values()])
def test_a_value_of_a_wrong_kind_is_named(module_admin, path, method, example, name):
    raw = json.dumps({**example, name: {"not": ["this"]}}).encode()
    assert_names(send(module_admin, path, method, raw), name)


@pytest.mark.parametrize("evil", ['"a\\u0000b"', '"a\\ud800b"'], ids=["nul", "lone-surrogate"])
@pytest.mark.parametrize(("path", "method", "example", "name"), [*text_fields()])
def test_a_text_that_cannot_be_stored_is_named(module_admin, path, method, example, name, evil):
    fields = {key: json.dumps(value) for key, value in example.items()} | {name: evil}
    raw = "{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}"
    assert_names(send(module_admin, path, method, raw.encode()), name)


@pytest.mark.parametrize(("path", "method", "example", "schema"), [*bodies()])
def test_a_missing_or_unknown_field_is_named(module_admin, path, method, example, schema):
    for name in schema.get("required", ()):
        raw = json.dumps({key: value for key, value in example.items() if key != name}).encode()
        assert_names(send(module_admin, path, method, raw), name)
    assert_names(send(module_admin, path, method, json.dumps({**example, "surprise": 1}).encode()), "surprise")


@pytest.mark.parametrize(("name", "change"), NESTED[CHAT], ids=[name for name, _ in NESTED[CHAT]])
def test_a_bad_chat_field_is_named_to_its_depth(module_admin, name, change):
    raw = json.dumps({"messages": [{"role": "user", "content": "x"}], **change}).encode()
    assert_names(send(module_admin, *CHAT, raw), name)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"messages":' * 5_000, b"1" * 100_000],
    ids=["empty", "torn", "list", "null", "number", "text", "bytes", "deep-list", "deep-object", "long-number"],
)
@pytest.mark.parametrize(("path", "method"), list(BODIES))
def test_a_body_that_is_no_object_is_refused(module_admin, path, method, raw):
    answer = send(module_admin, path, method, raw)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


TEXTS = ("conversation_id", "reply_id", "channel", "before", "viewer")
NOT_A_TEXT = ("not%20a%20value%21", "%00", "x" * 65)
NOT_A_NUMBER = ("not%20a%20value%21", "%00", "-7", "99999999999999999999")


def parameters():
    from fastapi.routing import APIRoute

    from serving.api.app import ROUTERS

    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                for field in route.dependant.path_params + route.dependant.query_params:
                    if field.alias in ("model", "rater"):
                        continue  # any text is a name; an unknown one is not found
                    for value in NOT_A_TEXT if field.alias in TEXTS else NOT_A_NUMBER:
                        yield pytest.param(route, field.alias, value, id=f"{route.path}-{field.alias}-{value}")


@pytest.mark.parametrize(("route", "name", "value"), [*parameters()])
def test_a_bad_parameter_is_named(module_admin, route, name, value):
    path, query = route.path, {"rater": "anna", "channel": "web", "format": "events", name: value}
    in_path = {"round_id": "1", "version": "1", "reply_id": "r-1", "conversation_id": "c-1"}
    for key, good in in_path.items():
        path = path.replace(f"{{{key}}}", query.pop(key, good))
    if name in in_path:
        query.pop(name, None)
    wanted = {field.alias for field in route.dependant.query_params}
    query_string = "&".join(f"{key}={given}" for key, given in query.items() if key in wanted)
    answer = module_admin.request(next(iter(route.methods)), f"{path}?{query_string}")
    assert_names(answer, name)


@pytest.mark.parametrize("rater", ["", "%00", "a%0Ab", "x" * 257])
def test_a_bad_rater_name_is_named(module_admin, rater):
    assert_names(module_admin.get(f"/v1/consent?channel=web&rater={rater}"), "rater")
