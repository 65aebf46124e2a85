"""Accounts elsewhere and erasing a person, in a real browser: the way over another site and back, and typing to
confirm."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from feedback_store.access import users
from feedback_store.access.providers import providers_of
from feedback_store.raters import get_rater
from feedback_store.settings import DiscordSignInSettings, GithubSignInSettings
from tests.dashboard.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider, fake_provider
from tests.web.parts import Site, Watch, check_page
from tests.web.rated import Rated

pytestmark = pytest.mark.browser


@pytest.fixture
def provider(site: Site, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    pytest.importorskip("authlib", reason="the extra sign-in is not installed")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if site.store.read(users.by_name, "anna") is None:
        site.store.write(users.add_user, "anna", "admin")
    with fake_provider() as provider:
        watch.allowed.append(f"foreign: {provider.url}/")
        provider.account["id"] = 4242
        site.parts.providers = providers_of(
            GithubSignInSettings(client_id=CLIENT_ID, url=provider.url, api_url=provider.url), CLIENT_SECRET,
            DiscordSignInSettings(client_id=CLIENT_ID, url=provider.url), CLIENT_SECRET,
        )  # fmt: skip
        yield provider
    site.parts.providers = {}


def test_an_account_is_linked_signs_in_and_is_unlinked(
    provider: FakeProvider, site: Site, open_as: Callable[..., Page], open_page: Callable[..., Page], watch: Watch
) -> None:
    watch.allowed.append("403")
    otto = open_as("operator", "/dashboard/account")
    otto.get_by_role("link", name="Link a GitHub account").click()
    expect(otto.get_by_role("heading", name="Really this account?")).to_be_visible()
    check_page(otto)
    otto.get_by_role("button", name="Link it").click()
    expect(otto.get_by_role("status")).to_have_text("From now on this account signs you in.")
    expect(otto.get_by_role("region", name="Accounts that sign you in")).to_contain_text("4242")
    check_page(otto)

    somebody = open_page("/dashboard/sign-in?next=/dashboard/rounds", viewport={"width": 390, "height": 800})
    check_page(somebody)
    somebody.get_by_role("link", name="Sign in with Discord").click()
    expect(somebody.get_by_role("alert")).to_contain_text("number 4242")
    check_page(somebody)
    somebody.get_by_role("link", name="Sign in with GitHub").click()
    expect(somebody.get_by_role("heading", name="Rounds", exact=True)).to_be_visible()

    anna = open_as("admin", "/dashboard/settings")
    number = site.store.read(users.by_name, "otto").user_id
    anna.locator(f"#user-{number} summary").click()
    expect(anna.locator(f"#user-{number}")).to_contain_text("4242")
    check_page(anna)
    anna.locator(f"#user-{number}").get_by_role("button", name="Unlink").click()
    expect(anna.get_by_role("status")).to_contain_text("It holds from their next click on.")
    somebody.reload()
    expect(somebody.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_operator_erases_a_person_after_seeing_what_that_is_and_typing(
    site: Site, open_as: Callable[..., Page], watch: Watch
) -> None:
    watch.allowed += ["400", "404"]
    rated = Rated(site, "erased")
    rated.thumb(rated.reply("a", "What is a wombat?", "A marsupial.", rater_id=rated.raters[0]), "up")
    page = open_as("operator", f"/dashboard/people/{rated.raters[0]}")
    page.get_by_role("link", name="Erase this person").click()
    expect(page.locator(".figure", has_text="Acts")).to_contain_text("1")
    expect(page.get_by_text("No version was trained on anything of this person.")).to_be_visible()
    check_page(page)
    page.get_by_label("To confirm").fill("something")
    page.get_by_role("button", name="Erase this person").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was erased")
    assert site.store.read(get_rater, rated.raters[0]) is not None
    page.get_by_label("To confirm").fill(rated.raters[0][:8])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="A person was erased")).to_be_visible()
    check_page(page)
    assert site.store.read(get_rater, rated.raters[0]) is None
    page.get_by_role("link", name="To People").click()
    page.get_by_role("heading", name="People", exact=True).wait_for()
    page.locator("html[data-script]").wait_for()
    page.keyboard.press("e")
    page.get_by_label("Their id here").fill(rated.raters[0])
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Nobody has this id")
    check_page(page)
