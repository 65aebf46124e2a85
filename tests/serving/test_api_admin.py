"""The admin's routes: who may use them, and what they do to rounds, versions and the pointer."""

import pytest
from fastapi.routing import APIRoute

from feedback_store.records import RoundMetric
from feedback_store.rounds import add_metrics
from feedback_store.versions import live_version
from serving.engine import AdapterRefused
from tests.serving.conftest import ADMIN_HEADERS

OPEN_TO_ALL = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/consent"),
    ("POST", "/v1/consent"),
    ("GET", "/v1/conversations"),
    ("GET", "/v1/conversations/{conversation_id}"),
    ("GET", "/v1/raters/export"),
    ("POST", "/v1/raters/erase"),
}
"""Every other route is the admin's: a new one is closed unless it is named here."""
IN_PATH = {
    "{round_id}": "1",
    "{version}": "1",
    "{reply_id}": "r-1",
    "{model}": "thumbwise",
    "{conversation_id}": "c-1",
    "{feedback_id}": "1",
    "{quarantine_id}": "1",
}


def routes_of(client):
    """Every (method, path) of the document, which lists what a caller can reach."""
    document = client.get("/openapi.json").json()
    return {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}


def filled(path):
    for name, value in IN_PATH.items():
        path = path.replace(name, value)
    return path


def test_every_route_that_is_not_listed_as_open_needs_the_admin_token(client):
    routes = routes_of(client)
    assert routes > OPEN_TO_ALL
    for method, path in sorted(routes):
        url = filled(path) + ("?rater=anna&channel=web" if "con" in path or "raters" in path else "")
        without = client.request(method, url)
        wrong = client.request(method, url, headers={"authorization": "Bearer wrong"})
        basic = client.request(method, url, headers={"authorization": "Basic correct-horse"})
        if (method, path) in OPEN_TO_ALL:
            assert {without.status_code, wrong.status_code} & {401, 403} == set(), path
        else:
            assert (without.status_code, wrong.status_code, basic.status_code) == (401, 403, 401), path
            assert without.headers["www-authenticate"] == "Bearer"


def test_every_route_is_in_the_document(client):
    routes = {
        (method, route.path) for route in client.app.routes if isinstance(route, APIRoute) for method in route.methods
    }
    assert routes == routes_of(client)
    assert [route.path for route in client.app.routes if not isinstance(route, APIRoute)] == ["/openapi.json"]


def test_an_empty_admin_token_admits_nobody(client, context):
    context.admin_token = ""
    assert client.get("/v1/status", headers={"authorization": "Bearer "}).status_code in (401, 403)
    assert client.get("/v1/status", headers={"authorization": "Bearer x"}).status_code == 403


def test_a_wish_for_a_round_is_refused_with_the_report_while_feedback_is_scarce(admin, context):
    context.readiness = lambda: {"ready": False, "reasons": ["12 of 200 thumbs"]}
    assert admin.get("/v1/readiness").json()["ready"] is False
    answer = admin.post("/v1/rounds", json={})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "not_ready"
    assert answer.json()["readiness"]["reasons"] == ["12 of 200 thumbs"]
    assert admin.get("/v1/rounds").json()["data"] == []


def test_a_round_is_wished_for_once_shown_and_cancelled(admin, context):
    context.readiness = lambda: {"ready": True}
    wish = admin.post("/v1/rounds", json={"method": "kto"})
    assert wish.status_code == 201
    round_id = wish.json()["round_id"]
    assert (wish.json()["state"], wish.json()["method"], wish.json()["requested_by"]) == ("requested", "kto", "admin")
    assert admin.post("/v1/rounds", json={"force": True}).status_code == 409
    assert [row["round_id"] for row in admin.get("/v1/rounds").json()["data"]] == [round_id]
    assert admin.post(f"/v1/rounds/{round_id}/cancel").json()["state"] == "cancelled"
    assert admin.post(f"/v1/rounds/{round_id}/cancel").status_code == 409
    assert admin.get(f"/v1/rounds/{round_id}").json()["state"] == "cancelled"
    assert admin.get("/v1/rounds/99").status_code == 404


def test_a_forced_round_needs_no_readiness_and_says_so(admin):
    wish = admin.post("/v1/rounds", json={"force": True, "method": "dpo"})
    assert wish.status_code == 201 and wish.json()["settings"] == {"force": True}


def test_the_curves_of_a_round_can_be_followed(admin, store):
    admin.post("/v1/rounds", json={"force": True})
    store.write(add_metrics, [RoundMetric(1, step, "loss", 1.0 / (step + 1)) for step in range(3)])
    assert [point["step"] for point in admin.get("/v1/rounds/1/metrics").json()["data"]] == [0, 1, 2]
    assert [point["step"] for point in admin.get("/v1/rounds/1/metrics?after=1").json()["data"]] == [2]
    assert admin.get("/v1/rounds/9/metrics").status_code == 404


def test_a_version_is_promoted_and_rolled_back_and_the_engine_is_told(admin, context, candidate, store):
    told = []
    context.on_pointer_moved = lambda: told.append(store.read(live_version).version)
    moved = admin.post("/v1/versions/2/promote", json={"reason": "gate passed", "expected_live": 1})
    assert moved.status_code == 200
    assert (moved.json()["version"], moved.json()["from_version"], moved.json()["actor"]) == (2, 1, "admin")
    assert admin.get("/v1/versions/2").json()["state"] == "live"
    back = admin.post("/v1/rollback", json={"reason": "too short"})
    assert (back.json()["action"], back.json()["version"]) == ("rollback", 1)
    assert told == [2, 1]
    assert [row["action"] for row in admin.get("/v1/deployments").json()["data"]] == [
        "rollback",
        "promote",
        "bootstrap",
    ]
    assert admin.post("/v1/rollback", json={"reason": "again"}).status_code == 409


def test_a_stale_page_and_a_double_click_move_nothing(admin, candidate):
    click = {"reason": "gate passed", "expected_live": 1}
    assert admin.post("/v1/versions/2/promote", json=click).status_code == 200
    again = admin.post("/v1/versions/2/promote", json=click)
    assert again.status_code == 409 and again.json()["error"]["code"] == "conflict"


def test_an_adapter_that_is_refused_leaves_the_pointer_where_it_was(admin, context, candidate, store):
    def refuse(version):
        raise AdapterRefused(f"version {version}: lora_A holds NaN")

    context.prepare_version = refuse
    answer = admin.post("/v1/versions/2/promote", json={"reason": "gate passed"})
    assert answer.status_code == 409 and "NaN" in answer.json()["error"]["message"]
    assert store.read(live_version).version == 1


def test_a_version_that_is_not_there_is_not_found(admin):
    assert admin.post("/v1/versions/7/promote", json={"reason": "x"}).status_code == 404
    assert admin.get("/v1/versions/7").status_code == 404


def test_the_admin_sees_a_reply_with_every_act_on_it(admin, chat):
    reply_id = chat(user="anna")["id"]
    admin.post("/v1/feedback", json={"rater": "anna", "reply_id": reply_id, "thumb": "up"})
    reply = admin.get(f"/v1/replies/{reply_id}").json()
    assert (reply["policy_version"], reply["adapter_sha256"], reply["sampling"]["max_tokens"]) == (1, None, 16)
    assert reply["logprob_nats"] == pytest.approx(-20.0)
    assert [act["thumb"] for act in reply["feedback"]] == ["up"]
    assert "idempotency_key" not in reply["feedback"][0]
    assert admin.get("/v1/replies/r-0").status_code == 404
    (recent,) = admin.get("/v1/feedback/recent").json()["data"]
    assert recent["reply_id"] == reply_id and recent["kind"] == "thumb"


def test_replies_are_paged(admin, chat):
    ids = [chat()["id"] for _ in range(3)][::-1]
    first = admin.get("/v1/replies?limit=2").json()["data"]
    rest = admin.get(f"/v1/replies?limit=2&before={first[-1]['reply_id']}").json()["data"]
    assert [reply["reply_id"] for reply in first + rest] == ids


def test_the_status_says_what_is_live_and_how_much_there_is(admin, chat):
    chat()
    status = admin.get("/v1/status").json()
    assert (status["live"]["version"], status["serving_version"]) == (1, 1)
    assert status["loaded_versions"] == {"1": 0} and status["counts"]["replies"] == 1
    assert status["stopping"] is False and status["uptime_s"] >= 0


def test_it_is_ready_only_with_a_live_policy(client, words):
    assert client.get("/readyz").json() == {"ready": True, "engine": True, "store": True, "stopping": False}
    words._live = None
    answer = client.get("/readyz")
    assert answer.status_code == 503 and answer.json()["engine"] is False and answer.headers["retry-after"]
    chat = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]})
    assert chat.status_code == 503
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/models").json()["data"][0]["policy_version"] is None
    assert client.get("/v1/status", headers=ADMIN_HEADERS).json()["serving_version"] is None
