"""Inbox and Annotate over HTTP: hostile text in every field, what is refused, and acts on all that a list finds."""

import re
from collections.abc import Callable

import pytest

from feedback_store import annotation_queues, audit, feedback, inbox, raters, replies, review
from feedback_store.feedback import effective_feedback
from feedback_store.records import Comparison, NewFeedback, Reply, Sampling
from tests.dashboard.conftest import House, Person
from tests.dashboard.test_pages import HOSTILE_HTML

People = Callable[..., Person]


def reply(house: House, name: str, text: str, **changes: object) -> None:
    values: dict[str, object] = {
        "reply_id": name, "policy_version": 1, "adapter_sha256": None, "channel": "web", "rater_id": None,
        "conversation_id": None, "messages": ({"role": "user", "content": text},), "rendered_prompt": None,
        "text": text, "finish_reason": "stop", "sampling": Sampling(), "prompt_tokens": 5, "completion_tokens": 5,
        "logprob_nats": -2.0, "latency_ms": 10.0,
    }  # fmt: skip
    house.store.write(replies.add_reply, Reply(**(values | changes)))  # type: ignore[arg-type]


def thumb(house: House, name: str, rater: str = "anna", **fields: object) -> int:
    house.store.write(raters.ensure_rater, rater, "web")
    act = NewFeedback("thumb", rater, "web", reply_id=name, thumb="down", **fields)  # type: ignore[arg-type]
    return house.store.write(feedback.add_feedback, act).feedback_id


@pytest.fixture
def rated(house: House) -> House:
    """Seventy bad replies, and a pair to rank."""
    for number in range(70):
        reply(house, f"r-{number:02}", f"reply number {number}")
        thumb(house, f"r-{number:02}")
    for place, name in enumerate(("left", "right")):
        reply(house, name, f"the {name} one", comparison_id="pair", shown_position=place)
    house.store.write(replies.add_comparison, Comparison("pair", ("left", "right"), None, None, "web"))
    house.store.write(annotation_queues.add_tasks, "random", {"pair": 1.0}, created_by="tests")
    return house


def test_hostile_text_in_every_field_stays_text_on_every_page(rated: House, person: People) -> None:
    """20 texts through 10 fields: 200 payloads."""
    otto = person("operator")
    label = otto.post("/dashboard/annotate/next").headers["location"]
    for number, text in enumerate(HOSTILE_HTML):
        name = f"h-{number}"
        reply(rated, name, text)
        rated.store.write(raters.ensure_rater, "mallory", "web")
        said = NewFeedback("correction", "mallory", "web", reply_id=name, correction=text, reason=text)
        rated.store.write(feedback.add_feedback, said)
        page = f"/dashboard/inbox/{name}"
        answers = [
            otto.get("/dashboard/inbox", params={"q": text}),
            otto.get("/dashboard/inbox", params={"channel": text}),
            otto.get("/dashboard/inbox", params={"rater": text, "verdict": text}),
            otto.post("/dashboard/inbox/act", action="flag", target=f"{name}:0", reason=text, back=f"q={text}"),
            otto.post(f"{page}/note", note=text, back=text),
            otto.post(f"{page}/correct", correction=text, reason=text, revision=revision(rated, name)),
            otto.post("/dashboard/inbox/views", name=text[:60], back=f"q={text}"),
            otto.post("/dashboard/inbox/undo", batch=text, back=text),
            otto.post(label, action="save", revision=saves(rated), note=text, reasons="clear"),
            otto.post("/dashboard/annotate/queues", queue=text, count=text),
        ]
        answers += [otto.get(path) for path in ("/dashboard/inbox", page, "/dashboard/annotate", label)]
        for answer in answers:
            assert answer.status_code < 500
            if text.startswith(("<", "'", "]")):
                assert text not in answer.text
    assert otto.get("/dashboard/inbox/h-0").text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


def revision(house: House, name: str) -> int:
    acts = [act for act in house.store.read(review.acts_on, name) if act.action != "note"]
    return acts[-1].act_id if acts else 0


def saves(house: House) -> int:
    query = "SELECT revision FROM annotation_labels"
    return int(house.store.read(lambda connection: connection.exec_driver_sql(query).scalar_one()))


def test_an_act_on_all_that_is_found_goes_beyond_the_page_and_is_refused_when_the_list_changed(
    rated: House, person: People
) -> None:
    otto = person("operator")
    page = otto.get("/dashboard/inbox?verdict=down").text
    assert "All 70 that were found, not only this page" in page
    form = {"action": "exclude", "back": "verdict=down", "reason": "a test of ours"}
    thumb(rated, "left")
    assert otto.post("/dashboard/inbox/act", all="70", **form).status_code == 409
    assert len(rated.store.read(effective_feedback)) == 71
    assert otto.post("/dashboard/inbox/act", all="71", **form).status_code == 303
    assert rated.store.read(effective_feedback) == []
    (entry, *_) = rated.store.read(audit.entries, action="reply.exclude")
    assert (entry.actor, entry.target, entry.reason) == ("user:a-operator", "71 replies", "a test of ours")
    batch = re.search(r'name="batch" value="(\w+)"', otto.get("/dashboard/inbox").text)
    assert batch is not None
    assert otto.post("/dashboard/inbox/undo", batch=batch[1]).status_code == 303
    assert len(rated.store.read(effective_feedback)) == 71


def test_pages_follow_by_the_last_reply_and_keep_the_filter(rated: House, person: People) -> None:
    otto = person("operator")
    first = otto.get("/dashboard/inbox?verdict=down").text
    after = re.search(r'href="(/dashboard/inbox\?verdict=down&amp;after=r-\d+)"', first)
    assert after is not None and first.count("data-row=") == 50
    second = otto.get(after[1].replace("&amp;", "&")).text
    assert second.count("data-row=") == 20
    assert not set(re.findall(r'data-row="([\w-]+)"', first)) & set(re.findall(r'data-row="([\w-]+)"', second))


def test_a_visit_finds_all_news_taken_up(rated: House, person: People) -> None:
    person("operator").get("/dashboard/inbox")
    assert rated.store.read(inbox.news_waits) == 0


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/dashboard/inbox/act", {"action": "exclude"}, 400),
        ("/dashboard/inbox/act", {"action": "exclude", "target": "r-00"}, 400),
        ("/dashboard/inbox/act", {"action": "exclude", "target": "../x:1"}, 400),
        ("/dashboard/inbox/act", {"action": "exclude", "target": "none:0"}, 404),
        ("/dashboard/inbox/act", {"action": "dance", "target": "r-00:0"}, 400),
        ("/dashboard/inbox/act", {"action": "approve", "target": "r-00:0"}, 400),
        ("/dashboard/inbox/act", {"action": "flag", "target": "r-00:7"}, 409),
        ("/dashboard/inbox/undo", {"batch": "none"}, 404),
        ("/dashboard/inbox/r-00/note", {"note": ""}, 400),
        ("/dashboard/inbox/views", {"name": ""}, 400),
        ("/dashboard/inbox/views/9/delete", {}, 404),
        ("/dashboard/annotate/labels/99", {"action": "save"}, 404),
        ("/dashboard/annotate/next", {"queue": "best"}, 400),
        ("/dashboard/annotate/queues", {"queue": "random", "count": "0"}, 400),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    rated: House, person: People, path: str, fields: dict[str, str], status: int
) -> None:
    assert person("operator").post(path, **fields).status_code == status


def test_a_label_is_its_annotators_alone(rated: House, person: People) -> None:
    nina = person("annotator")
    label = nina.post("/dashboard/annotate/next").headers["location"]
    assert nina.get(label).status_code == 200
    other = person("annotator", "somebody-else")
    assert other.get(label).status_code == 404
    assert other.post(label, action="save", revision="0", ranked="0").status_code == 404
    assert nina.post(f"{label}/gold").status_code == 403


def test_who_annotates_is_held_to_the_cap_of_those_and_a_rater_to_theirs(
    house: House, person: Callable[..., Person]
) -> None:
    house.parts.patience_s = 20
    for number in range(14):
        reply(house, f"r{number}", "Robin.")
        for rater_id, channel in (("0" * 32, "web"), (raters.staff_rater_id("user:anna"), "annotate")):
            house.store.write(raters.ensure_rater, rater_id, channel)
            house.store.write(
                feedback.add_feedback, NewFeedback("thumb", rater_id, channel, reply_id=f"r{number}", thumb="up")
            )
    page = person("operator").get("/dashboard/people").text
    rows = {found[1]: found[0] for found in re.findall(r"(<tr><td><a [^>]*people/([\w-]+).*?</tr>)", page, re.DOTALL)}
    over = {rater_id: re.findall(r"<td>(.*?)</td>", found, re.DOTALL)[6] for rater_id, found in rows.items()}
    assert over == {"0" * 32: "4", raters.staff_rater_id("user:anna"): "–"}
    assert "200 of one who annotates or reviews here" in page
