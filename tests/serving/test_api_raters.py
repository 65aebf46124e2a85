"""A person's data: handed out and erased, to nobody but them."""

from feedback_store.replies import get_reply

MINE = {"rater": "anna", "channel": "web"}


def consenting(client, rater="anna", channel="web"):
    client.post("/v1/consent", json={"rater": rater, "channel": channel, "given": True})


def vote(client, reply_id, rater="anna", channel="web", thumb="up", **more):
    body = {"rater": rater, "channel": channel, "reply_id": reply_id, "thumb": thumb, **more}
    assert client.post("/v1/feedback", json=body).status_code == 200


def test_a_rater_gets_everything_that_is_kept_of_them_and_nothing_of_others(client, chat):
    consenting(client)
    mine = chat("a question of mine", user="anna", metadata={"channel": "web", "conversation_id": "c-1"})
    theirs = chat("of theirs", user="ben", metadata={"channel": "web"})
    vote(client, mine["id"], reason="clear")
    vote(client, mine["id"], rater="ben")
    found = client.get("/v1/raters/export", params=MINE).json()
    assert found["rater"]["consent"] is True
    assert [reply["reply_id"] for reply in found["replies"]] == [mine["id"]]
    assert found["replies"][0]["messages"][-1]["content"] == "a question of mine"
    assert [(act["thumb"], act["reason"]) for act in found["feedback"]] == [("up", "clear")]
    assert theirs["id"] not in str(found)
    empty = client.get("/v1/raters/export", params={**MINE, "rater": "nobody"}).json()
    assert empty == {"rater": None, "replies": [], "feedback": []}


def test_an_erased_rater_is_a_stranger_and_the_votes_of_others_stay(client, admin, chat, store):
    consenting(client)
    mine = chat("a question of mine", user="anna", metadata={"channel": "web", "conversation_id": "c-1"})
    pair = chat("another", user="anna", n=2, metadata={"channel": "web", "conversation_id": "c-1", "compare": True})
    vote(client, mine["id"])
    vote(client, mine["id"], rater="ben", thumb="down")
    client.post("/v1/feedback", json={**MINE, "comparison_id": pair["comparison_id"], "verdict": "tie"})
    erased = client.post("/v1/raters/erase", json=MINE).json()
    assert erased == {"replies": 3, "feedback": 2, "affected_versions": [], "erasure_id": 1}
    reply = store.read(get_reply, mine["id"])
    assert (reply.messages, reply.rendered_prompt, reply.text, reply.rater_id, reply.conversation_id) == (None,) * 5
    assert [act["thumb"] for act in admin.get(f"/v1/replies/{mine['id']}").json()["feedback"]] == ["down"]
    assert client.get("/v1/consent", params=MINE).json()["consent"] is None
    assert client.get("/v1/raters/export", params=MINE).json() == {"rater": None, "replies": [], "feedback": []}
    nothing = {"replies": 0, "feedback": 0, "affected_versions": [], "erasure_id": None}
    assert client.post("/v1/raters/erase", json=MINE).json() == nothing
    consenting(client)  # and may begin anew
    again = chat("hello again", user="anna", metadata={"channel": "web", "conversation_id": "c-1"})
    assert store.read(get_reply, again["id"]).text is not None


def test_versions_trained_on_an_erased_rater_are_named_and_can_be_kept_from_serving(client, admin, chat, store):
    from feedback_store.rounds import claim_round, freeze_selection, request_round
    from feedback_store.versions import add_candidate

    mine = chat("hello", user="anna", metadata={"channel": "web"})
    vote(client, mine["id"])
    requested = store.write(request_round, requested_by="test", method="kto", settings={})
    claimed = store.write(claim_round, owner="test", lease_s=60)
    store.write(freeze_selection, claimed.round_id, claimed.fence, [(1, "train")])
    version = store.write(
        add_candidate,
        base_model="words", adapter_sha256="a" * 64, parent=1, method="kto", round_id=requested.round_id,
        gate_report=None, metrics={},
    )  # fmt: skip
    erased = client.post("/v1/raters/erase", json=MINE).json()
    assert erased["affected_versions"] == [version.version]
    path = f"/v1/erasures/{erased['erasure_id']}"
    assert (client.get(path).status_code, client.post(f"{path}/retire", json={}).status_code) == (401, 401)
    known = admin.get(path).json()
    assert (known["versions"], known["overwritten_at"]) == ([2], None) and "anna" not in str(known)
    admin.post("/v1/versions/2/promote", json={"reason": "it is good"})
    retired = admin.post(f"{path}/retire", json={"retrain": True}).json()
    assert retired["retired"] == [2] and retired["live_version"] == 1 and "is open" in retired["no_round"]
    assert admin.post("/v1/versions/2/promote", json={"reason": "once more"}).status_code == 409
    assert admin.post("/v1/erasures/77/retire", json={}).status_code == 404


def test_a_name_that_can_be_guessed_opens_and_erases_nothing_without_the_admin_token(client, admin, chat):
    telegram = {"rater": "42", "channel": "telegram"}
    chat(user="42", metadata={"channel": "telegram"})
    assert client.get("/v1/raters/export", params=telegram).status_code == 401
    assert client.post("/v1/raters/erase", json=telegram).status_code == 401
    assert len(admin.get("/v1/raters/export", params=telegram).json()["replies"]) == 1
    assert admin.post("/v1/raters/erase", json=telegram).json()["replies"] == 1
