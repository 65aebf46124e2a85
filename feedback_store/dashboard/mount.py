"""Put the pages onto the application: sign-in, role, forged forms and errors are dealt with here, for all routes."""

import logging
from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from feedback_store.access.rules import role_of
from feedback_store.dashboard import (
    account,
    annotate,
    elsewhere,
    erase,
    home,
    inbox,
    inbox_reply,
    language,
    live,
    overview,
    people,
    rounds,
    settings,
    side_by_sides,
    sign_in,
    versions,
)
from feedback_store.dashboard.parts import DashboardParts
from feedback_store.dashboard.rendering import Pages
from feedback_store.dashboard.routes import Entry, Handler, Routes
from feedback_store.dashboard.visit import Forbidden, SignInNeeded, Visit, local_path
from feedback_store.errors import Conflict, NotFound, Refused, StoreUnavailable
from feedback_store.inbox_keeper import InboxKeeper
from feedback_store.pages import mount_assets
from feedback_store.pages.language import to_translate

Endpoint = Callable[[Request], Awaitable[Response]]
log = logging.getLogger(__name__)

MODULES = (
    home, sign_in, elsewhere, account, language, overview, inbox, inbox_reply, annotate, rounds, versions,
    side_by_sides, people, erase, settings,
)  # fmt: skip
"""Every module with pages: each has a `routes`."""

ENTRIES = (
    Entry("/dashboard/overview", to_translate("Overview"), "o"),
    Entry("/dashboard/inbox", to_translate("Inbox"), "i"),
    Entry("/dashboard/annotate", to_translate("Annotate"), "a"),
    Entry("/dashboard/rounds", to_translate("Rounds"), "r"),
    Entry("/dashboard/versions", to_translate("Versions"), "v"),
    Entry("/dashboard/people", to_translate("People"), "p"),
    Entry("/dashboard/settings", to_translate("Settings"), "s"),
)
"""The navigation, in order. An entry shows once its page is there, to those whose role reaches it."""


def mount_dashboard(app: FastAPI, parts: DashboardParts) -> None:
    """Serve the dashboard, and keep its inbox up for as long as the store is open. Call it once, after the API's routes
    are there.

    Raises LookupError for a route that rules.py does not know.
    """
    assets = mount_assets(app, "dashboard", resources.files(__package__).joinpath("assets"))
    together = Routes()
    for module in MODULES:
        together.handlers |= module.routes.handlers
        together.topics |= module.routes.topics
        together.notices |= module.routes.notices
    together.handlers |= live.routes_of(together.topics).handlers
    keeper = InboxKeeper(parts.store)
    keeper.start()
    pages = Pages(assets, ENTRIES, frozenset(together.handlers), together.notices, keeper)
    for route, handler in sorted(together.handlers.items(), key=lambda item: item[0].split(" ")[1]):
        # By path: "{" sorts after every letter, so a word is tried before a parameter at its place.
        method, path = route.split(" ")
        app.router.add_route(
            path, _endpoint(route, handler, parts, pages), [method], name=route, include_in_schema=False
        )


def _endpoint(route: str, handler: Handler, parts: DashboardParts, pages: Pages) -> Endpoint:
    role = role_of(route)

    async def answer(request: Request) -> Response:
        visit = Visit(request, parts, pages, None, "en")
        try:
            visit = await Visit.of(request, parts, pages)
            visit.guarded = role is not None
            if request.method == "POST":
                _refuse_foreign(request)
            visit.require(role)
            if request.method == "POST" and role is not None:
                await visit.fields()  # its token is compared before anything is done
            return await handler(visit)
        except SignInNeeded:
            return _sign_in_first(visit)
        except Exception as error:
            return _refusal(visit, error, route)

    return answer


def _refuse_foreign(request: Request) -> None:
    """Browsers say with every form where it stood. One that does not say so is none of ours."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    host = request.headers.get("host", "")
    if origin is not None and origin.partition("://")[2] == host:
        return
    if origin is None and site == "same-origin":
        return
    raise Forbidden("origin")


def _sign_in_first(visit: Visit) -> Response:
    if visit.request.method in ("GET", "HEAD"):
        here = visit.request.url.path
        if visit.request.url.query:
            here += f"?{visit.request.url.query}"
        return visit.go("/dashboard/sign-in", next=local_path(here, "/dashboard"))
    return visit.render("problem.html", 401, problem="signed_out", message="")


def _refusal(visit: Visit, error: Exception, route: str) -> Response:
    """Show what went wrong as a page: in words, with the way back."""
    match error:
        case Forbidden():
            return visit.render("problem.html", 403, problem="forbidden", message=str(error))
        case NotFound():
            return visit.render("problem.html", 404, problem="not_found", message=str(error))
        case Refused():
            return visit.render("problem.html", 400, problem="refused", message=str(error))
        case Conflict():
            return visit.render("problem.html", 409, problem="conflict", message=str(error))
        case StoreUnavailable():
            answer = visit.render("problem.html", 503, problem="unavailable", message="")
            answer.headers["retry-after"] = "2"
            return answer
        case _ if isinstance(error, visit.parts.conflicts):
            return visit.render("problem.html", 409, problem="conflict", message=str(error))
        case _:
            log.error("page failed route=%s", route, exc_info=error)
            return visit.render("problem.html", 500, problem="failed", message="")
