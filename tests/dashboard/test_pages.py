"""What the pages do, asked over HTTP: acts, conflicts, hostile text, languages, and nothing to show yet."""

from collections.abc import Callable
from itertools import product

import pytest

from feedback_store import audit, quarantines, raters, rounds, versions
from feedback_store.access.keys import list_keys
from feedback_store.dashboard.settings import inert
from feedback_store.pages.language import choose
from feedback_store.records import Round
from feedback_store.schema import now
from scripts import messages
from scripts.seed_store import seed_store
from tests.dashboard.conftest import House, Person

PAGES = ("overview", "rounds", "rounds/new", "rounds/compare", "versions", "people", "settings", "settings/audit")


@pytest.fixture
def seeded(house: House) -> House:
    """A house with an invented month; round 7 is training, version 4 is live and 6 its canary."""
    seed_store(house.store, replies=400, events=900)
    return house


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_is_told_what_to_do_next(person: Callable[..., Person], page: str) -> None:
    answer = person("admin").get(f"/dashboard/{page}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "form-action 'self'" in policy
    assert " style=" not in answer.text and "<script>" not in answer.text and " onclick" not in answer.text


def test_every_page_of_a_full_store_is_drawn_in_both_languages(seeded: House, person: Callable[..., Person]) -> None:
    anna = person("admin")
    rater = anna.get("/dashboard/people").text.partition("/dashboard/people/")[2][:32]
    paths = [*PAGES, *(f"rounds/{number}" for number in range(1, 8)), "rounds/compare?round=1&round=2", "versions/4",
             "versions/1", "overview?days=1", "overview?days=90", "people?show=signals", f"people/{rater}",
             "rounds/new?days=3&learning_rate=0.001&data=all"]  # fmt: skip
    for path, language in product(paths, ("en", "zh-CN")):
        answer = anna.get(f"/dashboard/{path}", headers={"accept-language": language})
        assert answer.status_code == 200, (path, language)
        assert f'<html lang="{"en" if language == "en" else "zh-Hans"}">' in answer.text


@pytest.mark.parametrize("path", ["versions/{}", "rounds/{}", "inbox?version={}", "rounds/compare?round={}",
                                  "settings/audit?before={}"])  # fmt: skip
def test_a_number_that_no_database_holds_is_no_page(house: House, person: Callable[..., Person], path: str) -> None:
    for number in (2**31, 2**63 - 1, 2**63):
        assert person("admin", "anna").get(f"/dashboard/{path.format(number)}").status_code in (400, 404)


def test_a_round_is_planned_started_and_cancelled_with_a_reason(house: House, person: Callable[..., Person]) -> None:
    otto = person("operator")
    refused = otto.post("/dashboard/rounds", method="auto")
    assert refused.status_code == 409 and "nothing to train on" in refused.text
    house.parts.preview = lambda wish: {"possible": True, "by_force": True, "reason": ""}
    started = otto.post("/dashboard/rounds", method="kto", data="all", days="7", learning_rate="0.001", epochs="1.0")
    assert started.headers["location"] == "/dashboard/rounds/1?done=round-started"
    asked: Round = house.store.read(rounds.get_round, 1)
    assert (asked.method, asked.requested_by, asked.settings["training"]) == (
        "kto",
        "a-operator",
        {"learning_rate": 0.001},
    )
    assert asked.settings["data"]["fresh_only"] is False and asked.settings["data"]["since"] < now().isoformat()
    second = otto.post("/dashboard/rounds", method="kto")
    assert second.status_code == 409 and "round 1 is open" in second.text
    assert otto.post("/dashboard/rounds/1/cancel").status_code == 400  # no reason
    assert otto.post("/dashboard/rounds/1/cancel", reason="too early").status_code == 303
    late = otto.post("/dashboard/rounds/1/cancel", reason="me too")
    assert late.status_code == 409 and "/dashboard/rounds/1" in late.text
    log = house.store.read(audit.entries)
    assert [(entry.action, entry.reason) for entry in log] == [("round.cancel", "too early"), ("round.start", "")]


@pytest.mark.parametrize("fields", [{"method": "magic"}, {"data": "some"}, {"learning_rate": "nan"}, {"days": "0"},
                                    {"epochs": "1e9"}, {"nothing": "1"}, {"batch_size": "1.5"}])  # fmt: skip
def test_a_wish_that_cannot_be_is_refused_in_words(person: Callable[..., Person], fields: dict[str, str]) -> None:
    answer = person("operator").post("/dashboard/rounds", **fields)
    assert answer.status_code == 400 and next(iter(fields)) in answer.text


def test_of_two_operators_on_one_page_the_late_one_gets_a_conflict_and_moves_nothing(
    seeded: House, person: Callable[..., Person]
) -> None:
    otto, olga = person("operator", "otto"), person("operator", "olga")
    moved: list[int] = []
    seeded.parts.prepare_version = moved.append
    assert otto.post("/dashboard/versions/6/promote", reason="it is better", expected_live=4).status_code == 303
    late = olga.post("/dashboard/versions/roll-back", reason="I do not like 4", expected_live=4)
    assert late.status_code == 409
    assert "Somebody was first" in late.text and 'href="/dashboard/versions"' in late.text
    live = seeded.store.read(versions.live_version)
    assert live.version == 6
    assert [one.reason for one in seeded.store.read(versions.deployments, 1)] == ["it is better"]
    assert olga.post("/dashboard/versions/roll-back", reason="now I mean 6", expected_live=6).status_code == 303
    assert seeded.store.read(versions.live_version).version == 4
    double = [otto.post("/dashboard/versions/2/promote", reason="again", expected_live=4).status_code for _ in range(2)]
    assert double == [303, 409]


def test_a_canary_begins_changes_holds_and_ends(seeded: House, person: Callable[..., Person]) -> None:
    otto = person("operator")
    stop = "/dashboard/versions/canary/stop"
    assert otto.post("/dashboard/versions/6/canary", share="35", reason="more", expected_live=4).status_code == 303
    beside = seeded.store.read(versions.canary)
    assert beside is not None and beside.share == 0.35
    assert otto.post(stop, expected_canary=6, hold="true", reason="one more day").status_code == 303
    assert "one more day" in otto.get("/dashboard/versions/6").text
    assert otto.post(stop, expected_canary=2, reason="stale").status_code == 409
    assert otto.post(stop, expected_canary=6, reason="seen enough").status_code == 303
    assert seeded.store.read(versions.canary) is None
    assert otto.post("/dashboard/versions/3/canary", share="5", reason="?", expected_live=4).status_code == 409
    assert otto.post("/dashboard/versions/3/promote", reason="?", expected_live=4).status_code == 409
    assert otto.post("/dashboard/versions/3/promote", reason="!", expected_live=4, force="true").status_code == 303


def test_a_version_that_cannot_be_loaded_is_a_conflict_and_nothing_moves(
    seeded: House, person: Callable[..., Person]
) -> None:
    class AdapterRefused(Exception):
        pass

    def refuse(version: int) -> None:
        raise AdapterRefused("the adapter holds NaN")

    seeded.parts.prepare_version, seeded.parts.conflicts = refuse, (AdapterRefused,)
    answer = person("operator").post("/dashboard/versions/6/promote", reason="go", expected_live=4)
    assert answer.status_code == 409 and "the adapter holds NaN" in answer.text
    assert seeded.store.read(versions.live_version).version == 4


def test_somebody_is_left_out_of_rounds_and_taken_back_in(seeded: House, person: Callable[..., Person]) -> None:
    otto = person("operator")
    rater = otto.get("/dashboard/people").text.partition("/dashboard/people/")[2][:32]
    path = f"/dashboard/people/{rater}"
    fields = {"quarantined": "true", "seen": "false", "reason": "a burst of 600 thumbs"}
    assert otto.post(f"{path}/quarantine", **fields).status_code == 303
    assert otto.post(f"{path}/quarantine", **fields).status_code == 409
    page = otto.get(path).text
    assert "a burst of 600 thumbs" in page and "quarantined" in page
    assert rater[:10] in otto.get("/dashboard/people?show=quarantined").text
    assert (
        otto.post(f"{path}/quarantine", quarantined="false", seen="true", reason="a class of pupils").status_code == 303
    )


def test_a_quarantine_is_the_same_on_the_page_and_over_the_api_and_for_good_is_for_good(
    seeded: House, person: Callable[..., Person]
) -> None:
    otto = person("operator")
    rater = otto.get("/dashboard/people").text.partition("/dashboard/people/")[2][:32]
    path = f"/dashboard/people/{rater}"
    assert otto.post(f"{path}/quarantine", quarantined="true", seen="false", reason="a burst").status_code == 303
    (held,) = seeded.store.read(quarantines.quarantines_of, rater)
    assert (held.signal, held.reason, held.begun_by, held.decision) == ("by_hand", "a burst", "a-operator", None)
    seeded.store.write(quarantines.decide_quarantine, held.quarantine_id, "kept", actor="admin")
    page = otto.get(path).text
    assert "left out for good" in page and f'action="{path}/quarantine"' not in page
    assert otto.post(f"{path}/quarantine", quarantined="false", seen="true", reason="no").status_code == 409
    assert seeded.store.read(quarantines.quarantines_of, rater)[0].decision == "kept"


HOSTILE_HTML = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "'\"><b onclick=alert(1)>",
    "</textarea><script>alert(1)</script>", "<a href=javascript:alert(1)>x</a>", "<iframe srcdoc='<script>x</script>'>",
    "[x](javascript:alert(1))", "![x](http://evil.example/x.png)", "<style>*{display:none}</style>", "{{ 7*7 }}",
    "{% raw %}", "%(name)s", "${alert(1)}", "&lt;script&gt;", "<!--", "]]>", "\u202eleft", "\u200b",
    "<math><mi//xlink:href>",
)  # fmt: skip
HOSTILE_CELLS = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "|cmd",
    "%0a=1",
    "=cmd|' /C calc'!A0",
)


def test_hostile_text_in_every_field_stays_text_on_every_page_and_in_every_file(
    seeded: House, person: Callable[..., Person]
) -> None:
    """20 texts through 10 fields: 200 payloads."""
    anna = person("admin")
    rater = anna.get("/dashboard/people").text.partition("/dashboard/people/")[2][:32]
    for text in HOSTILE_HTML:
        known = seeded.store.read(raters.get_rater, rater)
        quarantined = known is not None and known.quarantined
        sent = [
            anna.post("/dashboard/settings/keys", name=text[:64], scopes="read"),
            anna.post("/dashboard/settings/users", name=text, role="user"),
            anna.post("/dashboard/versions/canary/stop", expected_canary=6, hold="true", reason=text),
            anna.post("/dashboard/versions/6/canary", share="20", reason=text, expected_live=4),
            anna.post(f"/dashboard/people/{rater}/quarantine", quarantined=str(not quarantined).lower(),
                      seen=str(bool(quarantined)).lower(), reason=text),
            anna.post("/dashboard/rounds/7/cancel", reason=text),
            person(None).post("/dashboard/sign-in", name=text, password=text, next=text),
            person(None).post("/dashboard/set-up", token=text, name=text, password=text),
            anna.get("/dashboard/settings/audit", params={"actor": text[:80], "action": text[:64]}),
            anna.get("/dashboard/join", params={"invitation": text}),
        ]  # fmt: skip
        pages = [f"/dashboard/{page}" for page in PAGES]
        pages += ["/dashboard/versions/6", f"/dashboard/people/{rater}", "/dashboard/rounds/7"]
        for answer in [*sent, *(anna.get(page) for page in pages)]:
            assert answer.status_code < 500
            if text.startswith(("<", "'", "]")):
                assert text not in answer.text
    table = anna.get("/dashboard/settings/audit?file=csv").text
    assert "javascript:alert(1)" in table
    assert not [line for line in table.splitlines() for cell in line.split(",") if cell[:1] in "=+-@|" and cell]


@pytest.mark.parametrize("cell", HOSTILE_CELLS)
def test_no_cell_of_a_file_is_a_formula(cell: str) -> None:
    assert inert(cell).startswith("'")
    assert inert("a normal reason") == "a normal reason"


@pytest.mark.parametrize("body", [b"reason=%00", b"reason=%ed%a0%80", b"reason=\xff", b"reason=%ff"])
def test_a_form_that_no_database_can_hold_is_refused(person: Callable[..., Person], body: bytes) -> None:
    otto = person("operator")
    headers = {"origin": "http://127.0.0.1:8080", "content-type": "application/x-www-form-urlencoded"}
    answer = otto.client.post(
        "/dashboard/rounds/1/cancel", content=body + b"&csrf=" + otto.csrf.encode(), headers=headers
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["rounds/0", "rounds/x", "rounds/99", "versions/99", "versions/1e3", "people/NOBODY",
                                  "people/..%2f..", "rounds/9999999999999999999999", "rounds/-1"])  # fmt: skip
def test_what_is_not_there_is_a_page_that_says_so(person: Callable[..., Person], path: str) -> None:
    answer = person("operator").get(f"/dashboard/{path}")
    assert answer.status_code == 404 and "This is not here" in answer.text


def test_a_key_is_shown_once(house: House, person: Callable[..., Person]) -> None:
    anna = person("admin")
    page = anna.post("/dashboard/settings/keys", name="nightly", scopes=["read", "export"], days="30").text
    (key,) = house.store.read(list_keys)
    assert page.count(f"tw-{key.key_id}_") == 2  # the whole key, and its beginning in the table
    assert anna.get("/dashboard/settings").text.count(f"tw-{key.key_id}_…") == 1
    assert anna.post("/dashboard/settings/keys", name="", scopes="read").status_code == 400


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [(None, "zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"), (None, "de-DE,en;q=0.5,zh;q=0.4", "en"), (None, "fr", "en"),
     ("en", "zh-CN", "en"), ("zh-Hans", "en", "zh-Hans"), ("xx", "zh-TW", "zh-Hans"), (None, "zh;q=0,en", "en"),
     (None, ";;;q=x", "en")],
)  # fmt: skip
def test_the_language_is_the_readers_choice_then_the_browsers(cookie: str | None, accepted: str, language: str) -> None:
    assert choose(cookie, accepted) == language


def test_every_text_of_the_pages_is_translated() -> None:
    for path in messages.LANGUAGES.glob("*.po"):
        found = messages.catalogue_of(path)
        assert [message.id for message in found if message.id and not messages.is_whole(message.string)] == []
