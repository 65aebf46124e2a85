"""Signing in with GitHub and Discord, against a provider on a real port that is as strict as they are."""

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from feedback_store import audit
from feedback_store.access import accounts, sessions, users
from feedback_store.access.flows import GOOD_FOR_S, Flows, cookie_text
from feedback_store.access.providers import Provider, providers_of
from feedback_store.dashboard.visit import cookie_name
from feedback_store.errors import Conflict
from feedback_store.settings import AccessSettings, DiscordSignInSettings, GithubSignInSettings
from tests.dashboard.conftest import House, Person
from tests.dashboard.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider, agree, fake_provider

pytest.importorskip("authlib", reason="the extra sign-in is not installed")
BOTH = pytest.mark.parametrize("code", ["github", "discord"])


@pytest.fixture(scope="module")
def running_provider() -> Iterator[FakeProvider]:
    with fake_provider() as provider:
        yield provider


@pytest.fixture
def provider(running_provider: FakeProvider, house: House, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """Both providers, set up at this house; the account 77 is asked to agree."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running_provider.account, running_provider.broken = {"id": 77, "login": "octo", "username": "octo"}, False
    running_provider.asked.clear()
    url = running_provider.url
    house.parts.providers = providers_of(
        GithubSignInSettings(client_id=CLIENT_ID, url=url, api_url=url), CLIENT_SECRET,
        DiscordSignInSettings(client_id=CLIENT_ID, url=url), CLIENT_SECRET,
    )  # fmt: skip
    return running_provider


def local(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def there_and_back(somebody: Person, path: str) -> httpx.Response:
    """Go to the provider, agree, and come back; returns the answer to coming back."""
    there = somebody.get(path)
    assert there.status_code == 303, there.text
    return somebody.get(local(agree(there.headers["location"])))


def hidden(page: str, name: str) -> str:
    return page.partition(f'name="{name}" value="')[2].partition('"')[0]


def signed_in_as(house: House, somebody: Person) -> str | None:
    token = somebody.client.cookies.get(cookie_name(house.parts))
    found = house.store.read(sessions.find_session, token) if token else None
    return found.user.name if found else None


def log_of(house: House, *families: str) -> list[tuple[str, str, str, dict[str, object]]]:
    lines = [(one.actor, one.action, one.target, one.details) for one in house.store.read(audit.entries)]
    return [line for line in lines if line[1].startswith(families)]


def user_id(house: House, name: str) -> int:
    found = house.store.read(users.by_name, name)
    assert found is not None
    return found.user_id


@BOTH
def test_a_linked_account_signs_its_person_in_and_leads_to_the_page_that_was_asked_for(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str
) -> None:
    person("admin")
    person("operator", "otto")
    house.store.write(accounts.link_account, user_id(house, "otto"), code, "77")
    somebody = person(None)
    assert f'href="/dashboard/sign-in/{code}?next=/dashboard"' in somebody.get("/dashboard/sign-in").text
    back = there_and_back(somebody, f"/dashboard/sign-in/{code}?next=/dashboard/rounds")
    assert (back.status_code, back.headers["location"]) == (303, "/dashboard/rounds")
    assert signed_in_as(house, somebody) == "otto"
    assert somebody.get("/dashboard/rounds").status_code == 200
    assert log_of(house, "session.") == [("user:otto", "session.begin", "", {"by": code})]


def test_the_consent_is_asked_for_with_pkce_a_state_and_no_secret(
    person: Callable[..., Person], provider: FakeProvider
) -> None:
    somebody = person(None)
    first, second = (somebody.get("/dashboard/sign-in/discord").headers["location"] for _ in range(2))
    asked, again = parse_qs(urlsplit(first).query), parse_qs(urlsplit(second).query)
    assert asked["response_type"] == ["code"] and asked["scope"] == ["identify"]
    assert asked["redirect_uri"] == ["http://127.0.0.1:8080/dashboard/sign-in/discord/back"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["state"] != again["state"] and asked["code_challenge"] != again["code_challenge"]
    assert CLIENT_SECRET not in first and "client_secret" not in first
    assert provider.asked == []  # nothing is asked by the server before the browser comes back
    assert CLIENT_SECRET not in repr(Provider("x", "X", "1", CLIENT_SECRET, "", "", "", "", ""))


@BOTH
def test_an_account_that_nobody_linked_opens_nothing_and_is_told_its_number(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str
) -> None:
    other = {"github": "discord", "discord": "github"}[code]
    person("admin", "anna")
    house.store.write(accounts.link_account, user_id(house, "anna"), other, "77")  # the same number elsewhere
    house.store.write(accounts.link_account, user_id(house, "anna"), code, "7")
    somebody = person(None)
    back = there_and_back(somebody, f"/dashboard/sign-in/{code}")
    assert back.status_code == 403 and "number 77" in back.text and "not linked" in back.text
    assert signed_in_as(house, somebody) is None
    assert len(house.store.read(users.list_users)) == 1


def test_somebody_who_is_shut_out_does_not_come_in_by_another_door(
    house: House, person: Callable[..., Person], provider: FakeProvider
) -> None:
    person("admin", "anna")
    person("operator", "otto")
    number = user_id(house, "otto")
    house.store.write(accounts.link_account, number, "github", "77")
    revision = house.store.read(users.get_user, number).revision
    house.store.write(users.change_user, number, role="operator", disabled=True, expected_revision=revision)
    assert there_and_back(person(None), "/dashboard/sign-in/github").status_code == 403


@BOTH
def test_a_state_that_is_not_this_browsers_is_refused_before_anything_is_asked(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str
) -> None:
    person("operator", "otto")
    house.store.write(accounts.link_account, user_id(house, "otto"), code, "77")
    mine, theirs, without = person(None), person(None), person(None)
    back = local(agree(theirs.get(f"/dashboard/sign-in/{code}").headers["location"]))
    mine.get(f"/dashboard/sign-in/{code}")
    other = {"github": "discord", "discord": "github"}[code]
    provider.asked.clear()
    tries = (
        mine.get(back),  # another browser's code and state: login CSRF
        without.get(back),  # no way was begun here
        theirs.get(back.replace(f"/{code}/", f"/{other}/")),  # another provider's mix-up
        mine.get(back.partition("&state=")[0]),
        mine.get(f"/dashboard/sign-in/{code}/back"),
    )
    for answer in tries:
        assert answer.status_code == 403 and "not begun in this browser" in answer.text
    assert [signed_in_as(house, one) for one in (mine, theirs, without)] == [None, None, None]
    assert provider.asked == []


@BOTH
def test_coming_back_twice_with_one_code_signs_in_once(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str
) -> None:
    person("operator", "otto")
    house.store.write(accounts.link_account, user_id(house, "otto"), code, "77")
    somebody = person(None)
    there = somebody.get(f"/dashboard/sign-in/{code}")
    way = somebody.client.cookies[f"{cookie_name(house.parts)}-way"]
    back = local(agree(there.headers["location"]))
    assert somebody.get(back).status_code == 303
    somebody.client.cookies.clear()
    somebody.client.cookies.set(f"{cookie_name(house.parts)}-way", way)  # as a thief of the browser's history would
    assert somebody.get(back).status_code == 403
    assert signed_in_as(house, somebody) is None
    # A server that has forgotten it (a restart, a second process): the provider refuses the code's second use.
    house.parts.flows = Flows(house.parts.admin_token)
    somebody.client.cookies.set(f"{cookie_name(house.parts)}-way", way)
    again = somebody.get(back)
    assert again.status_code == 403 and "did not confirm who you are" in again.text
    assert signed_in_as(house, somebody) is None


def test_a_code_without_its_verifier_is_worth_nothing(
    house: House, person: Callable[..., Person], provider: FakeProvider
) -> None:
    """A code that was caught on its way is put into the catcher's own way back: PKCE."""
    person("operator", "otto")
    house.store.write(accounts.link_account, user_id(house, "otto"), "github", "77")
    victim, catcher = person(None), person(None)
    caught = parse_qs(urlsplit(agree(victim.get("/dashboard/sign-in/github").headers["location"])).query)["code"][0]
    own = parse_qs(urlsplit(catcher.get("/dashboard/sign-in/github").headers["location"]).query)["state"][0]
    answer = catcher.get(f"/dashboard/sign-in/github/back?code={caught}&state={own}")
    assert answer.status_code == 403 and signed_in_as(house, catcher) is None


@BOTH
def test_an_account_is_linked_after_a_question_and_unlinked_and_both_stand_in_the_log(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str
) -> None:
    otto = person("operator", "otto")
    house.store.write(users.set_up_admin, "anna", "a hash")
    asked = there_and_back(otto, f"/dashboard/account/link/{code}")
    assert asked.status_code == 200 and "<strong>octo</strong>" in asked.text and "<strong>otto</strong>" in asked.text
    assert house.store.read(accounts.accounts_of) == []  # nothing before the answer
    proof = hidden(asked.text, "proof")
    assert person("operator", "olga").post("/dashboard/account/link", proof=proof).status_code == 403
    assert otto.post("/dashboard/account/link", proof=proof + "x").status_code == 403
    assert otto.post("/dashboard/account/link", proof=proof).headers["location"].endswith("done=account-linked")
    assert otto.post("/dashboard/account/link", proof=proof).status_code == 403  # once
    page = otto.get("/dashboard/account").text
    assert ">77<" in page and "Unlink" in page
    elsewhere = person(None)
    assert there_and_back(elsewhere, f"/dashboard/sign-in/{code}").status_code == 303
    last = otto.post("/dashboard/account/unlink", provider=code, subject="77")
    assert last.status_code == 409 and "only way in" in last.text  # he has no password
    house.store.write(users.set_up_admin, "otto", "a hash")
    otto = person("admin", "otto")
    assert there_and_back(elsewhere, f"/dashboard/sign-in/{code}").status_code == 303
    assert otto.post("/dashboard/account/unlink", provider=code, subject="77").status_code == 303
    assert signed_in_as(house, elsewhere) is None and signed_in_as(house, otto) == "otto"
    assert there_and_back(person(None), f"/dashboard/sign-in/{code}").status_code == 403
    named = {"provider": code, "account": "77"}
    assert log_of(house, "account.") == [
        ("user:otto", "account.unlink", "user otto", named), ("user:otto", "account.link", "user otto", named)
    ]  # fmt: skip


def test_a_way_to_link_is_of_the_session_that_began_it(
    house: House, person: Callable[..., Person], provider: FakeProvider
) -> None:
    """Somebody plants their own way into the browser of an admin: their account must not become the admin's."""
    mallory, anna = person("annotator", "mallory"), person("admin", "anna")
    back = local(agree(mallory.get("/dashboard/account/link/github").headers["location"]))
    name = f"{cookie_name(house.parts)}-way"
    anna.client.cookies.set(name, mallory.client.cookies[name])
    assert anna.get(back).status_code == 403
    assert house.store.read(accounts.accounts_of) == []


def test_one_account_is_one_person(house: House, person: Callable[..., Person], provider: FakeProvider) -> None:
    person("operator", "otto")
    house.store.write(accounts.link_account, user_id(house, "otto"), "github", "77")
    olga = person("operator", "olga")
    asked = there_and_back(olga, "/dashboard/account/link/github")
    answer = olga.post("/dashboard/account/link", proof=hidden(asked.text, "proof"))
    assert answer.status_code == 409 and "linked to otto already" in answer.text
    with pytest.raises(Conflict):
        house.store.write(accounts.link_account, user_id(house, "olga"), "github", "77")


@BOTH
def test_an_invitation_is_taken_up_with_an_account_in_place_of_a_password(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str
) -> None:
    anna = person("admin", "anna")
    page = anna.post("/dashboard/settings/users", name="nina", role="annotator").text
    invitation = page.partition("invitation=")[2].partition("<")[0]
    nina = person(None)
    assert (
        f"/dashboard/sign-in/{code}?invitation={invitation}"
        in nina.get(f"/dashboard/join?invitation={invitation}").text
    )
    asked = there_and_back(nina, f"/dashboard/sign-in/{code}?invitation={invitation}")
    assert "<strong>nina</strong>" in asked.text
    fields = {"proof": hidden(asked.text, "proof"), "invitation": invitation}
    assert person(None).post("/dashboard/join/account", **(fields | {"invitation": "another"})).status_code == 403
    assert nina.post("/dashboard/join/account", **fields).status_code == 303
    assert signed_in_as(house, nina) == "nina"
    assert there_and_back(person(None), f"/dashboard/sign-in/{code}").status_code == 303
    assert nina.get(f"/dashboard/sign-in/{code}?invitation={invitation}").status_code == 404  # good once
    assert log_of(house, "user.join")[0][3] == {"provider": code, "account": "77"}
    assert "active" in anna.get("/dashboard/settings").text


def test_an_admin_links_by_number_and_unlinks_and_the_person_is_signed_out(
    house: House, person: Callable[..., Person], provider: FakeProvider
) -> None:
    anna, otto = person("admin", "anna"), person("operator", "otto")
    path = f"/dashboard/settings/users/{user_id(house, 'otto')}"
    for wrong in ("octo", "", "7" * 21, "٧٧"):
        assert anna.post(f"{path}/link", provider="github", subject=wrong).status_code == 400
    assert anna.post(f"{path}/link", provider="gitlab", subject="77").status_code == 400
    assert anna.post(f"{path}/link", provider="github", subject="77").status_code == 303
    assert "77" in anna.get("/dashboard/settings").text
    somebody = person(None)
    assert there_and_back(somebody, "/dashboard/sign-in/github").status_code == 303
    assert anna.post(f"{path}/unlink", provider="github", subject="77").status_code == 303
    assert signed_in_as(house, somebody) is None and signed_in_as(house, otto) is None
    assert anna.post(f"{path}/unlink", provider="github", subject="77").status_code == 409
    assert [line[1:3] for line in log_of(house, "account.")] == [
        ("account.unlink", "user otto"), ("account.link", "user otto")
    ]  # fmt: skip


@BOTH
@pytest.mark.parametrize("account", [{}, {"id": None}, {"id": "octo"}, {"id": True}, {"id": ["77"]}, []])
def test_an_answer_that_names_no_account_signs_nobody_in(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str, account: object
) -> None:
    provider.account = account  # type: ignore[assignment]
    somebody = person(None)
    assert there_and_back(somebody, f"/dashboard/sign-in/{code}").status_code == 502
    assert signed_in_as(house, somebody) is None


@BOTH
def test_a_provider_that_is_away_or_a_person_who_declines_is_said_in_words(
    house: House, person: Callable[..., Person], provider: FakeProvider, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    somebody = person(None)
    back = local(agree(somebody.get(f"/dashboard/sign-in/{code}").headers["location"]))
    provider.broken = True
    away = somebody.get(back)
    assert away.status_code == 502 and "Please try again later" in away.text
    state = parse_qs(urlsplit(somebody.get(f"/dashboard/sign-in/{code}").headers["location"]).query)["state"][0]
    declined = somebody.get(f"/dashboard/sign-in/{code}/back?error=access_denied&state={state}")
    assert declined.status_code == 403 and "nothing was done" in declined.text
    assert CLIENT_SECRET not in caplog.text and "octo" not in caplog.text and "77" not in caplog.text


def test_guessing_has_to_wait(house: House, person: Callable[..., Person], provider: FakeProvider) -> None:
    house.parts.access = AccessSettings(sign_in_failures=1)
    somebody = person(None)
    found = [somebody.get("/dashboard/sign-in/github/back?code=x&state=y").status_code for _ in range(5)]
    assert found == [403, 403, 403, 403, 429]


def test_without_a_client_id_there_is_no_door_and_no_button(house: House, person: Callable[..., Person]) -> None:
    assert house.parts.providers == {}
    assert providers_of(GithubSignInSettings(), None, DiscordSignInSettings(client_id="1"), None) == {}
    nobody, otto = person(None), person("operator")
    person("admin")
    assert "GitHub" not in nobody.get("/dashboard/sign-in").text
    for path in ("sign-in/github", "sign-in/github/back?code=x&state=y", "sign-in/discord"):
        assert nobody.get(f"/dashboard/{path}").status_code == 404
    assert otto.get("/dashboard/account/link/github").status_code == 404
    assert "Accounts that sign you in" not in otto.get("/dashboard/account").text


def test_the_way_is_kept_where_no_script_and_no_other_host_reaches_it(
    house: House, person: Callable[..., Person], provider: FakeProvider
) -> None:
    house.parts.access = AccessSettings(behind_tls=True)
    answer = person(None).get("/dashboard/sign-in/github")
    cookie = answer.headers["set-cookie"].lower().replace(" ", "")
    assert cookie.startswith("__host-thumbwise-way=")
    assert {"httponly", "secure", "samesite=lax", "path=/", "max-age=600"} <= set(cookie.split(";"))
    assert parse_qs(urlsplit(answer.headers["location"]).query)["redirect_uri"][0].startswith("https://")


def test_a_way_ends_after_ten_minutes_and_one_that_was_changed_is_none() -> None:
    moment = 1_000.0
    flows = Flows("a secret", clock=lambda: moment)
    for text in ("", "x", "é", "e30", "[" * 2000, "A" * 4000):
        assert flows.take(text, "", lambda flow: "") is None
    flow = flows.begin("github", "sign-in")
    state = flows.state(flow, "")
    assert Flows("another secret").take(cookie_text(flow), state, lambda flow: "") is None
    assert Flows("").state(flow, "") != Flows("").state(flow, "")  # without a secret each server has its own
    changed = cookie_text(flows.begin("github", "link"))
    assert flows.take(changed, state, lambda flow: "") is None
    moment += GOOD_FOR_S
    assert flows.take(cookie_text(flow), state, lambda flow: "") is None
    moment -= 1
    assert flows.take(cookie_text(flow), state, lambda flow: "") == flow
    assert flows.take(cookie_text(flow), state, lambda flow: "") is None
