"""People come in by set-up, sign-in and invitation, in a real browser, and see what their role may see."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.web.parts import Site, Watch, check_page
from tests.web.running import ADMIN_TOKEN

pytestmark = pytest.mark.browser

PASSWORD = "four words of the tests"


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_the_admin_token_makes_the_first_admin_who_then_signs_in_with_a_password(
    open_page: Callable[..., Page], watch: Watch
) -> None:
    watch.allowed += ["403", "401"]
    page = open_page("/dashboard/set-up", viewport={"width": 1280, "height": 800})
    check_page(page)
    page.get_by_label("Admin token").fill("a guess")
    page.get_by_label("Name").fill("Robin")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the admin token.")
    expect(page.get_by_label("Name")).to_have_value("Robin")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("You are signed in")
    page.keyboard.press("m")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    sign_in(page, "robin", "not the password")
    expect(page.get_by_role("alert")).to_have_text("This name and password do not belong together.")
    check_page(page)
    sign_in(page, "robin")
    expect(page.locator("#menu summary")).to_contain_text("robin")


def test_signing_in_leads_back_to_the_page_that_was_asked_for(open_as: Callable[..., Page], site: Site) -> None:
    page = open_as("operator", "/dashboard/account")
    page.context.clear_cookies()
    page.goto(site.url + "/dashboard/account?x=1")
    expect(page).to_have_url(site.url + "/dashboard/sign-in?next=%2Fdashboard%2Faccount%3Fx%3D1")


def test_a_role_sees_its_own_entries_and_is_told_what_it_may_not(open_as: Callable[..., Page], watch: Watch) -> None:
    watch.allowed.append("403")
    page = open_as("user", "/dashboard/overview")
    expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()
    expect(page.get_by_text("operator")).to_be_visible()
    check_page(page)


def test_keys_go_to_pages_and_list_themselves(open_as: Callable[..., Page]) -> None:
    page = open_as("operator", "/dashboard/account")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Overview")
    check_page(page)
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
