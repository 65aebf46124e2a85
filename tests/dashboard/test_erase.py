"""Erasing a person from the dashboard: shown first, confirmed by typing, done once, reported without a name."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from feedback_store import audit, lineage, rater_data, raters, versions
from feedback_store.rater_activity import activities
from scripts.seed_store import seed_store
from tests.dashboard.conftest import House, Person


@pytest.fixture
def busy(house: House) -> tuple[House, str]:
    """A house with an invented month, and its busiest rater, from whom a version learnt."""
    seed_store(house.store, replies=300, events=700)
    rater_id = house.store.read(activities)[0].rater_id
    house.store.write(_learn_from, rater_id)
    return house, rater_id


def _learn_from(connection: Connection, rater_id: str) -> None:
    rows = (
        "SELECT round_id, feedback_id, 'train' FROM feedback, (SELECT min(round_id) AS round_id FROM policy_versions) r"
    )
    connection.execute(
        text(f"INSERT INTO round_selection (round_id, feedback_id, split) {rows} WHERE rater_id = :one"),
        {"one": rater_id},
    )


def test_what_is_shown_is_what_is_erased_and_the_report_names_nobody(
    busy: tuple[House, str], person: Callable[..., Person]
) -> None:
    house, rater_id = busy
    otto = person("operator")
    found = otto.get(f"/dashboard/people/erase?rater_id=+{rater_id.upper()}+")
    assert found.headers["location"] == f"/dashboard/people/{rater_id}/erase"
    plan = house.store.read(rater_data.plan_erasure, rater_id)
    assert plan is not None and plan.feedback > 0 and plan.affected_versions
    page = otto.get(found.headers["location"]).text
    for number in (plan.feedback, plan.replies, plan.rewrites, plan.quarantines):
        assert f"<strong>{number}</strong>" in page
    for version in plan.affected_versions:
        assert f'href="/dashboard/versions/{version}"' in page
    done = otto.post(f"/dashboard/people/{rater_id}/erase", typed=rater_id[:8])
    assert done.status_code == 303
    assert house.store.read(raters.get_rater, rater_id) is None
    report = otto.get(done.headers["location"])
    assert report.status_code == 200 and rater_id not in report.text and rater_id[:8] not in report.text
    (line,) = [one for one in house.store.read(audit.entries) if one.action == "rater.erase"]
    assert (line.actor, line.target, line.reason) == ("user:a-operator", audit.ERASED_RATER, "")
    assert line.details == {
        "channel": plan.rater.channel,
        "replies": plan.replies,
        "feedback": plan.feedback,
        "versions": plan.affected_versions,
        "erasure": 1,
    }
    flagged = house.store.read(lineage.flagged_versions)
    assert set(plan.affected_versions) <= set(flagged)
    page = otto.get(f"/dashboard/versions/{plan.affected_versions[0]}").text
    assert "What it should not have learnt" in page
    everything = house.store.read(
        lambda connection: [
            str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
            for table in ("raters", "feedback", "replies", "audit", "quarantines")
        ]
    )
    assert not [rows for rows in everything if rater_id in rows]


def test_what_learnt_from_an_erased_person_is_kept_from_serving_by_one_press(
    busy: tuple[House, str], person: Callable[..., Person]
) -> None:
    house, rater_id = busy
    otto = person("operator")
    report = otto.post(f"/dashboard/people/{rater_id}/erase", typed=rater_id).headers["location"]
    page = otto.get(report).text
    assert "not yet; within a minute" in page and "Keep them from serving" in page
    (line,) = [one for one in house.store.read(audit.entries) if one.action == "rater.erase"]
    pressed = otto.post(f"{report}/retire", retrain="true")
    assert (pressed.status_code, pressed.headers["location"]) == (303, report)
    page = otto.get(report).text
    assert "None of them may serve any more" in page and "Keep them from serving" not in page
    assert house.store.read(versions.live_version).version not in line.details["versions"]
    newest = house.store.read(audit.entries)[0]
    assert (newest.action, newest.target) == ("rater.retire_versions", "erasure 1")


def test_nothing_is_erased_before_the_beginning_of_the_id_is_typed(
    busy: tuple[House, str], person: Callable[..., Person]
) -> None:
    house, rater_id = busy
    otto = person("operator")
    for typed in ("", "yes", "erase", "00000000", "%", rater_id[:7], rater_id[1:9]):
        answer = otto.post(f"/dashboard/people/{rater_id}/erase", typed=typed)
        assert answer.status_code == 400 and "Nothing was erased" in answer.text
    assert house.store.read(raters.get_rater, rater_id) is not None


def test_who_is_late_who_is_not_asked_and_who_is_unknown(
    busy: tuple[House, str], person: Callable[..., Person]
) -> None:
    _, rater_id = busy
    otto, nina = person("operator"), person("annotator")
    path = f"/dashboard/people/{rater_id}/erase"
    assert nina.get(path).status_code == nina.post(path, typed=rater_id[:8]).status_code == 403
    forged = otto.client.post(path, data={"typed": rater_id[:8]}, headers={"origin": "http://127.0.0.1:8080"})
    assert forged.status_code == 403
    assert otto.post(path, typed=rater_id).status_code == 303
    assert otto.post(path, typed=rater_id).status_code == 404
    assert otto.get("/dashboard/people/erased/999999").status_code == 404
    for unknown in (rater_id, "f" * 32, "' OR 1=1 --", "<script>alert(1)</script>"):
        answer = otto.get("/dashboard/people/erase", params={"rater_id": unknown})
        assert answer.status_code == 404 and "Nobody has this id" in answer.text
        assert "<script>alert" not in answer.text
    assert otto.get("/dashboard/people/erase", params={"rater_id": "a\x00b"}).status_code == 400


def test_a_line_of_the_log_about_something_else_is_no_report(house: House, person: Callable[..., Person]) -> None:
    anna = person("admin")
    anna.post("/dashboard/settings/keys", name="nightly", scopes="read")
    (line,) = house.store.read(audit.entries)
    assert anna.get(f"/dashboard/people/erased/{line.audit_id}").status_code == 404
    over_the_api = audit.Act("token", "rater.erase", audit.ERASED_RATER, details={"channel": "telegram"})
    number = house.store.write(audit.record, over_the_api)
    assert anna.get(f"/dashboard/people/erased/{number}").status_code == 404
