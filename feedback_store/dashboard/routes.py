"""How a page joins the dashboard: a module makes a `Routes`, puts its functions on it, and is named in `__init__.py`.

    routes = Routes()

    @routes.on("GET /dashboard/inbox")
    async def inbox(visit: Visit) -> Response:
        return visit.render("inbox.html", rows=await visit.read(query))

Who may use a route stands in feedback_store/access/rules.py; a route that is not there raises when the server starts.
docs/dashboard.md tells the whole story.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import Response

from feedback_store.access.roles import Role
from feedback_store.access.rules import role_of
from feedback_store.connection import Connection

if TYPE_CHECKING:
    from feedback_store.dashboard.visit import Visit

Handler = Callable[["Visit"], Awaitable[Response]]
Pulse = Callable[[Connection, str], str]
"""(connection, which one) → a short text that changes whenever what a page shows changes."""


@dataclass(slots=True)
class Routes:
    """The routes, live topics and notices of one module."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    topics: dict[str, tuple[Role, Pulse]] = field(default_factory=dict)
    notices: dict[str, str] = field(default_factory=dict)

    def on(self, route: str) -> Callable[[Handler], Handler]:
        """Register the handler of `METHOD PATH`. Raises LookupError when rules.py has no role for it."""
        role_of(route)

        def add(handler: Handler) -> Handler:
            if route in self.handlers:
                raise ValueError(f"the route {route!r} has a handler already")
            self.handlers[route] = handler
            return handler

        return add

    def topic(self, name: str, role: Role) -> Callable[[Pulse], Pulse]:
        """Register what makes `/dashboard/live/NAME` tell open pages to look again."""

        def add(pulse: Pulse) -> Pulse:
            self.topics[name] = (role, pulse)
            return pulse

        return add

    def notice(self, code: str, text: str) -> str:
        """Register the sentence shown once after an act: `visit.go(path, done=code)`. Returns the code."""
        self.notices[code] = text
        return code


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in the navigation; shown to those whose role reaches it, once its page is there."""

    path: str
    label: str
    key: str
    """`g` and then this letter leads there."""
