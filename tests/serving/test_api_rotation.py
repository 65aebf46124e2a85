"""After the rater key was changed, whoever comes back is the person they were."""

from starlette.testclient import TestClient

from feedback_store import feedback
from feedback_store.errors import StoreUnavailable
from feedback_store.raters import rater_id_of
from feedback_store.store import Store
from serving.api import create_app

OLD, NEW = b"k" * 32, b"n" * 32


def with_a_new_key(context):
    context.rater_key, context.former_rater_keys = NEW, (OLD,)
    return TestClient(create_app(context), base_url="http://127.0.0.1:8080", raise_server_exceptions=False)


def test_a_rater_who_comes_back_after_a_rotation_changes_their_own_vote(client, chat, context, store):
    reply = chat(user="anna", metadata={"channel": "api"})["id"]
    vote = {"rater": "anna", "channel": "api", "reply_id": reply}
    assert client.post("/v1/feedback", json=vote | {"thumb": "up"}).status_code == 200
    later = with_a_new_key(context)
    assert later.post("/v1/feedback", json=vote | {"thumb": "down"}).status_code == 200
    (act,) = store.read(feedback.effective_feedback)
    assert (act.act.thumb, act.act.rater_id) == ("down", rater_id_of(NEW, "api", "anna"))
    assert [act.act.rater_id for act in store.read(feedback.history, reply_id=reply)] == [act.act.rater_id] * 2
    assert context.settled_raters == {act.act.rater_id}


def test_consent_given_before_a_rotation_still_counts(client, context):
    answer = {"rater": "anna", "channel": "telegram", "given": True}
    assert client.post("/v1/consent", json=answer).status_code == 200
    later = with_a_new_key(context)
    assert later.get("/v1/consent", params={"rater": "anna", "channel": "telegram"}).json()["consent"] is True


def test_with_the_store_away_replies_go_on_and_the_rater_is_taken_over_later(context, monkeypatch, client, store):
    client.post("/v1/consent", json={"rater": "anna", "channel": "api", "given": True})
    later = with_a_new_key(context)

    async def away(self, fn, *args, **kwargs):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "read_async", away)
        body = {"messages": [{"role": "user", "content": "hello"}], "user": "anna"}
        assert later.post("/v1/chat/completions", json=body).status_code == 200
        assert not context.settled_raters
    assert later.get("/v1/consent", params={"rater": "anna", "channel": "api"}).json()["consent"] is True
