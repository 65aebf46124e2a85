"""Nothing that a person or a model writes can become markup, and the pages load nothing from anywhere else."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect

from tests.web.parts import Site, Watch, agree, say

pytestmark = pytest.mark.browser

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<svg/onload=alert(3)>",
    "<a href='javascript:alert(4)'>click</a>",
    "[click](javascript:alert(5)) ![x](https://example.com/x.png)",
    "**<b onclick=alert(6)>bold</b>** `<i>code</i>`",
    "# <iframe srcdoc='<script>alert(7)</script>'></iframe>",
    "- <style>body{display:none}</style>",
    "</p></li></ol><form action=https://example.com><input name=q></form>",
    "\u202e right to left zero &lt;script&gt; {{7*7}} ${alert(8)}",
)


def test_hostile_text_stays_text(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    agree(page)
    text = "\n\n".join((*HOSTILE, "```html", *HOSTILE, "```"))
    say(page, "echo: " + text)
    prose = page.locator(".assistant .prose")
    allowed = {"P", "UL", "OL", "LI", "PRE", "CODE", "STRONG", "EM", "BR"}
    found = prose.evaluate("node => [...new Set([...node.querySelectorAll('*')].map(child => child.tagName))]")
    assert set(found) <= allowed
    attributes = prose.evaluate("node => [...node.querySelectorAll('*')].flatMap(child => child.getAttributeNames())")
    assert set(attributes) <= {"class", "tabindex", "role", "aria-label"}
    for piece in ("<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "javascript:alert(5)"):
        expect(prose).to_contain_text(piece)
    expect(page.locator(".said")).to_contain_text(HOSTILE[0])
    # The same text as a correction, a note, a history entry, and after a reload.
    page.get_by_role("button", name="Write a better answer").click()
    page.get_by_label("Your better answer").fill(text)
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".corrected")).to_contain_text(HOSTILE[0])
    page.reload()
    page.locator("#history button").click()
    expect(page.locator(".corrected")).to_contain_text(HOSTILE[1])
    assert page.locator("body script, iframe, body form[action], body a[href^='javascript']").count() == 0


@pytest.mark.parametrize("path", ["/", "/dashboard/sign-in"])
def test_a_page_may_load_nothing_but_its_own_files(
    open_page: Callable[..., Page], site: Site, watch: Watch, path: str
) -> None:
    page = open_page(path)
    answer = page.request.get(site.url + path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["cache-control"] == "no-store"
    # Were a sink for markup used after all, the browser would refuse the text.
    watch.allowed += ["TrustedHTML", "Trusted Type"]
    with pytest.raises(PlaywrightError, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")


@pytest.mark.parametrize("path", ["/", "/dashboard/sign-in"])
def test_every_file_of_a_page_is_served_with_its_type_and_may_be_kept(
    open_page: Callable[..., Page], watch: Watch, path: str
) -> None:
    page = open_page(path)
    page.wait_for_load_state("networkidle")
    loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    files = [name for name in loaded if "/assets/" in name]
    assert len(files) >= 5
    for file in files:
        answer = page.request.get(file)
        assert answer.ok and "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.request.get(files[0].rsplit("/", 1)[0] + "/settings.py").status == 404
