"""The operators' dashboard: a page of ours at `/dashboard` over the public `/v1` API.

Decisions: the page itself is public (it holds no data); every number comes through an admin route with the token that
the operator types, kept for the tab only. The address after `#` is the view, so a round's page can be linked.
"""

from importlib import resources

from fastapi import FastAPI

from feedback_store.pages import mount_page


def mount_dashboard(app: FastAPI) -> None:
    """Serve the dashboard at `/dashboard`. Call it once, after the API's routes are there."""
    mount_page(app, "/dashboard", "dashboard", resources.files(__name__), {})
