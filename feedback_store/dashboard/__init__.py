"""The dashboard: pages drawn on the server at `/dashboard`, live by server-sent events, for people who signed in.

Decisions: HTML from Jinja2 and forms that work without a script; small scripts of our own add the rest (a page that
looks again when something happened, keys, reading a chart by pointer), so there is no third-party code in the browser,
no build step and nothing to fetch. Charts are SVG drawn here, with their numbers in a table beside them. The policy of
every page lets nothing in from elsewhere, no inline script or style, and no text become markup (Trusted Types).

How to add a page: docs/dashboard.md. Who may use which route: feedback_store/access/rules.py.
"""

from feedback_store.dashboard.mount import mount_dashboard
from feedback_store.dashboard.parts import DashboardParts

__all__ = ["DashboardParts", "mount_dashboard"]
