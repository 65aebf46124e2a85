"""Coming in: the set-up, passwords, sessions, invitations, and what keeps others out."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from feedback_store import audit
from feedback_store.access import sessions, users
from feedback_store.access.attempts import Attempts
from feedback_store.access.keys import add_key, find_key, get_key, revoke_key
from feedback_store.dashboard.visit import cookie_name, local_path
from feedback_store.errors import Conflict, Refused
from feedback_store.schema import now
from feedback_store.settings import AccessSettings
from tests.dashboard.conftest import OURS, House, Person
from tests.web.running import ADMIN_TOKEN

PASSWORD = "four words of the tests"


@pytest.fixture
def robin(house: House, person: Callable[..., Person]) -> Person:
    """The first admin, signed out."""
    somebody = person(None)
    assert somebody.post("/dashboard/set-up", token=ADMIN_TOKEN, name="Robin", password=PASSWORD).status_code == 303
    somebody.client.cookies.clear()
    return somebody


def sign_in(somebody: Person, name: str = "robin", password: str = PASSWORD, **more: str) -> int:
    return somebody.post("/dashboard/sign-in", name=name, password=password, **more).status_code


def test_set_up_needs_the_admin_token_and_a_password_that_is_not_easily_guessed(
    house: House, person: Callable[..., Person]
) -> None:
    somebody = person(None)
    assert somebody.get("/dashboard").headers["location"] == "/dashboard/set-up"
    wrong = (
        ("guess", "robin", PASSWORD, 403),
        (ADMIN_TOKEN, "robin", "short", 400),
        (ADMIN_TOKEN, "r b", PASSWORD, 400),
        (ADMIN_TOKEN, "robin", "aaaaaaaaaaaa", 400),
    )
    for token, name, password, status in wrong:
        assert somebody.post("/dashboard/set-up", token=token, name=name, password=password).status_code == status
    assert house.store.read(users.list_users) == []
    house.parts.admin_token = ""
    assert somebody.post("/dashboard/set-up", token="", name="robin", password=PASSWORD).status_code == 403


def test_a_session_is_a_row_and_the_database_holds_no_token(house: House, robin: Person) -> None:
    assert sign_in(robin) == 303
    token = robin.client.cookies[cookie_name(house.parts)]
    user = house.store.read(users.by_name, "robin")
    assert user is not None and user.password_hash is not None and user.password_hash.startswith("$argon2id$")
    session = house.store.read(sessions.find_session, token)
    assert session is not None and session.user == user
    dump = house.store.read(lambda connection: str(connection.exec_driver_sql("SELECT * FROM sessions").all()))
    assert token not in dump
    assert house.store.read(sessions.find_session, token, at=now() + timedelta(hours=169)) is None
    assert robin.get("/dashboard/account").status_code == 200
    robin.csrf = session.csrf_token
    assert robin.post("/dashboard/sign-out").status_code == 303
    assert house.store.read(sessions.find_session, token) is None


def test_the_cookie_is_for_this_server_and_no_script(house: House, robin: Person) -> None:
    for behind_tls, flags in ((False, {"httponly", "samesite=lax"}), (True, {"httponly", "samesite=lax", "secure"})):
        house.parts.access = AccessSettings(behind_tls=behind_tls)
        answer = robin.post("/dashboard/sign-in", name="robin", password=PASSWORD)
        cookie = answer.headers["set-cookie"].lower()
        assert flags <= set(cookie.replace(" ", "").split(";"))
        assert cookie.startswith("__host-") == behind_tls
        assert ("secure" in cookie) == behind_tls


def test_wrong_names_and_wrong_passwords_get_the_same_answer_and_have_to_wait(house: House, robin: Person) -> None:
    unknown = robin.post("/dashboard/sign-in", name="nobody", password=PASSWORD)
    wrong = robin.post("/dashboard/sign-in", name="robin", password="another password")
    assert (unknown.status_code, wrong.status_code) == (401, 401)
    assert unknown.text.replace("nobody", "") == wrong.text.replace("robin", "")
    statuses = [sign_in(robin, password=f"guess number {number}") for number in range(6)]
    assert statuses == [401, 401, 401, 401, 429, 429]
    assert sign_in(robin) == 429  # the right one has to wait too, or a guesser would see it
    house.parts.attempts = Attempts(0.0)
    assert sign_in(robin) == 303


def test_guesses_that_come_at_once_are_counted_like_guesses_one_after_another(house: House, robin: Person) -> None:
    def guess(number: int) -> int:
        return sign_in(robin, password=f"guess number {number}")

    with ThreadPoolExecutor(16) as threads:
        statuses = Counter(threads.map(guess, range(32)))
    assert statuses == {401: house.parts.access.sign_in_failures, 429: 32 - house.parts.access.sign_in_failures}
    house.parts.attempts = Attempts(60.0)
    assert [sign_in(robin) for _ in range(21)] == [303] * 21, "who is let in has not failed"


def test_failures_are_forgotten_after_their_window() -> None:
    moment = 0.0
    attempts = Attempts(60.0, clock=lambda: moment)
    key = ("person", "anna@here")
    attempts.failed(key)
    moment = 10.0
    attempts.failed(key)
    assert attempts.wait_s({key: 2}) == 50.0
    assert attempts.wait_s({key: 3}) == 0.0
    attempts.failed(key)
    attempts.taken_back(key, ("person", "who never failed"))
    assert attempts.wait_s({key: 2}) == 50.0
    moment = 60.5
    assert attempts.wait_s({key: 2}) == 0.0


@pytest.mark.parametrize("headers", [{}, {"origin": "http://evil.example"}, {"origin": "null"},
                                     {"sec-fetch-site": "cross-site"}])  # fmt: skip
def test_a_form_of_another_site_does_nothing(
    house: House, person: Callable[..., Person], headers: dict[str, str]
) -> None:
    otto = person("operator")
    data = {"csrf": otto.csrf}
    answer = otto.client.post("/dashboard/rounds", data=data, headers=headers, follow_redirects=False)
    assert answer.status_code == 403


@pytest.mark.parametrize("token", ["", "guess", "é"])
def test_a_form_without_the_sessions_token_does_nothing(person: Callable[..., Person], token: str) -> None:
    otto = person("operator")
    answer = otto.client.post("/dashboard/rounds", data={"csrf": token}, headers=OURS, follow_redirects=False)
    assert answer.status_code == 403
    assert "older than your sign-in" in answer.text


def test_an_invitation_is_good_once_and_for_three_days(house: House, person: Callable[..., Person]) -> None:
    anna = person("admin")
    page = anna.post("/dashboard/settings/users", name="Nina", role="annotator")
    token = page.text.partition("invitation=")[2].partition("<")[0]
    nina = person(None)
    assert "Welcome, nina" in nina.get(f"/dashboard/join?invitation={token}").text
    assert nina.post("/dashboard/join", invitation=token, password="short").status_code == 400
    assert nina.post("/dashboard/join", invitation=token, password=PASSWORD).status_code == 303
    assert nina.get("/dashboard/account").status_code == 200
    assert nina.get("/dashboard/overview").status_code == 403
    assert nina.get(f"/dashboard/join?invitation={token}").status_code == 404
    user = house.store.read(users.by_name, "nina")
    assert user is not None
    later = house.store.write(users.invite, user.user_id, at=now() - timedelta(hours=73))
    assert nina.get(f"/dashboard/join?invitation={later}").status_code == 404
    assert anna.post("/dashboard/settings/users", name="nina", role="admin").status_code == 409


def test_shutting_somebody_out_holds_at_once_and_an_admin_is_always_left(
    house: House, person: Callable[..., Person]
) -> None:
    anna, otto = person("admin"), person("operator")
    user = house.store.read(users.by_name, "a-operator")
    assert user is not None and otto.get("/dashboard/overview").status_code == 200
    path = f"/dashboard/settings/users/{user.user_id}"
    assert anna.post(path, role="annotator", revision=user.revision).status_code == 303
    assert otto.get("/dashboard/overview").status_code == 403
    stale = anna.post(path, role="operator", revision=user.revision)
    assert stale.status_code == 409 and "Somebody was first" in stale.text
    assert anna.post(path, role="annotator", disabled="true", revision=user.revision + 1).status_code == 303
    assert otto.get("/dashboard/overview").is_redirect
    admin = house.store.read(users.by_name, "a-admin")
    assert admin is not None
    last = anna.post(f"/dashboard/settings/users/{admin.user_id}", role="operator", revision=admin.revision)
    assert last.status_code == 409 and "no admin would be left" in last.text
    with pytest.raises(Conflict):
        house.store.write(
            users.change_user, admin.user_id, role="user", disabled=False, expected_revision=admin.revision
        )


def test_a_new_password_ends_every_session(house: House, person: Callable[..., Person], robin: Person) -> None:
    assert sign_in(robin) == 303
    elsewhere = person(None)
    assert sign_in(elsewhere) == 303
    session = house.store.read(sessions.find_session, robin.client.cookies[cookie_name(house.parts)])
    assert session is not None
    robin.csrf = session.csrf_token
    assert robin.post("/dashboard/account/password", present="wrong", password="new random words").status_code == 403
    assert robin.post("/dashboard/account/password", present=PASSWORD, password="new random words").status_code == 303
    assert elsewhere.get("/dashboard/account").is_redirect and robin.get("/dashboard/account").is_redirect
    robin.csrf = ""
    assert sign_in(robin, password="new random words") == 303


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "", None, "/a\nb"])
def test_signing_in_leads_to_no_other_site(path: str | None) -> None:
    assert local_path(path, "/dashboard") == "/dashboard"


def test_a_key_is_shown_once_kept_as_a_hash_and_opens_nothing_once_revoked(house: House) -> None:
    made, text = house.store.write(add_key, "export at night", ("export", "read"), "anna", days=2)
    assert text.startswith(f"tw-{made.key_id}_") and made.scopes == ("read", "export")
    dump = house.store.read(lambda connection: str(connection.exec_driver_sql("SELECT * FROM api_keys").all()))
    assert text.partition("_")[2] not in dump
    assert house.store.read(find_key, text) == made
    for wrong in (text[:-1], text + "x", text.replace("tw-", "tw_"), f"tw-{made.key_id}_" + "A" * 43, ""):
        assert house.store.read(find_key, wrong) is None
    assert house.store.read(find_key, text, at=now() + timedelta(days=3)) is None
    house.store.write(revoke_key, made.key_id)
    assert house.store.read(find_key, text) is None
    assert house.store.read(get_key, made.key_id).revoked_at is not None
    with pytest.raises(Refused, match="scopes"):
        house.store.write(add_key, "all", ("everything",), "anna")


def test_every_act_is_in_the_log_with_who_what_and_why(house: House, person: Callable[..., Person]) -> None:
    anna = person("admin")
    page = anna.post("/dashboard/settings/keys", name="nightly", scopes="read")
    text = page.text.partition("<code>")[2].partition("</code>")[0]
    key_id = text[3:15]
    client = person(None).client
    body = {"reason": "=cmd|' /C calc'!A0", "expected_live": 1}
    refused = client.post("/v1/rollback", json=body, headers={"authorization": f"Bearer {text}"})
    assert refused.status_code == 403
    assert (
        client.post("/v1/rounds", json={"force": True}, headers={"authorization": f"Bearer {ADMIN_TOKEN}"}).status_code
        == 201
    )
    assert anna.post(f"/dashboard/settings/keys/{key_id}/revoke").status_code == 303
    found = [(entry.actor, entry.action, entry.target) for entry in house.store.read(audit.entries)]
    assert found == [
        ("user:a-admin", "key.revoke", f"key {key_id}"),
        ("token", "round.start", ""),
        ("user:a-admin", "key.add", "nightly"),
    ]
