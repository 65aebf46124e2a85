"""Rating over HTTP: every kind of act, its receipt, repeats, and what is kept of words without consent."""

import pytest

from feedback_store.feedback import effective_feedback, history
from feedback_store.raters import rater_id_of
from feedback_store.settings import PrivacySettings


def give(client, key=None, **body):
    headers = {} if key is None else {"idempotency-key": key}
    return client.post("/v1/feedback", json={"rater": "anna", **body}, headers=headers)


@pytest.fixture
def reply_id(chat):
    return chat()["id"]


@pytest.fixture
def comparison(chat):
    return chat(n=3, metadata={"compare": True})


def acts_on(store, **target):
    return [feedback.act for feedback in store.read(history, **target)]


def test_a_thumb_is_acknowledged_with_its_number_and_target(client, reply_id, store, context):
    answer = give(client, reply_id=reply_id, thumb="up", reason="clear")
    assert answer.status_code == 200
    assert answer.json() == {"feedback_id": 1, "duplicate": False, "reply_id": reply_id}
    (act,) = acts_on(store, reply_id=reply_id)
    assert (act.thumb, act.reason, act.channel) == ("up", "clear", "api")
    assert act.rater_id == rater_id_of(context.rater_key, "api", "anna")


def test_a_null_thumb_retracts(client, reply_id, store):
    give(client, reply_id=reply_id, thumb="up")
    assert give(client, reply_id=reply_id, thumb=None).status_code == 200
    assert store.read(effective_feedback) == []


def test_every_verdict_is_taken_and_null_retracts_it(client, comparison, store):
    comparison_id = comparison["comparison_id"]
    best = comparison["choices"][1]["reply_id"]
    for verdict in (best, "tie", "both_bad", None):
        answer = give(client, comparison_id=comparison_id, verdict=verdict)
        assert answer.status_code == 200 and answer.json()["comparison_id"] == comparison_id
    assert [act.verdict for act in acts_on(store, comparison_id=comparison_id)] == [best, "tie", "both_bad", None]
    assert store.read(effective_feedback) == []


def test_a_ranking_names_every_reply_once(client, comparison, store):
    ids = [choice["reply_id"] for choice in comparison["choices"]]
    comparison_id = comparison["comparison_id"]
    assert give(client, comparison_id=comparison_id, ranking=ids[::-1]).status_code == 200
    short = give(client, comparison_id=comparison_id, ranking=ids[:2])
    assert short.status_code == 400 and short.json()["error"]["param"] == "ranking"
    assert [act.ranking for act in acts_on(store, comparison_id=comparison_id)] == [tuple(ids[::-1])]


def test_a_correction_is_the_raters_own_words(client, reply_id, store):
    assert give(client, reply_id=reply_id, correction="Robin, wren, heron.").status_code == 200
    assert acts_on(store, reply_id=reply_id)[0].correction == "Robin, wren, heron."


def test_a_repeated_key_adds_nothing_and_gets_the_first_receipt(client, reply_id, store):
    first = give(client, key="k-1", reply_id=reply_id, thumb="up").json()
    again = give(client, key="k-1", reply_id=reply_id, thumb="up").json()
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["feedback_id"] == again["feedback_id"]
    assert len(acts_on(store, reply_id=reply_id)) == 1


def test_the_same_key_of_two_raters_is_two_acts(client, reply_id, store):
    for rater in ("anna", "ben"):
        assert not give(client, key="k-1", reply_id=reply_id, thumb="up", rater=rater).json()["duplicate"]
    assert len(acts_on(store, reply_id=reply_id)) == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"reply_id": "r-1"}, "thumb"),
        ({"reply_id": "r-1", "thumb": "up", "correction": "x"}, "correction"),
        ({"reply_id": "r-1", "thumb": None, "verdict": None}, "verdict"),
        ({"comparison_id": "c-1", "thumb": "up"}, "reply_id"),
        ({"reply_id": "r-1", "verdict": "tie"}, "comparison_id"),
        ({"reply_id": "r-1", "comparison_id": "c-1", "thumb": "up"}, "comparison_id"),
        ({"reply_id": "r-1", "correction": "y", "reason": "x"}, "reason"),
    ],
)
def test_a_body_that_is_not_exactly_one_act_is_refused_by_name(client, body, param):
    answer = give(client, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("body", [{"reply_id": "r-0", "thumb": "up"}, {"comparison_id": "c-0", "verdict": "tie"}])
def test_an_unknown_target_is_not_found(client, body):
    assert give(client, **body).status_code == 404


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9".encode("latin-1")])
def test_a_bad_idempotency_key_is_named(client, reply_id, key):
    answer = give(client, key=key, reply_id=reply_id, thumb="up")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "Idempotency-Key"


def test_without_consent_a_thumb_counts_its_reason_is_left_out_and_a_correction_is_refused(client, reply_id, store):
    web = {"channel": "web", "reply_id": reply_id}
    assert give(client, **web, thumb="down", reason="too long").status_code == 200
    refused = give(client, **web, correction="shorter")
    assert refused.status_code == 403 and refused.json()["error"]["param"] == "correction"
    client.post("/v1/consent", json={"rater": "anna", "channel": "web", "given": True})
    assert give(client, **web, thumb="down", reason="too long").status_code == 200
    assert [act.reason for act in acts_on(store, reply_id=reply_id)] == [None, "too long"]


def test_a_rater_who_declined_is_heard_over_the_bare_api_too(client, reply_id, store):
    client.post("/v1/consent", json={"rater": "anna", "channel": "api", "given": False})
    assert give(client, reply_id=reply_id, correction="shorter").status_code == 403


def test_the_setting_can_ask_every_rater_of_the_bare_api(client, context, reply_id):
    context.privacy = PrivacySettings(api_consent="rater")
    assert give(client, reply_id=reply_id, correction="shorter").status_code == 403


def test_the_metrics_count_acts_and_repeats(client, reply_id):
    for _ in range(2):
        give(client, key="k", reply_id=reply_id, thumb="up")
    text = client.get("/metrics").text
    assert 'thumbwise_feedback_total{kind="thumb"} 2.0' in text
    assert "thumbwise_duplicate_feedback_total 1.0" in text
    assert 'thumbwise_http_requests_total{route="/v1/feedback",status="200"} 2.0' in text
