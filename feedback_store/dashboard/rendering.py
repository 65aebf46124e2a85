"""Templates into pages: Jinja2 with escaping always on, one environment a language, and the headers of every page.

Nothing that a person or a model wrote is ever marked as safe; charts escape what they are given themselves.
"""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from feedback_store.access.rules import role_of
from feedback_store.dashboard import wording
from feedback_store.dashboard.memory import Memory
from feedback_store.dashboard.routes import Entry
from feedback_store.inbox_keeper import InboxKeeper
from feedback_store.pages import SECURITY_HEADERS
from feedback_store.pages.language import LANGUAGES, NAMES, Language, catalogue

if TYPE_CHECKING:
    from feedback_store.dashboard.visit import Visit

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    **SECURITY_HEADERS,
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # no-referrer would make browsers send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Pages:
    """Renders templates. `assets` is the path of the files, `entries` the navigation, `routes` what there is."""

    headers = HEADERS

    def __init__(
        self,
        assets: str,
        entries: tuple[Entry, ...],
        routes: frozenset[str],
        notices: Mapping[str, str],
        inbox_keeper: InboxKeeper,
    ) -> None:
        self.assets, self.notices, self.inbox_keeper = assets, notices, inbox_keeper
        self.memory = Memory()
        self.entries = tuple(entry for entry in entries if f"GET {entry.path}" in routes)

    def render(self, visit: "Visit", template: str, status: int, values: Mapping[str, Any]) -> Response:
        """Answer with a template. Raises jinja2's errors for a template that names what is not there."""
        done = visit.request.query_params.get("done")
        notice = self.notices.get(done) if done else None
        text = (
            environment(visit.language)
            .get_template(template)
            .render(
                {
                    "visit": visit,
                    "assets": self.assets,
                    "language": visit.language,
                    "languages": NAMES,
                    "entries": [entry for entry in self.entries if visit.may(role_of(f"GET {entry.path}") or "user")],
                    "notice": notice,
                    "csrf": visit.session.csrf_token if visit.session else "",
                    **values,
                }
            )
        )
        return HTMLResponse(text, status, headers=dict(HEADERS))


@functools.cache
def environment(language: Language) -> Environment:
    """Return the templates of a language."""
    made = Environment(
        loader=PackageLoader("feedback_store.dashboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    assert language in LANGUAGES
    made.install_gettext_translations(catalogue(language), newstyle=True)  # type: ignore[attr-defined]
    made.filters.update(wording.filters(language))
    made.globals.update(wording.words(language))
    return made
