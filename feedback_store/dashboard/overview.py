"""Overview: how the loop is doing."""

from starlette.responses import Response

from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit

routes = Routes()


@routes.on("GET /dashboard/overview")
async def overview(visit: Visit) -> Response:
    """Show what is live."""
    return visit.render("overview.html")
