"""What is refused before any route: foreign hosts and origins, large bodies; and the headers on every answer."""

import pytest
from starlette.testclient import TestClient

from serving.api import create_app
from serving.api.middleware import BODY_LIMIT_BYTES

VOTE = {"rater": "anna", "reply_id": "r-1", "thumb": "up"}


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:9", "[::1]:8080", "LOCALHOST"])
def test_a_loopback_host_is_spoken_to(client, host):
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.168.0.9:8080", "", "[", "loc\xe4l"])
def test_a_name_that_was_rebound_to_us_is_refused(client, host):
    answer = client.get("/healthz", headers={"host": host.encode("latin-1")})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"


def test_more_hosts_can_be_allowed(context):
    context.extra_hosts = ("chat.example",)
    client = TestClient(create_app(context), base_url="http://chat.example")
    assert client.get("/healthz").status_code == 200


def test_a_server_on_every_address_takes_addresses_but_no_foreign_names(context):
    context.serving = context.serving.model_copy(update={"host": "0.0.0.0"})
    client = TestClient(create_app(context), base_url="http://192.168.0.9:8080")
    assert client.get("/healthz").status_code == 200
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "file://"])
def test_another_site_may_not_post(client, origin):
    answer = client.post("/v1/feedback", json=VOTE, headers={"origin": origin})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "cross_origin"


def test_our_own_page_may_post(client):
    answer = client.post("/v1/feedback", json=VOTE, headers={"origin": "http://127.0.0.1:8080"})
    assert answer.status_code == 404  # the vote itself is looked at: its reply is unknown


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_a_form_could_send_is_not_read(client, kind):
    answer = client.post("/v1/feedback", content=b"{}", headers={"content-type": kind})
    assert answer.status_code == 415 and answer.json()["error"]["param"] == "content-type"


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(client):
    large = b" " * (BODY_LIMIT_BYTES + 1)
    headers = {"content-type": "application/json"}
    assert client.post("/v1/feedback", content=large, headers=headers).status_code == 413
    chunked = client.post("/v1/feedback", content=iter([large[: 2**19]] * 3), headers=headers)
    assert chunked.status_code == 413 and chunked.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/rounds"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_a_page_keeps_its_own_policy(context):
    from starlette.responses import Response

    app = create_app(context)
    app.add_route("/page", lambda request: Response("x", headers={"content-security-policy": "default-src 'self'"}))
    headers = TestClient(app, base_url="http://127.0.0.1").get("/page").headers
    assert headers.get_list("content-security-policy") == ["default-src 'self'"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/v1/feedback", 405)])
def test_what_is_no_route_of_ours_is_refused_in_openais_shape(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_failure_of_ours_tells_nothing_but_that_it_failed(client, context):
    def broken():
        raise ZeroDivisionError("secret detail")

    context.readiness = broken
    answer = client.get("/v1/readiness", headers={"authorization": f"Bearer {context.admin_token}"})
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.json()["error"]["type"] == "server_error"


def test_paths_that_match_nothing_share_one_metric_label(client):
    for number in range(3):
        client.get(f"/nowhere/{number}")
    assert 'route="unmatched",status="404"} 3.0' in client.get("/metrics").text


def test_the_context_does_not_print_its_secrets(context):
    assert context.admin_token not in repr(context) and "kkkk" not in repr(context)
