"""Oversight over HTTP: the canary's evidence, lineage, blind looks and vetoes, raters and quarantine."""

import pytest

from feedback_store import audit, raters, versions

EXAMPLES = [
    {"prompt_reply_id": None, "prompt": f"why {n}?", "before": f"old {n}", "after": f"new {n}"} for n in range(4)
]


@pytest.fixture
def gated(store):
    """Version 2 with a gate report that people can look at."""
    return store.write(
        versions.add_candidate,
        base_model="words",
        adapter_sha256="b" * 64,
        parent=1,
        method="kto",
        round_id=None,
        gate_report={"outcome": "pass", "examples": EXAMPLES},
        metrics={},
    )


def test_people_look_blind_and_their_votes_are_counted(admin, gated):
    pairs = admin.get("/v1/versions/2/side-by-sides?viewer=olga").json()["data"]
    assert [pair["prompt"] for pair in pairs] == [f"why {n}?" for n in range(4)]
    assert all({pair["left"][:3], pair["right"][:3]} == {"old", "new"} for pair in pairs)
    side = "left" if pairs[1]["left"].startswith("new") else "right"
    said = admin.post("/v1/versions/2/side-by-sides", json={"example": 1, "viewer": "olga", "choice": side})
    assert (said.json()["after"], said.json()["viewers"]) == (1, 1)
    assert admin.get("/v1/versions/2/side-by-sides?viewer=olga").json()["data"][1]["voted"] == side
    assert admin.get("/v1/versions/2/side-by-sides/result").json() == said.json()
    assert (
        admin.post("/v1/versions/2/side-by-sides", json={"example": 9, "viewer": "a", "choice": "tie"}).status_code
        == 404
    )
    assert (
        admin.post("/v1/versions/2/side-by-sides", json={"example": 1, "viewer": "A b", "choice": "tie"}).status_code
        == 400
    )
    assert admin.get("/v1/versions/9/side-by-sides?viewer=olga").status_code == 404


def test_a_veto_ends_the_canary_and_keeps_the_version_from_serving(admin, gated, store):
    assert admin.post("/v1/versions/2/canary", json={"share": 0.5, "reason": "try"}).status_code == 200
    vetoed = admin.post("/v1/versions/2/veto", json={"reason": "it is rude"})
    assert vetoed.json()["veto"] == "it is rude"
    assert store.read(versions.canary) is None
    refused = admin.post("/v1/versions/2/promote", json={"reason": "r"})
    assert refused.status_code == 409
    assert "it is rude" in refused.json()["error"]["message"]
    assert admin.post("/v1/versions/2/veto", json={"reason": "again"}).status_code == 409
    assert admin.delete("/v1/versions/2/veto").json()["veto"] is None
    assert admin.delete("/v1/versions/2/veto").status_code == 409
    told = [(entry.action, entry.reason) for entry in store.read(audit.entries, action="version.")]
    assert told[:2] == [("version.lift_veto", ""), ("version.veto", "it is rude")], "what was refused is not told"
    assert admin.post("/v1/versions/2/promote", json={"reason": "r"}).status_code == 200


def test_a_version_tells_what_it_was_trained_on(admin, gated):
    found = admin.get("/v1/versions/2/lineage").json()
    assert [one["version"] for one in found["line"]] == [2, 1]
    assert found["flags"] == []
    assert admin.get("/v1/feedback/1/versions").json() == {"feedback_id": 1, "versions": []}
    assert admin.get("/v1/versions/9/lineage").status_code == 404


def test_the_canarys_evidence_is_the_trainers_to_weigh(admin, context):
    assert admin.get("/v1/canary").json() == {"canary": None}
    context.canary_report = lambda: {"canary": 2, "action": "hold"}
    assert admin.get("/v1/canary").json()["action"] == "hold"


def test_a_quarantine_begins_by_hand_and_is_decided_once(admin, store):
    store.write(raters.ensure_rater, "anna", "web")
    begun = admin.post("/v1/quarantines", json={"rater_id": "anna", "reason": "votes at random"})
    assert (begun.status_code, begun.json()["signal"]) == (201, "by_hand")
    assert store.read(raters.get_rater, "anna").quarantined
    assert admin.post("/v1/quarantines", json={"rater_id": "anna", "reason": "again"}).status_code == 409
    assert admin.post("/v1/quarantines", json={"rater_id": "nobody", "reason": "r"}).status_code == 404
    number = begun.json()["quarantine_id"]
    assert [one["quarantine_id"] for one in admin.get("/v1/quarantines?open_only=true").json()["data"]] == [number]
    decided = admin.post(f"/v1/quarantines/{number}", json={"decision": "released"})
    assert decided.json()["decided_by"] == "admin"
    assert admin.post(f"/v1/quarantines/{number}", json={"decision": "kept"}).status_code == 409
    assert admin.get("/v1/quarantines?open_only=true").json()["data"] == []
    assert not store.read(raters.get_rater, "anna").quarantined
    told = [(entry.actor, entry.action, entry.target) for entry in store.read(audit.entries)]
    assert told == [("token", "rater.release", "rater anna"), ("token", "rater.quarantine", "rater anna")]


def test_trust_says_what_is_known_and_what_is_not(admin):
    found = admin.get("/v1/trust").json()
    assert found["agreement"]["alpha"] is None
    assert (found["raters"], found["findings"], found["waiting"]) == (0, [], 0)
