"""`/dashboard`: to the first page that this person may see."""

from starlette.responses import Response

from feedback_store.access.rules import role_of
from feedback_store.access.users import is_set_up
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import NotFound

routes = Routes()


@routes.on("GET /dashboard")
async def home(visit: Visit) -> Response:
    """Lead on: to set-up while nobody is admin, to sign-in, or to the first entry of the navigation."""
    if visit.session is None:
        return visit.go("/dashboard/sign-in" if await visit.read(is_set_up) else "/dashboard/set-up")
    for entry in visit.pages.entries:
        if visit.may(role_of(f"GET {entry.path}") or "user"):
            return visit.go(entry.path, done=visit.request.query_params.get("done"))
    return visit.go("/dashboard/account")


@routes.on("GET /dashboard/{path:path}")
async def nothing_here(visit: Visit) -> Response:
    """Answer what no other route takes with a page, not with the API's JSON."""
    raise NotFound("no such page")
